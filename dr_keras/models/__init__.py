"""Keras models: language models, raters, and their per-example losses."""
