"""Where runs execute. The unit of work is the idempotent command `ftlib run-one RUN_DIR`, so anything can call it."""
