"""Models, trainers and populations that hold no weights, for tracing and counting.

A program is lowered from shapes. Where the code of a trainer reads its state from arguments, the
model behind it is only a structure (`build_abstract`), and its arguments are `tf.TensorSpec`s.
Where it reads and assigns variables, as Keras does, the variables are real but share one tensor of
zeros for each shape, so that a model with its optimizer costs no more than one weight of each.
"""

from collections.abc import Callable, Iterator
import contextlib

import keras
from keras.src.backend.common import global_state
import tensorflow as tf

from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.pytrees import tensor_bytes

# Where Keras lists the variables to which the end of the next stateless scope gives values.
_TO_INITIALISE = "uninitialized_variables"


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Within it, Keras variables are made without values, and nobody gives them any later."""
    before = list(global_state.get_global_attribute(_TO_INITIALISE) or [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        # Left in the list, they would be allocated by the next `stateless_call` of any model.
        global_state.set_global_attribute(_TO_INITIALISE, before)


def build_abstract(constructor: Callable[[], keras.Model]) -> keras.Model:
    """The model that `constructor` builds, its variables known by shape only.

    Nothing of the size of the weights is allocated. The model can be asked for its inputs, outputs
    and `count_params()`, and `stateless_call` takes values for its variables; it has none itself.
    """
    with without_values():
        return constructor()


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


def spec(value) -> tf.TensorSpec:
    """Shape and dtype of a tensor or variable."""
    return tf.TensorSpec(tuple(value.shape), tf.as_dtype(value.dtype))


def specs(values) -> list[tf.TensorSpec]:
    return [spec(value) for value in values]
