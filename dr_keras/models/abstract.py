"""Models built without their weights: shapes and parameter counts of any size on a laptop."""

from collections.abc import Callable

import keras


def build_abstract(constructor: Callable[[], keras.Model]) -> keras.Model:
    """The model that `constructor` builds, its variables known by shape only.

    Nothing of the size of the weights is allocated. The model can be asked for its inputs, outputs
    and `count_params()`; it cannot be called.
    """
    with keras.StatelessScope(initialize_variables=False):
        return constructor()
