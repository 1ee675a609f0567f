"""TASKS and what they are read from."""
