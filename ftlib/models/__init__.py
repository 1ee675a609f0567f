"""Base models: weights, prompts, inference."""
