"""Gradients of two XLA ops that the meta-gradient meets and TensorFlow does not register.

While a function is traced under `jit_compile=True`, the gradients of slices and of `tf.concat`
are written as XlaDynamicSlice and XlaDynamicUpdateSlice. Their own gradients are missing, so that
a second derivative through a model with a slice (position embeddings, rotary embeddings) ends in
a LookupError. Importing this module registers them; a second import does nothing.
"""

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops
from tensorflow.python.framework import ops as framework_ops


def _dynamic_slice_gradient(op, upstream):
    operand, start = op.inputs[0], op.inputs[1]
    gradient = gen_xla_ops.xla_dynamic_update_slice(tf.zeros_like(operand), upstream, start)
    return gradient, None, None


def _dynamic_update_slice_gradient(op, upstream):
    update, start = op.inputs[1], op.inputs[2]
    operand_gradient = gen_xla_ops.xla_dynamic_update_slice(upstream, tf.zeros_like(update), start)
    size = tf.shape(update, out_type=start.dtype)
    return operand_gradient, gen_xla_ops.xla_dynamic_slice(upstream, start, size), None


def register() -> None:
    """Registers both gradients where TensorFlow has none yet."""
    for name, function in (
        ("XlaDynamicSlice", _dynamic_slice_gradient),
        ("XlaDynamicUpdateSlice", _dynamic_update_slice_gradient),
    ):
        try:
            framework_ops.gradient_registry.lookup(name)
        except LookupError:
            tf.RegisterGradient(name)(function)


register()
