"""What `CuratedModel.fit` is given, as batches of named features.

Elements are what Keras trains on: a dict of features, or (x, y). Of the latter, x keeps the names
that it has, or takes that of the model's only input, and y is the feature "label".
"""

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from dr_keras.errors import ConfigurationError

LABEL = "label"
# The column of a batch that says where each example came from, a place in the list of sources.
SOURCE = "source_number"


def as_features(element, model: keras.Model) -> dict:
    """The features of an element, or batch of them, by name.

    Raises:
      ConfigurationError: it has weights of its own, or inputs that have no name.
    """
    if not isinstance(element, tuple):
        x, y = element, None
    elif len(element) == 2:
        x, y = element
    else:
        raise ConfigurationError(
            f"Elements are tuples of {len(element)}: give (x, y), or a dict of features. Weights of"
            " examples are what the rater is for."
        )
    if not isinstance(x, Mapping):
        names = [tensor.name for tensor in getattr(model, "inputs", None) or []]
        if len(names) != 1 or isinstance(x, (tuple, list)):
            raise ConfigurationError(
                f"The inputs of an element have no names, and the model '{model.name}' has"
                f" {len(names)} inputs ({', '.join(names) or 'not called yet'}): map the dataset to"
                " dicts of features by name."
            )
        x = {names[0]: x}
    return dict(x) if y is None else {**x, LABEL: y}


def check_specs(specs: Mapping[str, tf.TensorSpec]) -> None:
    """Raises ConfigurationError for features that a compiled step cannot take."""
    for name, spec in specs.items():
        if not isinstance(spec, tf.TensorSpec) or not spec.shape.is_fully_defined():
            raise ConfigurationError(
                f"The feature '{name}' is {spec}: compiled steps take tensors of one shape. Pad it"
                " to one length (padded_batch), or map it away."
            )
        if spec.dtype == tf.string:
            raise ConfigurationError(
                f"The feature '{name}' holds texts, which no compiled step reads: map it away; the"
                " one that says where examples came from is named by CuratedModel.source."
            )


def regrouped(
    dataset: tf.data.Dataset, model: keras.Model, size: int, source: str | None, names: Sequence
) -> tf.data.Dataset:
    """Batches of `size` of named features, of batches of any size or of single examples.

    Args:
      model: whose inputs say whether elements are batches.
      source: the feature that says where an example came from, a text or a whole number; None: no
        feature does. It becomes `SOURCE`.
      names: of sources; numbers are places among them.

    Raises:
      ConfigurationError: see `as_features` and `check_specs`; no input of the model is there.
    """
    as_tuple = isinstance(dataset.element_spec, tuple)

    @tf.autograph.experimental.do_not_convert  # errors come out as they were raised
    def features(*parts):
        return as_features(parts if as_tuple else parts[0], model)

    dataset = dataset.map(features)
    spec = dataset.element_spec
    wanted = {t.name: len(t.shape) for t in getattr(model, "inputs", None) or []}
    known = [(spec[n].shape.rank, rank) for n, rank in wanted.items() if n in spec]
    if not known:
        raise ConfigurationError(
            f"The elements have the features {sorted(spec)}, and the model '{model.name}' reads"
            f" {sorted(wanted)}: map the dataset to features of these names."
        )
    rank, batched = known[0]
    if rank == batched:
        if next(iter(spec.values())).shape[0] != size:
            dataset = dataset.rebatch(size, drop_remainder=True)
    elif rank == batched - 1:
        dataset = dataset.batch(size, drop_remainder=True)
    if source is not None:
        if source not in dataset.element_spec:
            raise ConfigurationError(
                f"CuratedModel.source is '{source}', and the elements have the features"
                f" {sorted(dataset.element_spec)}: name one of them, or None."
            )
        dataset = dataset.map(lambda batch: _numbered(batch, source, names))
    check_specs(dataset.element_spec)
    return dataset


@tf.autograph.experimental.do_not_convert
def _numbered(batch: dict, source: str, names: Sequence) -> dict:
    batch = dict(batch)
    given = batch.pop(source)
    if given.dtype == tf.string:
        matches = tf.equal(given[:, tf.newaxis], tf.constant(list(names)))
        known = tf.reduce_any(matches, axis=1)
        number = tf.argmax(matches, axis=1, output_type=tf.int32)
    else:
        number = tf.cast(given, tf.int32)
        known = tf.logical_and(number >= 0, number < len(names))
    said = f"CuratedModel.sources lacks a source of the feature '{source}'; these are there: "
    strange = tf.boolean_mask(given, tf.logical_not(known))
    with tf.control_dependencies([tf.Assert(tf.reduce_all(known), [said, given, strange])]):
        return {**batch, SOURCE: tf.identity(number)}
