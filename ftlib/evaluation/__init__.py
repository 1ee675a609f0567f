"""A predictor in, the metrics of everything a study measures out."""
