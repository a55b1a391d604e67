"""What the tf.data transformations share: regrouping a dataset, and a frozen rater to score it.

A transformation takes datasets of examples or of batches of them. Whatever comes in is grouped
anew into batches of the size it scores, and the rater is frozen to constants for their structure.
"""

from collections.abc import Callable
import dataclasses
import os

import tensorflow as tf

from dr_keras.errors import ConfigurationError, DrKerasError
from dr_keras.serving.frozen import FrozenRater, freeze, width_conditions
from dr_keras.serving.loading import load_rater

Rater = Callable | str | os.PathLike
Key = Callable | str | None


def resolve_rater(rater: Rater) -> Callable:
    """A callable: the rater itself, or what `load_rater` makes of a path.

    Raises:
      ConfigurationError: neither a path nor callable.
      ArtefactError: there is no rater at the path.
    """
    if isinstance(rater, (str, os.PathLike)):
        return load_rater(rater)
    if not callable(rater):
        raise ConfigurationError(
            f"The rater is {rater!r}: give the path of an exported one, what load_rater returned, a"
            " Keras model, or a function from a batch of features to scores."
        )
    return rater


def selector(key: Key) -> Callable:
    """A function from a batch of elements to the part that `key` names.

    A string is a field of the elements (of their x, where they are Keras tuples). None takes the
    whole element, but of the tuples that Keras trains on, (x, y) or (x, y, sample_weight), the x.
    """
    if callable(key):
        return key

    def select(element):
        element = element[0] if isinstance(element, tuple) else element
        if key is None:
            return element
        if not isinstance(element, dict) or key not in element:
            fields = sorted(element) if isinstance(element, dict) else "no named fields"
            raise ConfigurationError(
                f"The elements have no field {key!r} ({fields}): name one that they have, or give a"
                " function from a batch of elements."
            )
        return element[key]

    return select


@dataclasses.dataclass(frozen=True)
class ScoredBatches:
    """Batches, and what scores them.

    Attributes:
      dataset: batches of the size asked for, the elements as they were.
      select: batch -> what the rater takes.
      frozen: what the rater takes -> its outputs.
      batched: whether the dataset given was one of batches.
    """

    dataset: tf.data.Dataset
    select: Callable
    frozen: FrozenRater
    batched: bool

    def map(self, step: Callable, num_parallel_calls: int | None) -> tf.data.Dataset:
        """Maps a batch and its outputs, {"score": float32 [N], ...}; the order stays."""
        is_tuple = isinstance(self.dataset.element_spec, tuple)

        @tf.autograph.experimental.do_not_convert  # errors come out as they were raised
        def spread(*parts):  # tf.data spreads a tuple over arguments; put it together again
            batch = parts if is_tuple else parts[0]
            return step(batch, self._outputs(batch))

        mapped = self.dataset.map(spread, num_parallel_calls=num_parallel_calls, deterministic=True)
        options = tf.data.Options()
        if self.dataset.options().threading.max_intra_op_parallelism is None:
            # tf.data's own default, one thread an operation, suits small functions, not a network
            options.threading.max_intra_op_parallelism = 0
        if not self.frozen.stateless:
            # What state is left is a tokenizer's: its vocabulary, which does not change. Without
            # this, tf.data would refuse to checkpoint an iterator over it.
            policy = tf.data.experimental.ExternalStatePolicy.IGNORE
            options.experimental_external_state_policy = policy
        return mapped.with_options(options)

    def _outputs(self, batch) -> dict[str, tf.Tensor]:
        """The rater's outputs, of as many rows as the batch has."""
        features = self.select(batch)
        widths = width_conditions(self.frozen.owner, features)
        with tf.control_dependencies([tf.Assert(*condition) for condition in widths]):
            outputs = self.frozen(features)
        return {
            name: one_an_example(values, batch, "scores" if name == "score" else f"{name}s")
            for name, values in outputs.items()
        }


def one_an_example(values: tf.Tensor, batch, what: str) -> tf.Tensor:
    """`values` [N], checked to be as many as the examples of `batch`; at run time where need be.

    Raises:
      ConfigurationError: there are more or fewer, and shapes show it.
    """
    known, rows = _rows(batch)
    given = values.shape[0]
    if None in (known, given):
        count = tf.shape(values)[0]
        said = [f"There must be one an example. Number of {what}:", count, "of examples:", rows]
        with tf.control_dependencies([tf.Assert(tf.equal(count, rows), said)]):
            return tf.ensure_shape(tf.identity(values), [known or given])
    if known != given:
        raise ConfigurationError(
            f"There are {given} {what} for a batch of {known} examples, and one an example is"
            " needed: the rater, and functions given for keys, must keep to the rows of what they"
            " are handed."
        )
    return values


def _rows(batch) -> tuple[int | None, tf.Tensor]:
    """The number of a batch's examples: as far as it is static, and as int32 scalar."""
    part = next(part for part in tf.nest.flatten(batch) if part is not None)
    if isinstance(part, tf.SparseTensor):
        return part.shape[0], tf.cast(part.dense_shape[0], tf.int32)
    if isinstance(part, tf.RaggedTensor):
        return part.shape[0], tf.cast(part.nrows(), tf.int32)
    return part.shape[0], tf.shape(part)[0]


def scored_batches(
    dataset: tf.data.Dataset,
    rater: Callable,
    key: Key,
    size: int,
    batched: bool | None = None,
    drop_remainder: bool = True,
) -> ScoredBatches:
    """Groups a dataset into batches of `size` and freezes the rater for them.

    Args:
      dataset: examples, or batches of them of any size.
      rater: see `frozen.freeze`.
      key: what of a batch the rater takes, see `selector`.
      size: examples in a batch.
      batched: whether elements are batches. None finds out: they are, if every part of them has a
        first dimension of unknown size (as after `Dataset.batch`), or if the rater refuses them as
        examples and takes them as batches; with a part that is a scalar they are examples.
      drop_remainder: whether a last batch of fewer is left out.

    Raises:
      ConfigurationError: the rater cannot score the elements, or does not give one score an
        example.
    """
    _check_regroupable(dataset.element_spec)
    first_error = None
    for choice in _readings(dataset.element_spec) if batched is None else [bool(batched)]:
        try:
            regroup = dataset.rebatch if choice else dataset.batch
            groups = regroup(size, drop_remainder=drop_remainder)
            select = selector(key)
            with tf.init_scope():  # see freeze
                selecting = tf.function(select, autograph=False)
                traced = selecting.get_concrete_function(groups.element_spec)
            spec = tf.nest.map_structure(tf.type_spec_from_value, traced.structured_outputs)
            return ScoredBatches(groups, select, freeze(rater, spec), choice)
        except Exception as error:  # whatever a user's rater or key may raise
            first_error = first_error or error
            if isinstance(error, ConfigurationError):
                break  # scored, but wrongly: another reading would only hide it
    if isinstance(first_error, DrKerasError):
        raise first_error
    said = " ".join(str(first_error).split())
    raise ConfigurationError(
        f"The rater cannot score elements of {dataset.element_spec}: with `key`, give it the part"
        " that it takes; with `batched`, say whether elements are batches. It said:"
        f" {type(first_error).__name__}: {said[:300]}"
    ) from first_error


def _check_regroupable(spec, place: str = "element") -> None:
    """Refuses, by name, parts of elements that have no rows to choose from."""
    parts = []
    if isinstance(spec, dict):
        parts = [(f"{place}[{name!r}]", part) for name, part in spec.items()]
    elif isinstance(spec, (tuple, list)):
        parts = [(f"{place}[{number}]", part) for number, part in enumerate(spec)]
    for where, part in parts:
        _check_regroupable(part, where)
    if isinstance(spec, (tf.data.DatasetSpec, tf.OptionalSpec, tf.TensorArraySpec)):
        kind = type(spec).__name__.removesuffix("Spec")
        raise ConfigurationError(
            f"{place} is of type {kind}, which cannot be grouped into batches: map it to tensors"
            " first (windows by flat_map and batch), or leave it out."
        )


def _readings(element_spec) -> list[bool]:
    """What elements may be, the likelier first: batches (True) or examples (False)."""
    parts = [spec for spec in tf.nest.flatten(element_spec) if hasattr(spec, "shape")]
    if any(part.shape.rank in (None, 0) for part in parts):
        return [False]
    # a row of a ragged tensor is an example, though its length is unknown
    rows = [isinstance(p, tf.RaggedTensorSpec) and p.ragged_rank == 0 for p in parts]
    unknown = [part.shape[0] is None and not row for part, row in zip(parts, rows)]
    return [True] if parts and all(unknown) else [False, True]


def take(batch, rows: tf.Tensor):
    """The given rows (int [n], none of them twice) of every part of a batch."""

    def of_part(part):
        if part is None:
            return None
        gather = _sparse_rows if isinstance(part, tf.SparseTensor) else tf.gather
        return gather(part, rows)

    return tf.nest.map_structure(of_part, batch)


def _sparse_rows(part: tf.SparseTensor, rows: tf.Tensor) -> tf.SparseTensor:
    """`tf.gather` for sparse tensors, which TensorFlow does not have."""
    rows = tf.cast(rows, tf.int64)
    count = tf.shape(rows, tf.int64)
    numbers = tf.range(1, count[0] + 1)
    places = tf.scatter_nd(rows[:, tf.newaxis], numbers, part.dense_shape[:1])  # 0: left out
    places = tf.gather(places, part.indices[:, 0]) - 1
    taken = places >= 0
    indices = tf.concat([places[:, tf.newaxis], part.indices[:, 1:]], axis=1)
    found = tf.SparseTensor(
        tf.boolean_mask(indices, taken),
        tf.boolean_mask(part.values, taken),
        tf.concat([count, part.dense_shape[1:]], axis=0),
    )
    found = tf.sparse.reorder(found)
    found.set_shape([rows.shape[0], *part.shape[1:]])
    return found
