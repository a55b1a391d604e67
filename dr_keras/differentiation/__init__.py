"""Derivatives that TensorFlow lacks or gets wrong; knows nothing of models or meta-training."""
