"""Models, trainers and populations that hold no weights, for tracing and counting.

A program is lowered from shapes. Where the code of a trainer reads its state from arguments, the
model behind it is only a structure (`build_abstract`), and its arguments are `tf.TensorSpec`s.
Where it reads and assigns variables, as Keras does, the variables are real but share one tensor of
zeros for each shape, so that a model with its optimizer costs no more than one weight of each.
"""

from collections.abc import Callable
import math

import keras
import tensorflow as tf

from dr_keras.meta.devices.placement import OneDevice
from dr_keras.models.abstract import build_abstract


class SharedZeros:
    """One tensor of zeros for each shape and dtype, and variables that hold it."""

    def __init__(self):
        self._zeros: dict[tuple, tf.Tensor] = {}

    def initialise(self, variables: list) -> None:
        """Gives Keras variables without a value zeros, which are copied only when assigned."""
        for variable in variables:
            if variable._value is None:
                variable._initialize(self._zero(tuple(variable.shape), variable.dtype))

    def model(self, constructor: Callable[[], keras.Model]) -> keras.Model:
        """The model that `constructor` builds, its variables sharing their values."""
        model = build_abstract(constructor)
        self.initialise(model.variables)
        return model

    @property
    def bytes(self) -> int:
        """What all of them together hold."""
        return sum(tensor_bytes(zero) for zero in self._zeros.values())

    def _zero(self, shape: tuple, dtype: str) -> tf.Tensor:
        if (shape, dtype) not in self._zeros:
            self._zeros[shape, dtype] = tf.zeros(shape, dtype)
        return self._zeros[shape, dtype]


class NoMembers(OneDevice):
    """A placement that holds no members, whatever the size of the population."""

    def hold(self, size, build):
        del size
        return super().hold(0, build)


def tensor_bytes(tensor) -> int:
    """Bytes of a tensor, variable or spec of static shape."""
    return math.prod(tensor.shape) * tf.as_dtype(tensor.dtype).size


def tree_bytes(tree) -> int:
    """Bytes of all leaves."""
    return sum(tensor_bytes(leaf) for leaf in tf.nest.flatten(tree))


def spec(value) -> tf.TensorSpec:
    """Shape and dtype of a tensor or variable."""
    return tf.TensorSpec(tuple(value.shape), tf.as_dtype(value.dtype))


def specs(values) -> list[tf.TensorSpec]:
    return [spec(value) for value in values]
