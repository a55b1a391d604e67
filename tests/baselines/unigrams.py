"""A trainer whose models are worked out by hand: counts of tokens, each counted once more."""

import types

import keras
import numpy as np

from dr_keras.models.losses import next_token_sums
from dr_keras.training.target_counts import count_targets


def model(vocabulary, length):
    """Logits of the next token from the last: a row of the kernel, and a bias."""
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    one_hot = keras.layers.Lambda(lambda t: keras.ops.one_hot(t, vocabulary))(tokens)
    logits = keras.layers.Dense(vocabulary, name="logits", kernel_initializer="zeros")(one_hot)
    return keras.Model({"tokens": tokens}, logits)


class Unigrams:
    """Of what was seen before and of `data` the counts; their logs are the bias of the model."""

    loss_sums = staticmethod(next_token_sums)
    evaluation_batch_size = 4

    def __init__(self, vocabulary=5, length=4, steps=10, batch_size=2, model_fn=None):
        self.vocabulary, self.steps, self.batch_size = vocabulary, steps, batch_size
        self.model_fn = model_fn or (lambda: model(vocabulary, length))
        self.model, self.trained_on = self.model_fn(), []
        self.fingerprint = f"{steps} {batch_size}"

    def train(self, data, test, seed, initial=None):
        self.trained_on.append(data)
        seen = np.bincount(data.features["tokens"][:, 1:].ravel(), minlength=self.vocabulary)
        before = np.ones(self.vocabulary) if initial is None else np.exp(initial[1])
        bias = np.log(before + np.where(np.arange(self.vocabulary) > 0, seen, 0))
        self.model.set_weights([np.zeros((self.vocabulary,) * 2), bias])
        sums, counts = self.losses(test)
        return types.SimpleNamespace(curve=[[self.steps, sums.sum() / counts.sum()]])

    def losses(self, examples):
        bias = self.model.get_weights()[1].astype(np.float64)
        nats = np.log(np.exp(bias).sum()) - bias
        targets = examples.features["tokens"][:, 1:]
        return np.where(targets > 0, nats[targets], 0).sum(1), count_targets(examples)
