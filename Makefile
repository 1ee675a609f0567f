# Every command sets up what it needs; nothing but Python 3.11 has to be there. Without make: python bootstrap.py demo
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)

.PHONY: demo test test-all bench lint pictures recorded lab setup
demo test test-all bench lint pictures recorded lab setup:
	@$(PYTHON) bootstrap.py $@
