"""Models built without their weights: shapes and parameter counts of any size on a laptop."""

from collections.abc import Callable, Iterator
import contextlib

import keras
from keras.src.backend.common import global_state

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
