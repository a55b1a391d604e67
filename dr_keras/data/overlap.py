"""Whether what is held out is trained on as well."""

from collections.abc import Iterable, Mapping
import hashlib
import logging

import numpy as np

from dr_keras.data.corpora.base import check_choice
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import DataError

_ROWS = 1 << 14  # of the train part at once

_logger = logging.getLogger(__name__)


def content_keys(features: Mapping[str, np.ndarray]) -> list[str]:
    """Hex SHA-256 of each row's features: the same rows have the same keys in any corpus."""
    arrays = [np.ascontiguousarray(features[key]) for key in sorted(features)]
    keys = []
    for row in range(len(arrays[0])):
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(array[row].tobytes())
        keys.append(digest.hexdigest())
    return keys


def check_apart(sets: Mapping[str, ExampleSet]) -> None:
    """Raises DataError where two parts have examples with the same features.

    Args:
      sets: part -> examples, all with the same features. Several outer sets, "outer/<name>", may
        share examples with one another.
    """
    keys = {part: content_keys(examples.features) for part, examples in sets.items()}
    parts = list(sets)
    for number, one in enumerate(parts):
        for other in parts[number + 1 :]:
            if one.partition("/")[0] == other.partition("/")[0]:
                continue
            if twins := _twins(keys[other], keys[one]):
                row, twin = next(iter(twins.items()))
                raise DataError(
                    f"The parts '{one}' and '{other}' overlap: {len(twins)} examples lie in both;"
                    f" {sets[one].ids[twin]!r} and {sets[other].ids[row]!r} have the same features."
                    " Leave one of them out, or nothing is really held out."
                )


def train_apart(
    train: ExampleSet, outer_sets: Mapping[str, ExampleSet], on_overlap: str = "stop"
) -> ExampleSet:
    """The train part, after a look whether a set of the meta-objective has examples of it.

    Two examples are one where they have the same id or the same features. Sets with other features
    than the train part are other data.

    Args:
      train: a train part.
      outer_sets: name -> examples; those that are known to be disjoint from it need not be here.
      on_overlap: "stop" raises, "drop" leaves such examples out of the train part.

    Raises:
      DataError: with the number of such examples, one of them, and what to do.
    """
    check_choice("experiment.on_overlap", on_overlap, ("stop", "drop"))
    held = np.zeros(len(train), bool) if outer_sets else None
    for name, outer in outer_sets.items():
        if not set(train.features) <= set(outer.features):
            continue
        same_id, same_features = _common(train, outer)
        twins = same_features | same_id
        if twins and on_overlap == "stop":
            row, twin = next(iter(twins.items()))
            shown = f"{outer.ids[row]!r} has the features of {train.ids[twin[-1]]!r}"
            if not same_features:
                shown = f"{outer.ids[row]!r} is the id of an example in both"
            remedy = "give each example an id of its own, " if not same_features else ""
            raise DataError(
                f"The held-out set '{name}' overlaps 'train': {len(twins)} examples lie in both,"
                f" such as {shown}. Leave them out of one of the two, {remedy}or set"
                " experiment.on_overlap = 'drop' to train without them: a loss on what was trained"
                " on says little about which data helps."
            )
        for found in (same_id, same_features):
            for rows in found.values():
                held[rows] = True
    if held is None or not held.any():
        return train
    _logger.info("%d examples left out of train: held out", int(held.sum()))
    return train.take(~held)


def _common(
    train: ExampleSet, outer: ExampleSet
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Row of a held-out set -> rows of the train part, by id and by features; some rows at once."""
    features = {k: np.asarray(outer.features[k], v.dtype) for k, v in train.features.items()}
    ids, keys = _places(outer.ids), _places(content_keys(features))
    same_id: dict[int, list[int]] = {}
    same_features: dict[int, list[int]] = {}
    for start in range(0, len(train), _ROWS):
        some = {k: v[start : start + _ROWS] for k, v in train.features.items()}
        for known, found, names in (
            (ids, same_id, train.ids[start : start + _ROWS].tolist()),
            (keys, same_features, content_keys(some)),
        ):
            for twin, one in enumerate(names, start):
                for row in known.get(one, ()):
                    found.setdefault(row, []).append(twin)
    return dict(sorted(same_id.items())), dict(sorted(same_features.items()))


def _places(names: Iterable[str]) -> dict[str, list[int]]:
    """Name -> the rows that have it."""
    places: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        places.setdefault(name, []).append(row)
    return places


def _twins(ones: Iterable[str], others: Iterable[str]) -> dict[int, int]:
    """Row among `ones` -> the last row among `others` that is the same, where there is one."""
    places = {other: row for row, other in enumerate(others)}
    return {row: places[one] for row, one in enumerate(ones) if one in places}
