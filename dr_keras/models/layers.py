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


def output_dtype() -> str:
    """float32 for logits and scores also where the policy computes in 16 bits; float64 stays."""
    return "float64" if keras.config.dtype_policy().compute_dtype == "float64" else "float32"


def token_embedding(vocabulary_size: int, width: int, name: str = "token_embedding"):
    """Embedding whose transpose also gives logits (`layer(h, reverse=True)`)."""
    return keras_hub.layers.ReversibleEmbedding(
        vocabulary_size,
        width,
        tie_weights=True,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=EMBEDDING_DEVIATION),
        name=name,
    )


def position_embedding(sequence_length: int, name: str = "position_embedding"):
    """Learned positions, added to the token embedding."""
    return keras_hub.layers.PositionEmbedding(
        sequence_length,
        initializer=keras.initializers.RandomNormal(stddev=EMBEDDING_DEVIATION),
        name=name,
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
