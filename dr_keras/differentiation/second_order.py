"""Second derivatives that TensorFlow gets wrong, put right while an inner model is called.

`tf.nn.moments` computes the variance around `tf.stop_gradient(mean)`. The first derivative is
right, because the term it leaves out is zero; the second is not: the Hessian of the variance loses
-2/n^2 in every entry. Keras' LayerNormalization, GroupNormalization and BatchNormalization all go
through it, keras_hub's transformer blocks with them, and a meta-gradient through them is off by
anything from a fraction of a percent to its sign.
"""

from collections.abc import Iterator
import contextlib
import threading

import tensorflow as tf

_lock = threading.Lock()
_inside = 0
_original = tf.nn.moments


def moments(x, axes, shift=None, keepdims=False, name=None):
    """`tf.nn.moments`, same arguments and values, right at any order of differentiation."""
    del shift  # unused by TensorFlow as well
    with tf.name_scope(name or "exact_moments"):
        values = tf.cast(x, tf.float32) if x.dtype == tf.float16 else tf.convert_to_tensor(x)
        mean = tf.reduce_mean(values, axes, keepdims=True)
        variance = tf.reduce_mean(tf.square(values - mean), axes, keepdims=True)
        if not keepdims:
            mean, variance = tf.squeeze(mean, axes), tf.squeeze(variance, axes)
        return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)


@contextlib.contextmanager
def exact_moments() -> Iterator[None]:
    """Inside, `tf.nn.moments` is this module's; layers look it up whenever they are called."""
    global _inside
    with _lock:
        _inside += 1
        tf.nn.moments = moments
    try:
        yield
    finally:
        with _lock:  # replicas trace in threads: the last one out puts it back
            _inside -= 1
            if not _inside:
                tf.nn.moments = _original
