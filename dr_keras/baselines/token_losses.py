"""What single tokens lose under a trained model: what a teacher says of each, not of the mean."""

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.models.losses import token_counts, token_loss
from dr_keras.models.model_inputs import model_inputs
from dr_keras.training.batches import in_order


def token_nats(
    model: keras.Model, weights: list[np.ndarray], examples: ExampleSet, batch_size: int
) -> np.ndarray:
    """Negative log-likelihood of each token given those before it, float32 [N, S].

    NaN where nothing is predicted: the first token, and padding.

    Args:
      model: of language; it has its own weights again afterwards.
      weights: that it is lent, in the order of `get_weights`.
      examples: windows of tokens.
      batch_size: windows at once.
    """

    def losses(batch):
        outputs = model(model_inputs(model, batch), training=False)
        return tf.where(token_counts(batch) > 0, token_loss(outputs, batch), np.nan)

    compiled = tf.function(losses, jit_compile=True, autograph=False)
    own = model.get_weights()
    try:
        model.set_weights(weights)
        found = [compiled(batch).numpy() for batch in in_order(examples, batch_size)]
    finally:
        model.set_weights(own)
    return np.concatenate(found)[: len(examples)].astype(np.float32)
