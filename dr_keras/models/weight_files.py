"""How many values a file of Keras weights holds: Keras says nothing of those it has no use for."""

import math
import os

import h5py
import keras

# Floating types by what HDF5 makes of them: it has none for bfloat16.
_FLOATING = "fV"


def values_in(path: str | os.PathLike) -> int:
    """Floating values in a file that `save_weights` wrote; it may hold seeds of dropout as well.

    Raises:
      OSError: it is no HDF5 file, or a damaged one.
    """
    sizes: list[int] = []

    def look(_, node) -> None:
        if isinstance(node, h5py.Dataset) and node.dtype.kind in _FLOATING:
            sizes.append(node.size)

    with h5py.File(path) as file:
        file.visititems(look)
    return sum(sizes)


def values_saved(model: keras.Model) -> int:
    """Floating values that `save_weights` writes of a model."""
    return sum(math.prod(v.shape) for v in model.variables if "float" in str(v.dtype))
