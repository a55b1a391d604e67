"""Windows of which a span is noise: what a rater of tokens is for, with known answers.

An example's weight would have to throw away the good half of such a window with the bad one.
"""

from collections.abc import Callable
import dataclasses

import numpy as np

from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.splits import unit_hash
from dr_keras.errors import ConfigurationError, DataError
import gin


@gin.configurable
def noisy_spans(
    data: Callable[[], Parts] | Parts = gin.REQUIRED,
    least: float = 0.25,
    most: float = 0.75,
    fraction: float = 1.0,
    seed: int = 0,
) -> Parts:
    """Parts whose train windows each hold a span of noise; what is held out stays as it is.

    Args:
      data: parts of token windows, or a function that returns them, such as @text_data.
      least, most, fraction, seed: as for `with_noisy_spans`.

    Raises:
      ConfigurationError: shares out of their range.
      DataError: the examples have no tokens.
    """
    parts = data() if callable(data) else data
    train = with_noisy_spans(parts.train, least, most, fraction, seed)
    return dataclasses.replace(parts, train=train)


def with_noisy_spans(
    examples: ExampleSet,
    least: float = 0.25,
    most: float = 0.75,
    fraction: float = 1.0,
    seed: int = 0,
) -> ExampleSet:
    """Token windows with a span replaced by ids drawn evenly from all that the set has.

    A span begins anywhere and goes on at the window's start where it reaches the end, so that every
    place is noise equally often: a token's position says nothing about it. Padding stays. What
    happens to a window is decided by a hash of seed and id.

    Args:
      examples: with `tokens` int [N, S], 0 is padding.
      least, most: the share of a window's tokens that is noise is uniform between these.
      fraction: share of the windows that have a span.
      seed: another seed puts it elsewhere.

    Returns:
      The set with new tokens and the labels `noise` bool [N, S], which of them they are, and
      `level` float32 [N], their share.

    Raises:
      ConfigurationError: shares out of their range.
      DataError: the examples have no tokens.
    """
    if not (0 <= least <= most <= 1 and 0 <= fraction <= 1):
        raise ConfigurationError(
            f"noisy_spans needs 0 <= least <= most <= 1 and fraction in [0, 1]; they are {least},"
            f" {most} and {fraction}."
        )
    if "tokens" not in examples.features:
        raise DataError(
            f"The set '{examples.name}' has the features {sorted(examples.features)}: noisy_spans"
            " needs windows of tokens."
        )
    tokens = examples.features["tokens"]
    noise = np.zeros(tokens.shape, bool)
    replaced = tokens.copy()
    known = np.unique(tokens[tokens != 0])
    for row, identity in enumerate(examples.ids):
        rng = np.random.default_rng(int(unit_hash("noisy span", seed, identity) * 2**53))
        real = np.flatnonzero(tokens[row])
        share = least + (most - least) * rng.random()
        start, length = int(rng.integers(max(len(real), 1))), round(share * len(real))
        if rng.random() >= fraction or not length:
            continue
        span = np.roll(real, -start)[:length]
        noise[row, span] = True
        replaced[row, span] = rng.choice(known, length)
    lengths = np.maximum(np.count_nonzero(tokens, axis=1), 1)
    level = (noise.sum(axis=1) / lengths).astype(np.float32)
    return dataclasses.replace(
        examples,
        features={**examples.features, "tokens": replaced},
        labels={**examples.labels, "noise": noise, "level": level},
    )
