"""What a rater may read beside the example: the state of the inner model that trains on it.

    inner_loss      the example's loss under the member that is about to be updated
    reference_loss  its loss under a frozen reference model; the difference is what the member has
                    still to learn, the score of RHO-LOSS (Mindermann et al., 2022)
    age             log(1 + updates since the member began)

Losses are [B], or [B, S] where the rater scores tokens; age is [B]. A rater reads one by having a
Keras input of that name, which it does not share with a column of the data. The first and the last
are known inside meta-training alone; the second wherever the reference model is.
"""

from collections.abc import Mapping, Sequence

import keras

from dr_keras.errors import ConfigurationError
from dr_keras.models import layers

FEATURES = ("inner_loss", "reference_loss", "age")
# Of these, what only a member of meta-training can say.
OF_MEMBER = ("inner_loss", "age")


def state_inputs(rater: str, features: Sequence[str], per_token: bool = False) -> dict:
    """Keras inputs of the features, by name.

    Args:
      rater: how an error calls what is built.
      features: of `FEATURES`.
      per_token: losses are by token.

    Raises:
      ConfigurationError: there is no such feature, or it is named twice.
    """
    if isinstance(features, str) or set(features) - {*FEATURES}:
        raise ConfigurationError(
            f"{rater}.features is {features!r}: it must be a list of {', '.join(FEATURES)}."
        )
    if len(set(features)) < len(features):
        raise ConfigurationError(f"{rater}.features is {features!r}: name each feature once.")
    shapes = {name: (None,) if per_token and name != "age" else () for name in features}
    return {
        name: keras.Input(shape, name=name, dtype=layers.output_dtype())
        for name, shape in shapes.items()
    }


def score_of(content, state: Mapping):
    """A linear score of what a rater sees, 0 before any training.

    Features of the state join before it: as they are, so that differences of losses are at hand,
    and through one hidden layer with the content, so that what they mean may depend on it.

    Args:
      content: [B, width], or [B, S, width] for scores of tokens.
      state: inputs by name, as `state_inputs` makes them.

    Returns:
      [B] or [B, S], float32 (float64 under that policy).
    """
    dtype = layers.output_dtype()
    if state:
        width = content.shape[-1]
        content = keras.ops.cast(content, dtype)  # losses, in sixteen bits, would lose differences
        values = [_beside(content, value) for value in state.values()]
        both = keras.layers.Concatenate(name="content_and_state", dtype=dtype)([content, *values])
        hidden = keras.layers.Dense(
            width, activation=layers.approximate_gelu, name="joined", dtype=dtype
        )(both)
        content = keras.layers.Concatenate(name="with_joined", dtype=dtype)([both, hidden])
    score = keras.layers.Dense(1, kernel_initializer="zeros", name="score", dtype=dtype)(content)
    return keras.ops.squeeze(score, axis=-1)


def _beside(content, value):
    """A feature as one more column of the content."""
    column = keras.ops.expand_dims(value, -1)
    if len(column.shape) < len(content.shape):  # one value for all tokens
        column = keras.ops.expand_dims(column, -1) * keras.ops.ones_like(content[..., :1])
    return column
