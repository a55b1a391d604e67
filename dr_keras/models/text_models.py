"""Transformers of text: a causal language model and a rater.

Language models are the inner models of meta-training and the models of evaluation; a rater is not
causal and gives one score to a window of tokens, or to each of them.
"""

from collections.abc import Sequence

import keras

from dr_keras.models import layers
from dr_keras.models.inner_state import score_of, state_inputs
import gin


@gin.configurable
def language_model(
    vocabulary_size: int = gin.REQUIRED,
    sequence_length: int = gin.REQUIRED,
    width: int = 64,
    layer_count: int = 2,
    heads: int = 2,
    feedforward: int | None = None,
    dropout: float = 0.0,
    positions: str = "rotary",
    recompute_blocks: bool = False,
    chunked_logits: bool = False,
    dtype: str | None = None,
) -> keras.Model:
    """A decoder-only transformer with tied embeddings and pre-normalisation.

    Args:
      vocabulary_size: number of token ids; id 0 is padding.
      sequence_length: S, tokens in a window.
      width: size of the residual stream.
      layer_count: transformer blocks.
      heads: attention heads; must divide `width`.
      feedforward: hidden units of each block's MLP; 4 x width when None.
      dropout: rate, with Keras' stateless seeds carried in the model's non-trainable state.
      positions: "rotary", queries and keys turned by their positions (Su et al. 2021), or
        "learned", a table [S, width] added to the embeddings. The paper's models (Hoffmann et al.
        2022) know relative positions, too; learned ones take far longer to be of use: see
        docs/results.md.
      recompute_blocks: each block is run again in every backward pass instead of keeping its
        activations, at first and second order: less memory, the same values; see
        `RecomputedBlocks`.
      chunked_logits: the model returns {"hidden": [B, S, width], "unembedding":
        [vocabulary_size, width]}, of which `next_token_loss` makes logits a few positions at a
        time: less memory where the vocabulary is large, the same values.
      dtype: Keras' dtype policy; "mixed_bfloat16" computes in bfloat16 with parameters, logits,
        losses, updates and meta-gradient in float32. None: the global policy.

    Returns:
      A Keras model from {"tokens": int32 [B, S]} to logits [B, S, vocabulary_size], float32
      (float64 under that policy), or to the dict of `chunked_logits`.
      Logits at position i are for the token at position i + 1.

    Raises:
      ValueError: `heads` does not divide `width`, or leaves an odd part where positions are
        rotary.
    """
    layers.check_width(width, heads, positions, "language_model")
    tokens = keras.Input((sequence_length,), dtype="int32", name="tokens")
    embedding = layers.token_embedding(vocabulary_size, width, dtype=dtype)
    hidden = layers.transformer(
        embedding(tokens),
        causal=True,
        sequence_length=sequence_length,
        positions=positions,
        layer_count=layer_count,
        heads=heads,
        feedforward=feedforward,
        dropout=dropout,
        recompute_blocks=recompute_blocks,
        dtype=dtype,
    )
    if chunked_logits:
        outputs = layers.HiddenAndUnembedding(embedding, dtype=dtype, name="unembedding")(hidden)
    else:
        outputs = keras.ops.cast(embedding(hidden, reverse=True), layers.output_dtype(dtype))
    return keras.Model({"tokens": tokens}, outputs, name="language_model")


@gin.configurable
def text_rater(
    vocabulary_size: int = gin.REQUIRED,
    sequence_length: int = gin.REQUIRED,
    width: int = 32,
    layer_count: int = 2,
    heads: int = 2,
    feedforward: int | None = None,
    dropout: float = 0.0,
    positions: str = "rotary",
    recompute_blocks: bool = False,
    per_token: bool = False,
    features: Sequence[str] = (),
) -> keras.Model:
    """phi_eta(x): a bidirectional transformer, mean over real tokens, one linear score.

    The paper's rater is a 50M-parameter non-causal transformer (section 4). The score's layer
    starts at zero, so that training begins from uniform weights and the first meta-gradients
    say which way to leave them; the paper does not publish its initialisation.

    Args:
      vocabulary_size: number of token ids; id 0 is padding and is masked.
      sequence_length: S, the most tokens in a window.
      width, layer_count, heads, feedforward, dropout, positions, recompute_blocks: as for
        `language_model`.
      per_token: a score for each token, without the mean; what is weighed are then losses by token
        (`token_loss`).
      features: what it reads of the inner model: "inner_loss", "reference_loss", "age"; see
        `dr_keras.models.inner_state`.

    Returns:
      A Keras model from {"tokens": int32 [B, S']}, S' <= S, and an input for each of `features`, to
      scores [B], or [B, S'] by token, float32 (float64 under that policy). Padding after the last
      token changes nothing but the cost. A row that is nothing but padding scores the last layer's
      bias; a token of padding scores 0.

    Raises:
      ConfigurationError: there is no such feature.
      ValueError: `heads` does not divide `width`, or leaves an odd part where positions are
        rotary.
    """
    layers.check_width(width, heads, positions, "text_rater")
    # Any width up to S: a filter that sorts by length need not compute padding. Meta-training's
    # batches have static shapes, which is what XLA goes by.
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    mask = keras.ops.not_equal(tokens, 0)
    hidden = layers.transformer(
        layers.token_embedding(vocabulary_size, width)(tokens),
        causal=False,
        sequence_length=sequence_length,
        positions=positions,
        layer_count=layer_count,
        heads=heads,
        feedforward=feedforward,
        dropout=dropout,
        recompute_blocks=recompute_blocks,
        padding_mask=mask,
    )
    state = state_inputs("text_rater", features, per_token)
    inputs = {"tokens": tokens, **state}
    if per_token:
        scores = score_of(hidden, state)
        scores = scores * keras.ops.cast(mask, scores.dtype)
        return keras.Model(inputs, scores, name="text_rater")
    real = keras.ops.expand_dims(keras.ops.cast(mask, hidden.dtype), -1)
    total = keras.ops.maximum(keras.ops.sum(real, axis=1), keras.ops.ones_like(real[:, 0]))
    pooled = keras.ops.sum(hidden * real, axis=1) / total
    return keras.Model(inputs, score_of(pooled, state), name="text_rater")
