"""What a study will cost, and what cannot be run here, found out before it starts."""
