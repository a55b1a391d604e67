"""Names for examples, and the numbers that decisions are drawn by."""

import tensorflow as tf

from dr_keras.errors import ConfigurationError

# float64 holds every integer up to here, so that the quotient is exact
_BUCKETS = 2**53


def uniform_hash(ids, seed: int):
    """A number in [0, 1) that depends on nothing but (seed, id): float64 [N].

    A keyed strong hash in a TensorFlow operation, so that pipelines and scripts agree on it. Ids
    are strings (array-like, result: array; a whole number counts as its decimal digits) or a string
    tensor (result: tensor).
    """
    # the operation's keys are signed 64-bit integers
    key = [seed & (2**63 - 1), 0x64725F6B65726173]
    if tf.is_tensor(ids):
        buckets = tf.strings.to_hash_bucket_strong(ids, _BUCKETS, key)
        return tf.cast(buckets, tf.float64) / float(_BUCKETS)
    encoded = [id if isinstance(id, bytes) else str(id).encode("utf-8", "replace") for id in ids]
    return uniform_hash(tf.constant(encoded, tf.string), seed).numpy()


def id_strings(ids: tf.Tensor) -> tf.Tensor:
    """Ids as the strings that score files have them as.

    Args:
      ids: string [N], or whole numbers [N], which become their decimal digits.

    Raises:
      ConfigurationError: something else.
    """
    ids = tf.convert_to_tensor(ids)
    if ids.shape.rank == 1 and ids.dtype == tf.string:
        return ids
    if ids.shape.rank == 1 and ids.dtype.is_integer:
        return tf.strings.as_string(ids)
    raise ConfigurationError(
        f"Ids are {ids.dtype.name} of shape {ids.shape}, but one string or whole number an example"
        " is needed: name the right field, or leave ids out to draw by content."
    )


def content_ids(features) -> tf.Tensor:
    """Ids for examples that have none: a text is its own id, whatever else is hashed.

    A pipeline over texts so draws as `uniform_hash(texts, seed)` does. Anything but one
    text or one whole number an example becomes the decimal digits of the FarmHash64 of its bytes
    (the same on every platform); padding counts, and several parts are joined by "|".

    Args:
      features: nested structure of tensors or ragged tensors [N, ...].

    Raises:
      ConfigurationError: a part is something else, such as a sparse tensor.

    Returns:
      string [N]; examples of the same content have the same id.
    """
    parts = [part for part in tf.nest.flatten(features) if part is not None]
    hashed = [_hashed(part) for part in parts]
    return hashed[0] if len(hashed) == 1 else tf.strings.join(hashed, separator="|")


def _hashed(part) -> tf.Tensor:
    if not isinstance(part, (tf.Tensor, tf.RaggedTensor)):
        raise ConfigurationError(
            f"The rater reads a {type(part).__name__}, whose content names no example: give `ids`,"
            " a field or a function to strings or whole numbers."
        )
    if isinstance(part, tf.RaggedTensor):
        # rows have no bytes of their own to hash: hash what they hold, join, hash again
        names = part.with_flat_values(_fingerprint(part.flat_values))
        while isinstance(names, tf.RaggedTensor):
            names = tf.strings.reduce_join(names, axis=-1, separator=",")
            names = tf.ragged.map_flat_values(_fingerprint, names)
        return names
    if part.shape.rank == 1 and (part.dtype == tf.string or part.dtype.is_integer):
        return id_strings(part)
    return _fingerprint(part)


def _fingerprint(tensor: tf.Tensor) -> tf.Tensor:
    """string [N] of the first dimension's N parts."""
    hashed = tf.raw_ops.Fingerprint(data=tensor, method="farmhash64")
    return tf.strings.as_string(tf.bitcast(hashed, tf.uint64))
