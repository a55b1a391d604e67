"""Batches of windows of like length, so that little of what a rater computes is padding.

Windows are sorted by length, cut into batches, and each batch is cut to the smallest of a few
widths that holds its longest window. Widths are few, because accelerators compile a program for
each.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses

import numpy as np

from dr_keras.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, eq=False)
class Bucket:
    """One batch.

    Attributes:
      rows: int64 [n], which windows are in it.
      width: tokens that each is cut or padded to.
    """

    rows: np.ndarray
    width: int


def bucket_widths(longest: int, shortest: int = 32) -> tuple[int, ...]:
    """Widths from `shortest` to `longest`, alternately 1.5 and 4/3 times the one before.

    32, 48, 64, 96, 128, 192, ... and `longest` itself: 9 widths for 512 tokens, 13 for 2048. A
    window fills at least two thirds of the smallest width that holds it, or is shorter than
    `shortest`.

    Raises:
      ConfigurationError: a width below 1.
    """
    if longest < 1 or shortest < 1:
        raise ConfigurationError(
            f"bucket_widths needs widths of at least 1 token, not longest {longest} and shortest"
            f" {shortest}."
        )
    widths, power = set(), shortest
    while power < longest:
        widths.update({power, min(power + (power + 1) // 2, longest)})
        power *= 2
    return tuple(sorted(widths | {longest}))


def length_buckets(
    lengths: Sequence[int] | np.ndarray, batch_size: int, widths: Sequence[int]
) -> Iterator[Bucket]:
    """Groups windows of like length.

    Args:
      lengths: int [N], tokens in each window, at least 0.
      batch_size: windows in a batch; only the last batch has fewer.
      widths: ascending; see `bucket_widths`.

    Yields:
      Batches, the longest windows first (too little memory shows at once), that together hold every
      window once. Of equal lengths the earlier window comes first.

    Raises:
      ConfigurationError: batch size below 1, or a window longer than the last width.
    """
    lengths = np.asarray(lengths, np.int64)
    widths = np.asarray(widths, np.int64)
    if batch_size < 1:
        raise ConfigurationError(f"batch_size is {batch_size}: give an integer of at least 1.")
    if lengths.size and (not widths.size or lengths.max() > widths[-1]):
        raise ConfigurationError(
            f"A window of {lengths.max()} tokens fits none of the widths {widths.tolist()}: cut"
            " windows to the longest width, or add a wider one."
        )
    order = np.argsort(-lengths, kind="stable")
    for first in range(0, order.size, batch_size):
        rows = order[first : first + batch_size]
        yield Bucket(rows, int(widths[np.searchsorted(widths, lengths[rows[0]])]))


def score_by_length(
    score: Callable[[np.ndarray], np.ndarray],
    tokens: np.ndarray,
    batch_size: int,
    widths: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Scores windows in batches of like length.

    Args:
      score: int32 [n, W] -> scores [n], for any W of `widths`. Padding must not change scores.
      tokens: int32 [N, S], padded with 0 at the end.
      batch_size: windows in a batch.
      widths: ascending, the last at least as long as any window; None: `bucket_widths(S)`.
      progress: called after each batch with the number of windows scored by it.

    Returns:
      float32 [N], in the order of `tokens`.
    """
    tokens = np.asarray(tokens)
    scores = np.zeros(len(tokens), np.float32)
    # up to the last real token: a hole in the middle of a window is kept
    lengths = np.where(tokens != 0, np.arange(1, tokens.shape[1] + 1), 0).max(axis=1, initial=0)
    for bucket in length_buckets(lengths, batch_size, widths or bucket_widths(tokens.shape[1])):
        scores[bucket.rows] = np.asarray(score(tokens[bucket.rows, : bucket.width]))
        if progress is not None:
            progress(len(bucket.rows))
    return scores
