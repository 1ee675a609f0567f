"""The one training loop and what may be added to it."""
