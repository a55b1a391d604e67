"""Comparisons: which arms are trained, how often, and what the results say."""
