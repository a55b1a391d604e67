"""TensorFlow Datasets: by name, or by the directory of a prepared data set."""

import collections
from collections.abc import Iterator, Mapping
import difflib
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from dr_keras.data.corpora import base
from dr_keras.data.documents import Document
from dr_keras.data.formats.reading import reason
from dr_keras.errors import DataError
import gin


@gin.configurable
def tfds_corpus(
    name: str,
    split: str = "train",
    data_dir: str | None = None,
    download: bool = False,
    text_feature: str = "text",
    id_feature: str | None = None,
    source: str | None = None,
    corpus_name: str | None = None,
    on_malformed: str = "stop",
    max_documents: int | None = None,
) -> base.Corpus:
    """A corpus from TensorFlow Datasets.

    Args:
      name: e.g. "c4/en" or "imdb_reviews:1.0.0", or the directory of a prepared data set, the one
        that holds dataset_info.json.
      split: e.g. "train" or "train[:1%]".
      data_dir: where prepared data sets are; None for TFDS' own default.
      download: whether to download and prepare the data set, on the first pass, if it is not there.
      text_feature: the feature with the text; "/" separates the names of nested features.
      id_feature: the feature of the id, "tfds_id" for the shard and number that TFDS gives, None
        for the hash of source and text.
      source: source of all documents; None for the name of the data set and its configuration.
      corpus_name: name of the corpus; None for the same.
      on_malformed: "stop" at invalid UTF-8 with the record's number (from 1), or "skip" and count.
      max_documents: stop after so many.

    Raises:
      DataError: there is no such data set, split or feature, or it is not prepared (at once).
    """
    base.check_choice("tfds_corpus.on_malformed", on_malformed, base.ON_MALFORMED)
    builder = find_builder(name, data_dir)
    config = builder.builder_config.name if builder.builder_config else None
    full_name = f"{builder.name}/{config}" if config else builder.name
    if is_prepared(builder):
        check_split(builder, full_name, split)
    elif not download:
        raise DataError(
            f"TFDS data set {full_name!r} is not prepared in {builder.data_path}; set "
            "tfds_corpus.data_dir to where it is, or tfds_corpus.download = True"
        )
    _check_feature(builder, full_name, text_feature, (np.bytes_, np.str_, np.object_))
    if id_feature not in (None, "tfds_id"):
        identities = (np.bytes_, np.str_, np.object_, np.integer)
        _check_feature(builder, full_name, id_feature, identities)
    features = (text_feature, id_feature)
    read = functools.partial(
        _read, builder, full_name, split, features, source or full_name, on_malformed
    )
    settings = {"kind": "tfds", "data_set": builder.info.full_name, "split": split}
    return base.Corpus(corpus_name or full_name, read, settings, max_documents)


def find_builder(name: str, data_dir: str | None) -> Any:
    """TFDS' builder by name or directory; DataError, with near names, where there is none."""
    import tensorflow_datasets as tfds  # seconds that only those who use it should pay

    try:
        if tf.io.gfile.isdir(name):
            return tfds.builder_from_directory(name)
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        wanted = name.split("/")[0].split(":")[0]
        near = difflib.get_close_matches(wanted, tfds.list_builders(), n=3, cutoff=0.6)
        meant = f"; did you mean {' or '.join(near)}?" if near else "; is its name or path right?"
        raise DataError(f"no TFDS data set is called {name!r}{meant}") from error
    except (ValueError, AssertionError, OSError, tf.errors.OpError) as error:
        raise DataError(f"TFDS data set {name!r} cannot be used: {error}") from error


def is_prepared(builder: Any) -> bool:
    """Whether the data set lies in the builder's directory."""
    return tf.io.gfile.exists(str(builder.data_path))


def check_split(builder: Any, full_name: str, split: str) -> None:
    """DataError, with the splits there are, unless `split` is one or a part of one."""
    try:
        builder.info.splits[split]
    except (KeyError, ValueError) as error:
        splits = ", ".join(sorted(builder.info.splits))
        raise DataError(
            f"TFDS data set {full_name!r} has no split {split!r}; its splits: {splits}; parts of "
            'them are written as "train[:10%]"'
        ) from error


def _check_feature(builder: Any, full_name: str, feature: str, allowed: tuple[type, ...]) -> None:
    found = builder.info.features
    for name in feature.split("/"):
        if not hasattr(found, "keys") or name not in found.keys():
            names = ", ".join(builder.info.features)
            raise DataError(
                f"TFDS data set {full_name!r} has no feature {feature!r}; its features: {names}"
            )
        found = found[name]
    is_scalar = not hasattr(found, "keys") and found.shape == ()
    if not is_scalar or not any(np.issubdtype(found.np_dtype, kind) for kind in allowed):
        raise DataError(
            f"feature {feature!r} of TFDS data set {full_name!r} cannot be used as a text or an "
            f"id; it is {' '.join(repr(found).split())}; name another feature"
        )


def _read(
    builder: Any,
    full_name: str,
    split: str,
    features: tuple[str, str | None],
    source: str,
    on_malformed: str,
    skipped: collections.Counter,
) -> Iterator[Document]:
    import tensorflow_datasets as tfds

    if not is_prepared(builder):
        try:
            builder.download_and_prepare()
        except ImportError as error:  # many data sets need packages that TFDS does not install
            raise DataError(
                f"preparing TFDS data set {full_name!r} needs a Python package that is not "
                f"installed ({error}); install it, or set tfds_corpus.data_dir to where the data "
                "set is prepared"
            ) from error
        check_split(builder, full_name, split)
    place = f"TFDS data set {full_name!r}, split {split!r}"
    stored = [feature for feature in features if feature not in (None, "tfds_id")]
    number = 0
    try:
        examples = builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders=tfds.decode.PartialDecoding(_nested(stored)),
            read_config=tfds.ReadConfig(add_tfds_id=features[1] == "tfds_id"),
        )
        for example in examples.as_numpy_iterator():
            number += 1
            text = _value(example, features[0])
            identity = None if features[1] is None else _value(example, features[1])
            try:
                document = base.decoded_document(text, identity, source)
            except base.Malformed as found:
                if on_malformed == "stop":
                    where = f"{place}, record {number}"
                    raise found.error(where, "tfds_corpus.on_malformed") from found
                skipped[found.reason] += 1
            else:
                yield document
    except (tf.errors.OpError, OSError) as error:
        why = reason(error) if isinstance(error, tf.errors.OpError) else error
        raise DataError(
            f"{place}, record {number + 1}: its files are damaged, cut short or gone ({why}); "
            "prepare it again"
        ) from error


def _nested(features: list[str]) -> dict[str, Any]:
    """Turns ["a", "b/c"] into {"a": True, "b": {"c": True}}."""
    nested: dict[str, Any] = {}
    for feature in features:
        *outer, last = feature.split("/")
        inner = nested
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = True
    return nested


def _value(example: Mapping[str, Any], feature: str) -> bytes | int:
    for name in feature.split("/"):
        example = example[name]
    return example if isinstance(example, bytes) else example.item()
