"""Files of Keras weights: loaded so that what does not fit is said, and how many values they hold.

Keras says nothing of values that it has no use for.
"""

import math
import os
import re

import h5py
import keras

from dr_keras.errors import ConfigurationError

# Floating types by what HDF5 makes of them: it has none for bfloat16.
_FLOATING = "fV"

# Of what Keras says: which weight does not fit, and how.
_MISFIT = re.compile(
    r"variable\.shape=(\([^)]*\)), Received: value\.shape=(\([^)]*\))\. Target variable: <Variable"
    r" path=([^,]+),",
    re.S,
)


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


def load_weights(model: keras.Model, path: str, setting: str) -> None:
    """`model.load_weights`, which says what does not fit.

    Args:
      setting: that names the file, for messages.

    Raises:
      ConfigurationError: a damaged file, or one of another model, with the weight that differs.
    """
    remedy = (
        "the file must come from a model with the settings of the inner model (INNER_MODEL); Keras"
        " names layers by their order"
    )
    try:
        found = values_in(path)
        model.load_weights(path)
    except OSError as error:
        raise ConfigurationError(
            f"{setting}: {path} cannot be read as Keras weights ({error})."
        ) from error
    except (ValueError, LookupError, RuntimeError, TypeError) as error:
        shapes = _MISFIT.search(str(error))
        what = (
            f"the weight {shapes[3]} has shape {shapes[1]} and the file's has {shapes[2]}"
            if shapes
            else " ".join(str(error).split()).partition(" List of objects")[0][:300]
        )
        raise ConfigurationError(
            f"{setting}: {path} does not fit the inner model '{model.name}': {what}; {remedy}."
        ) from error
    size = values_saved(model)
    if found != size:
        raise ConfigurationError(
            f"{setting}: {path} holds {found:,} values and the inner model '{model.name}' has"
            f" {size:,}: it is of another model; {remedy}."
        )
