"""Trained models as predictors, one library a file: fit, export to a format without code, load, predict."""
