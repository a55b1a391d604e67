"""Causal transformer language models: inner models of meta-training and models of evaluation."""

import gin
import keras
import keras_hub

from dr_keras.models import layers


@gin.configurable
def language_model(
    vocabulary_size: int = gin.REQUIRED,
    sequence_length: int = gin.REQUIRED,
    width: int = 64,
    layer_count: int = 2,
    heads: int = 2,
    feedforward: int | None = None,
    dropout: float = 0.0,
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

    Returns:
      A Keras model from {"tokens": int32 [B, S]} to logits [B, S, vocabulary_size], float32
      (float64 under that policy).
      Logits at position i are for the token at position i + 1.

    Raises:
      ValueError: `heads` does not divide `width`.
    """
    layers.check_width(width, heads, "language_model")
    tokens = keras.Input((sequence_length,), dtype="int32", name="tokens")
    embedding = layers.token_embedding(vocabulary_size, width)
    hidden = embedding(tokens)
    hidden = hidden + layers.position_embedding(sequence_length)(hidden)
    for index in range(layer_count):
        hidden = keras_hub.layers.TransformerDecoder(
            **layers.block_arguments(heads, feedforward or 4 * width, dropout),
            name=f"block_{index}",
        )(hidden)
    hidden = keras.layers.LayerNormalization(name="final_norm")(hidden)
    logits = keras.ops.cast(embedding(hidden, reverse=True), layers.output_dtype())
    return keras.Model({"tokens": tokens}, logits, name="language_model")
