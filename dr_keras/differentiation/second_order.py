"""Second derivatives that TensorFlow gets wrong or lacks, put right.

`tf.nn.moments` computes the variance around `tf.stop_gradient(mean)`. The first derivative is
right, because the term it leaves out is zero; the second is not: the Hessian of the variance loses
-2/n^2 in every entry. Keras' LayerNormalization, GroupNormalization and BatchNormalization all go
through it, keras_hub's transformer blocks with them, and a meta-gradient through them is off by
anything from a fraction of a percent to its sign. `exact_moments` is right while an inner model is
called.

While a function is traced under `jit_compile=True`, the gradients of slices and of `tf.concat` are
written as XlaDynamicSlice and XlaDynamicUpdateSlice. Their own gradients are missing, so that a
second derivative through a model with a slice (position embeddings, rotary embeddings) ends in a
LookupError. Importing this module registers them.
"""

from collections.abc import Iterator
import contextlib
import threading

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.framework import ops as framework_ops

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


def _dynamic_slice_gradient(op, upstream):
    operand, start = op.inputs[0], op.inputs[1]
    gradient = gen_xla_ops.xla_dynamic_update_slice(tf.zeros_like(operand), upstream, start)
    return gradient, None, None


def _dynamic_update_slice_gradient(op, upstream):
    update, start = op.inputs[1], op.inputs[2]
    operand_gradient = gen_xla_ops.xla_dynamic_update_slice(upstream, tf.zeros_like(update), start)
    size = tf.shape(update, out_type=start.dtype)
    return operand_gradient, gen_xla_ops.xla_dynamic_slice(upstream, start, size), None


def _register() -> None:
    """Registers both gradients where TensorFlow has none yet."""
    for name, function in (
        ("XlaDynamicSlice", _dynamic_slice_gradient),
        ("XlaDynamicUpdateSlice", _dynamic_update_slice_gradient),
    ):
        try:
            framework_ops.gradient_registry.lookup(name)
        except LookupError:
            tf.RegisterGradient(name)(function)


_register()
