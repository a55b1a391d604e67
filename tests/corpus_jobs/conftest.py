"""A run that ends after any of its renames."""

import os
import types

import pytest
import tensorflow as tf


@pytest.fixture
def renames(monkeypatch):
    """Has `left`, which each rename lowers by one; the run is interrupted after that to 0."""
    state = types.SimpleNamespace(left=0)

    def stopping(real):
        def rename(*arguments, **named):
            real(*arguments, **named)
            state.left -= 1
            if state.left == 0:
                raise KeyboardInterrupt

        return rename

    monkeypatch.setattr(tf.io.gfile, "rename", stopping(tf.io.gfile.rename))
    monkeypatch.setattr(os, "replace", stopping(os.replace))  # of JSON and score files
    return state
