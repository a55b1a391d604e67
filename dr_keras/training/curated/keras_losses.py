"""Losses as meta-training weighs them, of what `compile` is given."""

from collections.abc import Callable

import keras
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.training.curated.elements import LABEL


def per_example(loss) -> Callable:
    """`(outputs, batch) -> losses`, [B] or [B, S], see `dr_keras.models.losses`.

    Args:
      loss: such a function, taken as it is; or what Keras has, a `keras.losses.Loss` or its name,
        for elements (x, y): its values are averaged over all axes but the first.

    Raises:
      ConfigurationError: there is no such loss.
    """
    name = loss if isinstance(loss, str) else type(loss).__name__
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError as error:
            raise ConfigurationError(f"compile: Keras has no loss {name!r}.") from error
        function = loss.call if isinstance(loss, keras.losses.Loss) else loss
    elif isinstance(loss, keras.losses.Loss):
        function = loss.call
    elif callable(loss):
        return loss
    else:
        raise ConfigurationError(
            f"compile: the loss is {loss!r}: give (outputs, batch) -> losses of the examples, such"
            " as next_token_loss, or a loss of Keras."
        )

    def example_loss(outputs, batch):
        if LABEL not in batch:
            raise ConfigurationError(
                f"The loss {name} compares outputs with the feature '{LABEL}', and the batch has"
                f" {sorted(batch)}: give elements (x, y), or a loss that reads the batch."
            )
        values = tf.convert_to_tensor(function(batch[LABEL], outputs))
        return tf.reduce_mean(tf.reshape(values, [values.shape[0] or tf.shape(values)[0], -1]), 1)

    example_loss.__name__ = name
    return example_loss
