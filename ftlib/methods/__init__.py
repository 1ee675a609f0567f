"""One file per family of METHODS; each has a function that prepares a model."""
