"""Texts of any length in a graph: cut into windows, scored, and put together again.

A text of n tokens has ceil(n / S) windows, cut every S tokens, the last one shorter. Its score is
the mean of its windows' scores, each weighted by its number of tokens. A text without any token
(the empty text) has one window of nothing but padding.
"""

from collections.abc import Callable

import tensorflow as tf

from dr_keras.data.tokenizers import Tokenizer


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
    ids = tokenizer.tensor_encode(text, None)  # as wide as the longest
    return ids[ids != 0], tf.math.count_nonzero(ids, axis=1, dtype=tf.int32)


def score_in_chunks(
    score: Callable, tokens: tf.Tensor, chunk: int, cut_padding: bool = False
) -> tf.Tensor:
    """Scores of any number of windows, at most `chunk` at a time, which bounds the memory.

    Args:
      score: int32 [n, S] -> float32 [n].
      tokens: int32 [N, S], N >= 0, padded at the end.
      chunk: rows in one call.
      cut_padding: whether `score` takes narrower windows too: it then gets the width that the
        longest window of the chunk needs.

    Returns:
      float32 [N].
    """
    total = tf.shape(tokens)[0]
    steps = -(-total // chunk)
    scores = tf.TensorArray(tf.float32, size=steps, infer_shape=False, element_shape=[None])

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
    return tf.cond(total > 0, scores.concat, lambda: tf.zeros([0], tf.float32))


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
