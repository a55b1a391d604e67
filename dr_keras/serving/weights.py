"""The weights of an exported rater, by name, for a rater that goes on from where it stands.

They are read as data: nothing of the exported program runs, so nobody need be trusted with it.
"""

from collections.abc import Iterable
import os

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from dr_keras.errors import ArtefactError, CheckpointError
from dr_keras.serving import folder
from dr_keras.serving.loading import find_version

_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_MOST_NAMES = 5


def is_exported(path: str | os.PathLike) -> bool:
    """Whether there is an exported rater, or versions of one; also by the name of a shipped one."""
    try:
        directory = find_version(os.fspath(path))
    except ArtefactError:
        return False
    return folder.what_is(os.path.join(directory, folder.FILE_NAME)) != folder.NOTHING


def exported_weights(path: str | os.PathLike) -> list[tuple[str, np.ndarray]]:
    """(name, values) of all weights of an exported rater, by name.

    Args:
      path: as of `load_rater`.

    Raises:
      ArtefactError: it is no exported rater, or a damaged one.
      CheckpointError: it carries a reference model, whose weights may have the same names.
    """
    directory = find_version(os.fspath(path))
    if folder.read(directory).get("features"):
        raise CheckpointError(
            f"{directory} carries a reference model beside the rater, and their weights cannot be"
            " told apart by name: name the base_dir of the rater's run, or a file of its weights."
        )
    try:
        reader = tf.train.load_checkpoint(os.path.join(directory, "variables", "variables"))
        graph = trackable_object_graph_pb2.TrackableObjectGraph()
        graph.ParseFromString(reader.get_tensor(_OBJECTS))
        saved = [one for node in graph.nodes for one in node.attributes if one.full_name]
        keys = {one.checkpoint_key: one.full_name for one in saved}
        return [(name, reader.get_tensor(k)) for name, k in sorted((n, k) for k, n in keys.items())]
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ArtefactError(
            f"The weights of {directory} cannot be read ({error}): copy or export the rater again."
        ) from error


def load_exported_weights(rater: keras.Model, path: str | os.PathLike) -> None:
    """Gives a rater the weights of an exported one, found by name and shape.

    Numbers that Keras adds to the names of layers without one ("dense_3") count by their order.

    Raises:
      ArtefactError: it is no exported rater, or a damaged one.
      CheckpointError: the weights do not fit; it says which.
    """
    saved = exported_weights(path)
    # Seeds of dropout decide nothing about a score, so that exported raters have none.
    wanted = [v for v in rater.variables if "float" in str(v.dtype)]
    values = dict(zip(canonical_names(name for name, _ in saved), saved))
    targets = dict(zip(canonical_names(v.path for v in wanted), wanted))
    missing = [variable.path for name, variable in targets.items() if name not in values]
    unknown = [name for key, (name, _) in values.items() if key not in targets]
    differ = [
        f"{variable.path} is {tuple(variable.shape)}, exported {values[name][1].shape}"
        for name, variable in targets.items()
        if name in values and tuple(variable.shape) != values[name][1].shape
    ]
    told = {
        "the exported rater has no": missing,
        "this rater has no": unknown,
        "shapes differ:": differ,
    }
    wrong = "; ".join(f"{what} {_few(names)}" for what, names in told.items() if names)
    if wrong:
        raise CheckpointError(
            f"The exported rater {path} is of another architecture than '{rater.name}': {wrong}."
            " Build the rater with the settings in its rater.json (training.gin_config), or start"
            " from another one."
        )
    for name, variable in targets.items():
        variable.assign(values[name][1])


def canonical_names(names: Iterable[str]) -> list[str]:
    """Names of weights whose numbers say no more than their order, alike in any process.

    ["dense_7/kernel", "dense_9/kernel"] and ["dense/kernel", "dense_1/kernel"] become the same.
    """
    parts = [[_stem_and_number(part) for part in name.split("/")] for name in names]
    found: list[tuple[str, ...]] = [()] * len(parts)
    for depth in range(max(map(len, parts), default=0)):
        here = [(row, *part[depth]) for row, part in enumerate(parts) if depth < len(part)]
        numbers: dict[tuple, set[int]] = {}
        for row, stem, number in here:
            numbers.setdefault((found[row], stem), set()).add(number)
        ranks = {key: sorted(those) for key, those in numbers.items()}
        for row, stem, number in here:
            found[row] = (*found[row], f"{stem}_{ranks[found[row], stem].index(number)}")
    return ["/".join(one) for one in found]


def _stem_and_number(part: str) -> tuple[str, int]:
    stem, _, number = part.rpartition("_")
    return (stem, int(number)) if stem and number.isdecimal() else (part, -1)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
