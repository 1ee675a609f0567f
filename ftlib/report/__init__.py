"""A study in, a page that a person acts on out."""
