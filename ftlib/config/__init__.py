"""What may be asked, and everything that can be wrong with it, all at once."""
