"""Layers that language models and raters share, put together from keras_hub's."""

import keras
import keras_hub

# Standard deviation of embedding initialisation; GPT-2's value, also keras_hub's choice.
EMBEDDING_DEVIATION = 0.02


def check_width(width: int, heads: int, name: str) -> None:
    """Raises ValueError unless `heads` divides `width`, both at least 1."""
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(
            f"{name}: width {width} must be a multiple of heads {heads}, both at least 1"
        )


def approximate_gelu(x):
    """Tanh form of GELU: its second derivative is made of cheap elementwise operations."""
    return keras.activations.gelu(x, approximate=True)


def output_dtype(policy: str | None = None) -> str:
    """float32 for logits and scores also where the policy computes in 16 bits; float64 stays."""
    policy = keras.dtype_policies.get(policy) if policy else keras.config.dtype_policy()
    return "float64" if policy.compute_dtype == "float64" else "float32"


def token_embedding(
    vocabulary_size: int, width: int, name: str = "token_embedding", dtype: str | None = None
):
    """Embedding whose transpose also gives logits (`layer(h, reverse=True)`)."""
    return keras_hub.layers.ReversibleEmbedding(
        vocabulary_size,
        width,
        tie_weights=True,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=EMBEDDING_DEVIATION),
        name=name,
        dtype=dtype,
    )


class HiddenAndUnembedding(keras.layers.Layer):
    """Hands a loss the hidden states and the tied embedding that makes logits of them.

    Args:
      embedding: the `token_embedding`, whose variable this layer shares.
    """

    def __init__(self, embedding: keras.layers.Layer, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def build(self, input_shape):
        del input_shape  # the embedding is built where it is called

    def call(self, hidden):
        table = keras.ops.cast(self.embedding.embeddings, self.compute_dtype)
        return {"hidden": hidden, "unembedding": table}


def position_embedding(
    sequence_length: int, name: str = "position_embedding", dtype: str | None = None
):
    """Learned positions, added to the token embedding."""
    return keras_hub.layers.PositionEmbedding(
        sequence_length,
        initializer=keras.initializers.RandomNormal(stddev=EMBEDDING_DEVIATION),
        name=name,
        dtype=dtype,
    )


def block_arguments(heads: int, feedforward: int, dropout: float) -> dict:
    """Arguments common to keras_hub's TransformerEncoder and TransformerDecoder."""
    return dict(
        intermediate_dim=feedforward,
        num_heads=heads,
        dropout=dropout,
        activation=approximate_gelu,
        normalize_first=True,
    )


keras.saving.register_keras_serializable(package="dr_keras")(approximate_gelu)
