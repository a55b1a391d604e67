"""Texts of any length: cut into windows, scored, and put together again.

A text of n tokens has ceil(n / S) windows, cut every S tokens, the last one shorter. Its score is
the mean of its windows' scores, each weighted by its number of tokens. A text without any token
(the empty text) has one window of nothing but padding.

A text that is too long to be cut in one go is cut a few windows at a time (`window_blocks`). They
are the windows of the whole text, to the token. A text of bytes may be taken apart anywhere. Other
tokenizers look at what stands around a token, and at the beginning of a text, so their texts are
taken apart only at white space, and only where the tokens around it come out the same with and
without the cut.

Outside a graph, windows are scored in batches of like length (`score_by_length`), so that little of
what a rater computes is padding: sorted by length, cut into batches, and each batch cut to the
smallest of a few widths that holds its longest window. Widths are few, because accelerators compile
a program for each.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
from typing import Any, cast

import numpy as np
import tensorflow as tf

from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import ConfigurationError

# Tokens of a text: bytes -> int32 [n], without padding.
Encode = Callable[[bytes], np.ndarray]

STEP_BYTES = 1 << 20
_CONTEXT = 256  # bytes on both sides of a cut that have to agree
_TRIES = 32  # white spaces tried before the piece is made longer
_SPACES = (b" ", b"\n", b"\t")


# --------------------------------------------------------------------------------------- in a graph


def text_windows(
    tokenizer: Tokenizer, text: tf.Tensor, sequence_length: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts texts into windows.

    Args:
      tokenizer: turns text into ids; 0 is padding.
      text: string [B], any bytes.
      sequence_length: S, tokens in a window.

    Returns:
      Tokens int32 [N, S], padded with 0, and the row of `text` that each window is from, int32 [N],
      ascending. Every text has at least one window.
    """
    ids, lengths = _flat_tokens(tokenizer, text)
    counts = tf.maximum(1, -(-lengths // sequence_length))
    owner = tf.repeat(tf.range(tf.shape(lengths)[0]), counts)
    first_window = tf.cumsum(counts, exclusive=True)
    place = tf.range(tf.shape(owner)[0]) - tf.gather(first_window, owner)
    sizes = tf.clip_by_value(
        tf.gather(lengths, owner) - place * sequence_length, 0, sequence_length
    )
    ragged = tf.RaggedTensor.from_row_lengths(ids, sizes, validate=False)
    tokens = ragged.to_tensor(default_value=0, shape=[None, sequence_length])
    return tf.ensure_shape(tokens, [None, sequence_length]), owner


def _flat_tokens(tokenizer: Tokenizer, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """All ids one after the other, int32 [sum of lengths], and the lengths, int32 [B].

    Padding every text to the longest would need memory for B times the longest text.
    """
    if tokenizer.name == "byte":
        # bytes join without changing each other's ids, so one text is as good as many
        lengths = tf.strings.length(text)
        total = tf.reduce_sum(lengths)
        joined = tf.strings.reduce_join(text, axis=0)[tf.newaxis]
        return tokenizer.tensor_encode(joined, tf.maximum(total, 1))[0, :total], lengths
    # None: as wide as the longest, which only these tokenizers take
    ids = cast(Any, tokenizer).tensor_encode(text, None)
    return ids[ids != 0], tf.math.count_nonzero(ids, axis=1, dtype=tf.int32)


def score_in_chunks(
    score: Callable,
    tokens: tf.Tensor,
    chunk: int,
    cut_padding: bool = False,
    shape: tuple[int, ...] = (),
) -> tf.Tensor:
    """Scores of any number of windows, at most `chunk` at a time, which bounds the memory.

    Args:
      score: int32 [n, S] -> float32 [n, *shape].
      tokens: int32 [N, S], N >= 0, padded at the end.
      chunk: rows in one call.
      cut_padding: whether `score` takes narrower windows too: it then gets the width that the
        longest window of the chunk needs.
      shape: of what is scored in a window: () for the window, (S,) for its tokens.

    Returns:
      float32 [N, *shape].
    """
    total = tf.shape(tokens)[0]
    steps = -(-total // chunk)
    scores = tf.TensorArray(tf.float32, size=steps, infer_shape=False, element_shape=[None, *shape])

    def body(step, scores):
        rows = tokens[step * chunk : (step + 1) * chunk]
        if cut_padding:
            used = tf.reduce_max(tf.math.count_nonzero(rows, axis=1, dtype=tf.int32))
            rows = rows[:, : tf.maximum(used, 1)]
        return step + 1, scores.write(step, score(rows))

    _, scores = tf.while_loop(
        lambda step, _: step < steps, body, (tf.constant(0), scores), parallel_iterations=1
    )
    # a TensorArray of no elements cannot be joined
    return tf.cond(total > 0, scores.concat, lambda: tf.zeros([0, *shape], tf.float32))


def is_empty(tokens: tf.Tensor) -> tf.Tensor:
    """Rows that are nothing but padding: bool [N]."""
    return tf.reduce_all(tf.equal(tokens, 0), axis=1)


def document_scores(
    scores: tf.Tensor, tokens: tf.Tensor, owner: tf.Tensor, documents: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Length-weighted means of the windows' scores.

    Args:
      scores: float32 [N], of the windows.
      tokens: int32 [N, S], the windows.
      owner: int32 [N], the document of each.
      documents: int32 scalar, B.

    Returns:
      float32 [B], 0 for documents without a token, and bool [B], which documents those are.
    """
    # float64: a mean over thousands of windows must not depend on their order
    weights = tf.math.count_nonzero(tokens, axis=1, dtype=tf.float64)
    weighted = tf.where(weights > 0, weights * tf.cast(scores, tf.float64), 0.0)
    totals = tf.math.unsorted_segment_sum(weighted, owner, documents)
    sizes = tf.math.unsorted_segment_sum(weights, owner, documents)
    return tf.cast(tf.math.divide_no_nan(totals, sizes), tf.float32), sizes <= 0


def document_means(
    scores: np.ndarray, lengths: np.ndarray, owner: np.ndarray, documents: int
) -> tuple[np.ndarray, np.ndarray]:
    """As `document_scores`, outside a graph.

    Args:
      scores: float [N], of the windows.
      lengths: int [N], their tokens.
      owner: int [N], the document of each.
      documents: B.

    Returns:
      float64 [B], 0 for documents without a token, and their numbers of tokens, float64 [B].
    """
    weighted = np.where(lengths > 0, lengths * np.asarray(scores, np.float64), 0.0)
    sizes = np.bincount(owner, lengths, documents)
    return np.bincount(owner, weighted, documents) / np.maximum(sizes, 1), sizes


# ----------------------------------------------------------------------- long texts, piece by piece


def window_blocks(
    text: bytes,
    encode: Encode,
    sequence_length: int,
    cut_anywhere: bool,
    step_bytes: int | None = None,
) -> Iterator[np.ndarray]:
    """Cuts one text into windows, about `step_bytes` of it at a time.

    Args:
      text: any bytes.
      encode: the tokenizer.
      sequence_length: S, tokens in a window.
      cut_anywhere: whether the tokens of two halves are always those of the whole.
      step_bytes: bytes of text that are tokenized at once; more where no cut can be found. None:
        `STEP_BYTES`.

    Yields:
      int32 [n, S] with n >= 1: the windows in order; only the very last is padded, with 0. Nothing
      where the text has no token.
    """
    rest = np.zeros(0, np.int32)
    for piece in _pieces(text, None if cut_anywhere else encode, step_bytes or STEP_BYTES):
        ids = np.concatenate([rest, encode(piece)])
        whole = len(ids) // sequence_length * sequence_length
        if whole:
            yield ids[:whole].reshape(-1, sequence_length)
        rest = ids[whole:]
    if len(rest):
        yield np.pad(rest, (0, sequence_length - len(rest)))[np.newaxis]


def _pieces(text: bytes, encode: Encode | None, step_bytes: int) -> Iterator[bytes]:
    start, stop = 0, step_bytes
    while stop < len(text):
        cut = (stop, stop) if encode is None else _safe_cut(text, start, stop, encode)
        if cut is None:
            stop += step_bytes
            continue
        yield text[start : cut[0]]
        start, stop = cut[1], cut[1] + step_bytes
    yield text[start:]


def _safe_cut(text: bytes, start: int, stop: int, encode: Encode) -> tuple[int, int] | None:
    """Where a piece ends and the next one begins, which may leave out the space between."""
    place = stop
    for _ in range(_TRIES):
        place = max(text.rfind(space, start + 1, place) for space in _SPACES)
        if place < 0:
            return None
        left = text[max(start, place - _CONTEXT) : place]
        together = encode(left + text[place : place + _CONTEXT])
        for begin in (place, place + 1):
            right = encode(text[begin : place + _CONTEXT])
            if np.array_equal(together, np.concatenate([encode(left), right])):
                return place, begin
    return None


# --------------------------------------------------------------------------- batches of like length


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
    sizes = np.asarray(lengths, np.int64)
    fit = np.asarray(widths, np.int64)
    if batch_size < 1:
        raise ConfigurationError(f"batch_size is {batch_size}: give an integer of at least 1.")
    if sizes.size and (not fit.size or sizes.max() > fit[-1]):
        raise ConfigurationError(
            f"A window of {sizes.max()} tokens fits none of the widths {fit.tolist()}: cut"
            " windows to the longest width, or add a wider one."
        )
    order = np.argsort(-sizes, kind="stable")
    for first in range(0, order.size, batch_size):
        rows = order[first : first + batch_size]
        yield Bucket(rows, int(fit[np.searchsorted(fit, sizes[rows[0]])]))


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
