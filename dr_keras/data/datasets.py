"""A user's own data: a tf.data.Dataset of dicts with an id becomes the four parts of examples.

Rows are split by a hash of their content (`splits.part_of`), as documents are: two rows with the
same features lie in the same part, whatever their ids, and no row moves when others join.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet, Parts, by_part, objects, part_argument
from dr_keras.data.overlap import check_apart, content_keys
from dr_keras.data.splits import PARTS, part_of, split_fractions
from dr_keras.errors import ConfigurationError, DataError
import gin

Corpus = tf.data.Dataset | Callable[[], tf.data.Dataset]

# Rows that TensorFlow hands over at once.
_ROWS_A_STEP = 1024


@gin.configurable
def dataset_data(
    corpus: Corpus = gin.REQUIRED,
    outer: Corpus | Mapping[str, Corpus | None] | None = None,
    validation: Corpus | None = None,
    test: Corpus | None = None,
    id_feature: str = "id",
    source_feature: str | None = None,
    known: Sequence[str] = (),
    fractions: Mapping[str, float] | None = None,
    render: Callable[[dict[str, np.ndarray]], str] | None = None,
    name: str = "corpus",
) -> Parts:
    """Turns a dataset of dicts into train, outer, validation and test examples.

    All four are split off `corpus`, unless a held-out part has a dataset of its own. The rows of
    `corpus` that would have made up such a part are then used nowhere.

    Args:
      corpus: a tf.data.Dataset, or a function that returns one, of single examples (not batches):
        dicts of tensors of fixed shapes. It is read once, into memory.
      outer, validation, test: likewise, for a held-out part with data of its own. `outer` may be
        name -> dataset for several held-out sets with a loss each, which may share rows; None is
        the part of `corpus`.
      id_feature: the key of the ids, strings or whole numbers, each of which occurs once.
      source_feature: the key of the name of where an example is from, a string; None: `name`.
      known: keys of what is known for evaluation and no model may read: they become `labels`.
        "level" (damage in [0, 1]) and "damage" (its kind) are understood by the reports.
      fractions: share of each part of `corpus`; None for `split_fractions()`.
      render: turns the features of a row into text for people; None shows its id.
      name: of the corpus.

    Returns:
      The parts. Features keep their types, but float64 becomes float32.

    Raises:
      ConfigurationError: something that is no dataset of dicts is given as one.
      DataError: an id repeats, features of differing shapes, values that are no numbers or not
        finite, rows that lie in two parts, or a part without examples.
    """
    held_out = by_part(outer, validation, test)
    tables = {
        part: examples_from_dataset(
            dataset, part or name, id_feature, source_feature, known, render, corpus_name=name
        )
        for part, dataset in {"": corpus, **held_out}.items()
        if dataset is not None
    }
    check_alike(tables, name)
    whole = tables.pop("")
    keys = content_keys(whole.features)
    rows = split_rows(keys, split_fractions() if fractions is None else fractions)
    parts = {
        part: tables[part] if part in tables else whole.take(rows[part.partition("/")[0]], part)
        for part in ("train", *held_out)
    }
    if tables:
        check_apart(parts)
    for part, examples in parts.items():
        if not len(examples):
            raise DataError(
                f"The {len(whole)} rows of '{name}' give the part '{part}' no examples: add rows,"
                f" raise split_fractions.{part.partition('/')[0]}, or name a dataset in"
                f" dataset_data.{part_argument(part)}."
            )
    return Parts.of(parts, disjoint=True)


@gin.configurable
def examples_from_dataset(
    dataset: Corpus = gin.REQUIRED,
    name: str = "examples",
    id_feature: str = "id",
    source_feature: str | None = None,
    known: Sequence[str] = (),
    render: Callable[[dict[str, np.ndarray]], str] | None = None,
    corpus_name: str | None = None,
) -> ExampleSet:
    """Reads a dataset of dicts into an ExampleSet; arguments and errors as for `dataset_data`.

    By gin it is also a held-out set whose features are not those of the train part:
    `experiment.outer_sets = {'measured': @examples_from_dataset}`.
    """
    dataset = dataset() if callable(dataset) else dataset
    _check_spec(dataset, name, id_feature, source_feature, known)
    steps = []
    count = 0
    try:
        for batch in dataset.batch(_ROWS_A_STEP).as_numpy_iterator():
            steps.append(batch)
            count += len(batch[id_feature])
    except tf.errors.OpError as error:
        reason = str(error).splitlines()[0][:300]
        raise DataError(
            f"The dataset of '{name}' cannot be read after row {count}: {reason}. All rows of a"
            " feature need one shape."
        ) from error
    if not count:
        raise DataError(f"The dataset of '{name}' has no rows.")
    columns = {key: np.concatenate([step[key] for step in steps]) for key in steps[0]}
    ids = _strings(columns.pop(id_feature))
    check_unique(ids, f"'{name}'")
    corpora = sources = objects([corpus_name or name] * count)
    if source_feature:
        sources = _strings(columns.pop(source_feature))
    labels = {key: columns.pop(key) for key in known}
    labels = {k: _strings(v) if v.dtype == object else v for k, v in labels.items()}
    features = {
        key: value.astype(np.float32) if value.dtype == np.float64 else value
        for key, value in columns.items()
    }
    for key, values in features.items():
        _check_finite(key, values, ids, name)
    return ExampleSet(features, ids, sources, corpora, labels, render=render, name=name)


def split_rows(keys: Sequence[str], fractions: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Part -> its row numbers, int [N_part], ascending, by `splits.part_of`."""
    found = objects(part_of(key, fractions) for key in keys)
    return {part: np.flatnonzero(found == part) for part in PARTS}


def check_unique(ids: np.ndarray, name: str) -> None:
    """Raises DataError that names the first id which repeats, and its rows."""
    seen: dict[str, int] = {}
    for row, identity in enumerate(ids):
        first = seen.setdefault(identity, row)
        if first != row:
            raise DataError(
                f"The id {identity!r} of {name} repeats: rows {first} and {row} have it (from 0)."
                " Scores point back by id, so each row needs one of its own."
            )


def check_alike(tables: Mapping[str, ExampleSet], name: str) -> None:
    """Raises DataError where parts differ in the names, shapes or types of their features."""
    forms = {
        part: {key: (v.dtype.name, v.shape[1:]) for key, v in table.features.items()}
        for part, table in tables.items()
    }
    first = next(iter(forms.values()))
    for part, form in forms.items():
        if form != first:
            raise DataError(
                f"The features of '{part}' are {form}, those of '{name}' {first}: make them alike."
            )


def _check_spec(dataset, name, id_feature, source_feature, known) -> None:
    spec = getattr(dataset, "element_spec", None)
    if not isinstance(dataset, tf.data.Dataset) or not isinstance(spec, dict):
        found = spec if isinstance(dataset, tf.data.Dataset) else type(dataset).__name__
        raise ConfigurationError(
            f"The corpus of '{name}' must give a tf.data.Dataset of dicts such as {{'id': ...,"
            f" 'x': ...}}, not {found}."
        )
    needed = [id_feature, *([source_feature] if source_feature else []), *known]
    missing = [key for key in needed if key not in spec]
    if missing:
        raise ConfigurationError(
            f"The examples of '{name}' have no {missing[0]!r}, only {sorted(spec)}: add it to each"
            " dict, or change id_feature, source_feature or known."
        )
    for key, part in spec.items():
        if not isinstance(part, tf.TensorSpec):
            raise ConfigurationError(
                f"The feature '{key}' of '{name}' is {part}: features are tensors of fixed shape."
            )
        if key in needed:
            if part.shape.rank != 0:
                raise ConfigurationError(
                    f"'{key}' of '{name}' has shape {part.shape}: it must be one value an example."
                    " Is the dataset batched? Give single examples (dataset.unbatch())."
                )
            if key == id_feature and not (part.dtype == tf.string or part.dtype.is_integer):
                raise ConfigurationError(
                    f"The ids of '{name}' are {part.dtype.name}: use strings or whole numbers."
                )
        elif part.dtype == tf.string:
            raise ConfigurationError(
                f"The feature '{key}' of '{name}' is text, which models cannot read: turn it into"
                " numbers, or list it in dataset_data.known if it is for evaluation only."
            )
    if len(spec) == len(set(needed)):
        raise ConfigurationError(f"The examples of '{name}' have no features beside {needed}.")


def _check_finite(key: str, values: np.ndarray, ids: np.ndarray, name: str) -> None:
    if not np.issubdtype(values.dtype, np.floating):
        return
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if bad.any():
        raise DataError(
            f"The feature '{key}' of '{name}' is not finite in {int(bad.sum())} of {len(bad)} rows,"
            f" first in {ids[np.argmax(bad)]!r}: fill in or leave out such rows."
        )


def _strings(values: np.ndarray) -> np.ndarray:
    """Bytes and numbers as texts, object [N]."""
    return objects(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)
