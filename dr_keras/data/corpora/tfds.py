"""TensorFlow Datasets: by name, or by the directory of a prepared data set, in files of TFRecord or
ArrayRecord; and data sets of Hugging Face under the names that TFDS has for them."""

import collections
from collections.abc import Iterable, Iterator, Mapping
import difflib
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from dr_keras.data.corpora import base
from dr_keras.data.documents import Document
from dr_keras.data.formats.array_record import stored_records
from dr_keras.data.formats.base import Part
from dr_keras.data.formats.reading import reason
from dr_keras.errors import DataError
import gin

_HUGGING_FACE = "huggingface:"


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
    group_feature: str | None = None,
) -> base.Corpus:
    """A corpus from TensorFlow Datasets.

    Args:
      name: e.g. "c4/en" or "imdb_reviews:1.0.0", or the directory of a prepared data set, the one
        that holds dataset_info.json. "huggingface:owner__name/config" is a data set of Hugging
        Face, which needs the extra `datasets` and the network where it is not prepared yet.
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
      group_feature: the feature whose value documents share that must lie in one part; None for
        none.

    Raises:
      DataError: there is no such data set, split or feature, or it is not prepared (at once).
    """
    base.check_choice("tfds_corpus.on_malformed", on_malformed, base.ON_MALFORMED)
    builder = find_builder(name, data_dir)
    config = builder.builder_config.name if builder.builder_config else None
    full_name = f"{builder.name}/{config}" if config else builder.name
    check_prepared("tfds_corpus", builder, full_name, [split], download)
    _check_feature(builder, full_name, text_feature, (np.bytes_, np.str_, np.object_))
    for feature in (None if id_feature == "tfds_id" else id_feature, group_feature):
        if feature is not None:
            identities = (np.bytes_, np.str_, np.object_, np.integer)
            _check_feature(builder, full_name, feature, identities)
    features = (text_feature, id_feature, group_feature)
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
        if name.startswith(_HUGGING_FACE):
            return _hugging_face_builder(name, data_dir)
        return tfds.builder(name, data_dir=data_dir)
    except DataError:
        raise
    except tfds.core.DatasetNotFoundError as error:
        wanted = name.split("/")[0].split(":")[0]
        near = difflib.get_close_matches(wanted, tfds.list_builders(), n=3, cutoff=0.6)
        meant = f"; did you mean {' or '.join(near)}?" if near else "; is its name or path right?"
        raise DataError(f"no TFDS data set is called {name!r}{meant}") from error
    except (ValueError, AssertionError, OSError, tf.errors.OpError) as error:
        raise DataError(f"TFDS data set {name!r} cannot be used: {error}") from error


def _hugging_face_builder(name: str, data_dir: str | None) -> Any:
    """TFDS' builder of a data set of Hugging Face: what is prepared is read without network.

    Raises:
      DataError: it is not prepared, and nothing can be known of it.
    """
    import tensorflow_datasets as tfds

    called, options = tfds.core.naming.parse_builder_name_kwargs(name, data_dir=data_dir)
    try:
        return tfds.core.read_only_builder.builder_from_files(called.name, **options)
    except tfds.core.DatasetNotFoundError:
        pass
    try:
        return tfds.builder(name, data_dir=data_dir)
    except ImportError as error:
        raise DataError(
            f"TFDS data set {name!r} is not prepared, which needs a library ({error}): pip install"
            " 'dr_keras[datasets]', or set data_dir to where it is prepared"
        ) from error
    except Exception as error:  # of a library and of the network, of any type
        why = error.__cause__ or error
        raise DataError(
            f"TFDS data set {name!r} is not prepared, and Hugging Face says nothing of it ({why}):"
            " is its name right, as in 'huggingface:owner__name', and the network there?"
        ) from error


def _is_prepared(builder: Any) -> bool:
    return tf.io.gfile.exists(str(builder.data_path))


def check_prepared(
    caller: str, builder: Any, full_name: str, splits: Iterable[str], download: bool
) -> None:
    """DataError unless the data set is there and has the splits, or may be downloaded later.

    Args:
      caller: the configurable whose `data_dir` and `download` the message names.
      builder, full_name: of the data set.
      splits: each a split, or a part of one.
      download: whether it may be absent.
    """
    if _is_prepared(builder):
        for split in splits:
            _check_split(builder, full_name, split)
    elif not download:
        raise DataError(
            f"TFDS data set {full_name!r} is not prepared in {builder.data_path}; set "
            f"{caller}.data_dir to where it is, or {caller}.download = True"
        )


def _check_split(builder: Any, full_name: str, split: str) -> None:
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


def read_examples(
    caller: str, builder: Any, full_name: str, split: str, id: bool = False, **options: Any
) -> Iterator[dict[str, Any]]:
    """Yields the examples of a split as NumPy, in order; prepares the data set if it is not there.

    Args:
      caller, builder, full_name, split: see `check_prepared`.
      id: whether examples have a "tfds_id".
      options: further arguments of TFDS' `as_dataset`.

    Raises:
      DataError: no such split, or damaged files; or preparing needs a package that is absent.
    """
    import tensorflow_datasets as tfds

    if not _is_prepared(builder):
        try:
            builder.download_and_prepare()
        except ImportError as error:  # many data sets need packages that TFDS does not install
            raise DataError(
                f"preparing TFDS data set {full_name!r} needs a Python package that is not "
                f"installed ({error}); install it, or set {caller}.data_dir to where the data "
                "set is prepared"
            ) from error
    _check_split(builder, full_name, split)
    number = 0
    try:
        config = tfds.ReadConfig(add_tfds_id=id)
        if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
            yield from _array_records(builder, split, id, **options)
            return
        found = builder.as_dataset(split=split, shuffle_files=False, read_config=config, **options)
        for example in found.as_numpy_iterator():
            number += 1
            yield example
    except (tf.errors.OpError, OSError) as error:
        why = reason(error) if isinstance(error, tf.errors.OpError) else error
        raise DataError(
            f"TFDS data set {full_name!r}, split {split!r}, record {number + 1}: its files are"
            f" damaged, cut short or gone ({why}); prepare it again"
        ) from error


def _array_records(
    builder: Any, split: str, with_id: bool, decoders: Any = None
) -> Iterator[dict[str, Any]]:
    """`read_examples` of ArrayRecord files, which TFDS makes no `tf.data` of."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    if isinstance(decoders, tfds.decode.PartialDecoding):
        features, decoders = decoders.extract_features(features), decoders.decoders
    for file in builder.info.splits[split].file_instructions:
        records = stored_records(Part(file.filename, file.skip, file.skip + file.take))
        for index, record in enumerate(records, file.skip):
            example = features.deserialize_example_np(record, decoders=decoders)
            if with_id:  # as TFDS makes it for other files
                example["tfds_id"] = f"{file.basename()}__{index}".encode()
            yield example


def _read(
    builder: Any,
    full_name: str,
    split: str,
    features: tuple[str, str | None, str | None],
    source: str,
    on_malformed: str,
    skipped: collections.Counter,
) -> Iterator[Document]:
    import tensorflow_datasets as tfds

    stored = [feature for feature in features if feature not in (None, "tfds_id")]
    decoders = tfds.decode.PartialDecoding(_nested(stored))
    with_id = features[1] == "tfds_id"
    examples = read_examples("tfds_corpus", builder, full_name, split, with_id, decoders=decoders)
    for number, example in enumerate(examples, 1):
        found = (None if name is None else _value(example, name) for name in features)
        text, identity, group = found
        try:
            document = base.decoded_document(text, identity, source, group)
        except base.Malformed as wrong:
            if on_malformed == "stop":
                where = f"TFDS data set {full_name!r}, split {split!r}, record {number}"
                raise wrong.error(where, "tfds_corpus.on_malformed") from wrong
            skipped[wrong.reason] += 1
        else:
            yield document


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
    return example.item() if isinstance(example, np.generic | np.ndarray) else example
