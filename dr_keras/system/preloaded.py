"""Importing this imports TensorFlow, without what it prints: what `processes` loads."""

from dr_keras.system.progress import hidden_errors

with hidden_errors(shown_if_failed=True):
    import tensorflow  # noqa: F401
