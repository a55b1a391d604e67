"""Signatures of raters: what an exported rater can be asked, one place for each.

A signature is registered with the kind of rater that has it, as a function from the rater to its
inputs, what it computes, and a request by which servers get warm:

    @TextKind.signature("serve_length")
    def _serve_length(rater: TextKind, served: Signature, references: References) -> Signature:
        text = tf.TensorSpec([None], tf.string, name="text")
        return Signature(lambda text: {"length": tf.strings.length(text)}, [text])

Nothing else needs a line: the artefact, its warm-up requests and its copy for servers without
further operations take what is registered, and so do kinds that are derived from this one. A user's
own module does the same, imported by a line of their gin file. Registered with every kind are

    serve_tf_examples  examples string [B]: tf.train.Example -> score, percentile
    keep_probability   <inputs of serving_default>, discard_fraction float64 [], batch_size int32 []
                                                             -> score, percentile, keep_probability

    reference_loss    <inputs of serving_default>            -> score, percentile, reference_loss

the last where the rater carries a reference model; and each kind says itself what `serving_default`
is. All outputs are dicts; what scores returns `score` and `percentile`, float32 [B], B >= 0.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.models.rater_scores import ReferenceLoss
from dr_keras.rating.reference import ReferenceDistribution

# Names that `served` and the artefact give.
MADE_ELSEWHERE = ("serving_default", "get_metadata", "serve_metadata")
# 10 ** 18 is the highest power of ten that an int64 holds.
_DIGITS = 18
_LIMB = 10**9
_LARGEST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Signature:
    """One signature.

    Attributes:
      function: tensors, in the order of `inputs`, -> dict of tensors. A default value of an
        argument becomes the signature's default, which TensorFlow Serving fills in.
      inputs: one named TensorSpec an argument.
      warmup: inputs by which a server gets warm; None where it need not know this one.
      core: whether it is made of core TensorFlow operations alone in every rater of its kind.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: Sequence[tf.TensorSpec]
    warmup: Mapping[str, np.ndarray | np.generic] | None = None
    core: bool = False


@dataclasses.dataclass(frozen=True)
class References:
    """Distributions of scores, under which percentiles are taken.

    Attributes:
      units: of what the network scores at once: windows of text, images.
      documents: of whole documents, which may have several windows; `units` again where there is no
        difference.
    """

    units: ReferenceDistribution
    documents: ReferenceDistribution


class RaterKind:
    """A rater of one kind of data, ready to be exported.

    Attributes:
      kind: its name in `rater.json` and in `loading.LOADED_KINDS`.
      rater: the Keras model.
      reference: the frozen model, with its loss, of a rater that reads "reference_loss"; None of
        any other. It becomes part of the artefact.
      requires: modules that must be imported before the SavedModel loads.
      trackables: objects whose resources must be saved with the graph.
      assets: files to copy, by their path below `assets.extra/`.
    """

    kind: ClassVar[str]
    _makers: ClassVar[dict[str, Callable]] = {}

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        cls._makers = {}

    def __init__(self, rater: keras.Model, reference: ReferenceLoss | None = None):
        self.rater, self.reference = rater, reference
        self.requires: list[str] = []
        self.trackables: list = []
        self.assets: dict[str, str] = {}

    @classmethod
    def signature(cls, name: str) -> Callable:
        """Decorator: `make(rater, served, references)` gives the Signature `name` of this kind.

        `rater` is the RaterKind to be exported, `served` its `serving_default`. Where `make` gives
        None, this rater has no such signature.

        Raises:
          ConfigurationError: the kind has a signature of this name.
        """
        if name in cls._makers or name in MADE_ELSEWHERE:
            raise ConfigurationError(
                f"{cls.__name__} has a signature {name!r} already: choose another name."
            )

        def register(make: Callable) -> Callable:
            cls._makers[name] = make
            return make

        return register

    def signatures(self, references: References) -> dict[str, Signature]:
        """All signatures but those of the metadata."""
        served = self.served(references)
        makers: dict[str, Callable] = {}
        for base in reversed(type(self).__mro__):
            makers |= vars(base).get("_makers", {})
        made = {name: make(self, served, references) for name, make in makers.items()}
        return {"serving_default": served, **{name: one for name, one in made.items() if one}}

    @property
    def models(self) -> list[keras.Model]:
        """All whose weights decide the scores."""
        return [self.rater, *([self.reference.model] if self.reference else [])]

    def facts(self) -> dict:
        """What `rater.json` says of this kind beside what it says of all; JSON-able.

        Part of the rater's fingerprint, so that raters that score differently have different ones.
        """
        raise NotImplementedError

    def served(self, references: References) -> Signature:
        """`serving_default`: what the rater scores."""
        raise NotImplementedError

    def reference_losses(self, *values: tf.Tensor) -> tf.Tensor:
        """The reference model's losses, float32 [B], of the inputs of `serving_default`."""
        raise NotImplementedError

    def parse(self, examples: tf.Tensor) -> Sequence[tf.Tensor]:
        """The inputs of `serving_default` from serialised tf.train.Examples, string [B]."""
        raise NotImplementedError

    def example(self) -> tf.train.Example | None:
        """One by which a server gets warm."""
        return None


@RaterKind.signature("serve_tf_examples")
def _serve_tf_examples(rater: RaterKind, served: Signature, references: References) -> Signature:
    spec = tf.TensorSpec([None], tf.string, name="examples")
    example = rater.example()
    warmup = example and {"examples": np.array([example.SerializeToString()], object)}
    return Signature(lambda examples: served.function(*rater.parse(examples)), [spec], warmup)


@RaterKind.signature("keep_probability")
def _keep_probability(rater: RaterKind, served: Signature, references: References) -> Signature:
    fraction = tf.TensorSpec([], tf.float64, name="discard_fraction")
    size = tf.TensorSpec([], tf.int32, name="batch_size")

    def keep_probability(*values):
        *scored, discard_fraction, batch_size = values
        return with_keep_probability(served.function(*scored), discard_fraction, batch_size)

    warmup: dict[str, np.ndarray | np.generic] = {
        "discard_fraction": np.float64(0.5),
        "batch_size": np.int32(64),
    }
    warmup |= {**(served.warmup or {})}
    return Signature(keep_probability, [*served.inputs, fraction, size], warmup)


@RaterKind.signature("reference_loss")
def _reference_loss(
    rater: RaterKind, served: Signature, references: References
) -> Signature | None:
    if rater.reference is None:
        return None

    def reference_loss(*values):
        return {**served.function(*values), "reference_loss": rater.reference_losses(*values)}

    return Signature(reference_loss, served.inputs)


def outputs(
    scores: tf.Tensor, reference: ReferenceDistribution, empty: tf.Tensor | None = None
) -> dict[str, tf.Tensor]:
    """Scores and percentiles, as every signature that scores returns them.

    Args:
      scores: [B].
      reference: whose percentiles to take.
      empty: bool [B], inputs that hold nothing to score: they get the lowest score of the reference
        and percentile 0, because there is nothing to learn from them and no network saw one.

    Returns:
      `score` and `percentile`, float32 [B].
    """
    scores = tf.cast(scores, tf.float32)
    if empty is not None:
        scores = tf.where(empty, reference.quantiles[0], scores)
    percentile = reference.percentile(scores)
    if empty is not None:
        percentile = tf.where(empty, 0.0, percentile)
    return {"score": scores, "percentile": percentile}


def with_keep_probability(
    scored: dict[str, tf.Tensor], discard_fraction: tf.Tensor, batch_size: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Adds `keep_probability` float32 [B]: the chance to survive batch top-K.

    P[Binomial(B_up - 1, 1 - p) <= B - 1] = I_p(B_up - B, B), as in `rating.fractions`, but
    with fraction and batch size known only when the graph runs.

    Args:
      scored: with `percentile`.
      discard_fraction: float64 scalar, f in [0, 1).
      batch_size: int32 scalar, B, examples kept of each oversized batch.
    """
    batch_size = tf.cast(batch_size, tf.int64)
    dropped = tf.cast(oversized_batch(batch_size, discard_fraction) - batch_size, tf.float64)
    p = tf.cast(scored["percentile"], tf.float64)
    # betainc has no limit at a = 0, where everything is kept
    ones = tf.ones_like(p)
    kept = tf.cast(batch_size, tf.float64)
    chance = tf.math.betainc(tf.maximum(dropped, 1.0) * ones, kept * ones, p)
    chance = tf.where(dropped > 0, chance, ones)
    return {**scored, "keep_probability": tf.cast(chance, tf.float32)}


def oversized_batch(batch_size: tf.Tensor, discard_fraction: tf.Tensor) -> tf.Tensor:
    """B_up in a graph: the exact ceiling of B / (1 - f), f the decimal that was written.

    The same number as `rating.fractions.oversized_batch`, without a division of floats.

    Args:
      batch_size: int64 scalar, at least 1.
      discard_fraction: float64 scalar in [0, 1); stands for its shortest decimal.

    Returns:
      int64 scalar.

    Raises (when the graph runs):
      InvalidArgumentError: fraction or batch size out of range, or B_up of 2**31 or more.
    """
    checks = [
        tf.debugging.Assert(
            (discard_fraction >= 0) & (discard_fraction < 1),
            ["discard_fraction must be in [0, 1), for example 0.5; it is", discard_fraction],
        ),
        tf.debugging.Assert(batch_size >= 1, ["batch_size must be at least 1; it is", batch_size]),
    ]
    with tf.control_dependencies(checks):
        kept = 10**_DIGITS - _decimal(discard_fraction)  # 1 - f in units of 10**-18, exactly
    guess = tf.cast(batch_size, tf.float64) / (tf.cast(kept, tf.float64) / 10.0**_DIGITS)
    small = tf.debugging.Assert(
        guess < _LARGEST, ["B / (1 - discard_fraction) must be below 2**31; it is", guess]
    )
    with tf.control_dependencies([small]):
        candidates = tf.cast(tf.math.round(guess), tf.int64) + tf.range(-2, 3, dtype=tf.int64)
    # The smallest c with c * kept >= B * 10**18, a product of two limbs of nine digits.
    high, low = kept // _LIMB, kept % _LIMB
    enough = candidates * high + candidates * low // _LIMB >= batch_size * _LIMB
    return tf.boolean_mask(candidates, enough)[0]


def _decimal(value: tf.Tensor) -> tf.Tensor:
    """The shortest decimal that reads as a float64 in [0, 1), in units of 10**-18: int64.

    n / 10**k is rounded correctly where n < 2**53, and so equals `value` just where the decimal
    reads as it. Beyond that, where 17 digits were written, the last may be lost.
    """
    powers = tf.constant([10.0**k for k in range(_DIGITS + 1)], tf.float64)
    numerators = tf.math.round(value * powers)
    reads_as_it = tf.equal(numerators / powers, value) & (numerators < 2.0**53)
    digits = tf.argmax(tf.concat([reads_as_it, [True]], axis=0), output_type=tf.int32)
    digits = tf.where(tf.reduce_any(reads_as_it), digits, 15)
    units = tf.constant([10 ** (_DIGITS - k) for k in range(_DIGITS + 1)], tf.int64)
    return tf.cast(tf.gather(numerators, digits), tf.int64) * tf.gather(units, digits)
