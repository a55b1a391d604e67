"""Which estimator a trainer takes where nobody names one, and a word where another is far quicker.

On XLA:CPU a convolution inside a loop misses the fast path, because the compiler brings into the
form which that needs only what lies at the top level: the estimators with loops take 12 to 22 times
a plain training step there, `NestedTape` 2 times (docs/meta_gradients.md, "Convolutions").
"""

import logging
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from dr_keras.meta.estimators.nested_tape import NestedTape
from dr_keras.meta.estimators.unroll import LoopedUnroll

if TYPE_CHECKING:
    from dr_keras.meta.estimators import Estimator

_CONVOLUTIONS = (
    keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D,
    keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D, keras.layers.SeparableConv2D,
)  # fmt: skip


def has_convolutions(model: keras.Model) -> bool:
    """Whether a layer of Keras' convolutions is anywhere in a model."""
    return any(isinstance(layer, _CONVOLUTIONS) for layer in model._flatten_layers())


def estimator_for(
    estimator: "Estimator | None", inner_model: keras.Model, jit_compile: bool
) -> "Estimator":
    """The estimator that a user named, else `NestedTape`; logs a loop over convolutions on a CPU.

    Memory may be why somebody wants loops all the same, so that what was named stays.

    Args:
      estimator: as `MetaTrainer` is given it.
      inner_model: built.
      jit_compile: whether XLA compiles the meta-step.
    """
    if estimator is None:
        return NestedTape()
    on_cpu = all(device.device_type == "CPU" for device in tf.config.list_physical_devices())
    if isinstance(estimator, LoopedUnroll) and jit_compile and on_cpu:
        if has_convolutions(inner_model):
            logging.getLogger(__name__).warning(
                "The inner model '%s' has convolutions, which are slow inside XLA's loops on a CPU:"
                " a meta-step by %s takes 12 to 22 times as long as a plain training step, and by"
                " NestedTape 2 times. Unless memory forbids it, leave MetaTrainer.estimator out or"
                " set it to @NestedTape().",
                inner_model.name,
                type(estimator).__name__,
            )
    return estimator
