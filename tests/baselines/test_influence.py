"""Influences against gradients written in NumPy, and against steps that are really taken."""

import types

import numpy as np
import pool
import pytest
from scipy import sparse
import tensorflow as tf
from unigrams import Unigrams

from dr_keras.baselines.candidates import joined_candidates, window_candidates
from dr_keras.baselines.influence import influence
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.models.text_models import language_model
from dr_keras.training import flops
from dr_keras.training.metrics import spearman
from dr_keras.training.slopes import SLOPE_PASSES, mean_gradient, slopes

VOCABULARY, LENGTH = 7, 6


def windows(documents, seed=0):
    examples = pool.windows(documents, each=2, length=LENGTH, vocabulary=VOCABULARY, seed=seed)
    examples.features["tokens"][1, 3:] = 0  # two targets in place of five
    return examples


def gradients(kernel, bias, tokens):
    """Of each window's mean loss: [N, V, V] and [N, V], softmax minus one-hot by hand."""
    shares = np.exp(kernel[tokens[:, :-1]] + bias)
    shares /= shares.sum(-1, keepdims=True)
    wrong = (shares - np.eye(VOCABULARY)[tokens[:, 1:]]) * (tokens[:, 1:, None] > 0)
    last = np.eye(VOCABULARY)[tokens[:, :-1]]
    counts = (tokens[:, 1:] > 0).sum(1)
    return (
        np.einsum("nsv,nsw->nvw", last, wrong) / counts[:, None, None],
        wrong.sum(1) / counts[:, None],
    )


@pytest.fixture
def trainer():
    trainer = Unigrams(VOCABULARY, LENGTH)
    rng = np.random.default_rng(3)
    kernel, bias = rng.normal(size=(VOCABULARY, VOCABULARY)), rng.normal(size=VOCABULARY)
    trainer.model.set_weights([kernel, bias])
    return trainer


def test_slopes_are_products_of_gradients_and_the_fall_of_the_outer_loss(trainer):
    examples, outer = windows(4), windows(3, seed=1)
    kernel, bias = (w.astype(np.float64) for w in trainer.model.get_weights())
    direction = mean_gradient(trainer, outer)
    of_outer = gradients(kernel, bias, outer.features["tokens"])
    counts = (outer.features["tokens"][:, 1:] > 0).sum(1)
    for found, by_window in zip(direction, of_outer, strict=True):
        mean = np.tensordot(counts, by_window, 1) / counts.sum()  # per target, not per window
        assert np.allclose(found, mean, atol=1e-6)
    found = slopes(trainer, examples, direction)
    each = gradients(kernel, bias, examples.features["tokens"])
    expected = sum(
        (g.reshape(len(g), -1) * d.reshape(1, -1)).sum(1)
        for g, d in zip(each, direction, strict=True)
    )
    assert np.allclose(found, expected, atol=1e-6)

    def outer_loss(kernel, bias):
        tokens = outer.features["tokens"]
        logits = kernel[tokens[:, :-1]] + bias
        nats = (
            np.log(np.exp(logits).sum(-1))
            - np.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
        )
        return (nats * (tokens[:, 1:] > 0)).sum() / counts.sum()

    rate = 1e-4
    for row in range(3):  # one step on one example
        before, after = (outer_loss(kernel - r * each[0][row], bias - r * each[1][row])
                         for r in (-rate, rate))  # fmt: skip
        assert (before - after) / (2 * rate) == pytest.approx(found[row], rel=1e-5)


def test_every_candidate_probed_is_the_exact_figure_and_its_costs():
    train, outer = windows(4), windows(3, seed=1)
    trainer = Unigrams(VOCABULARY, LENGTH)
    found = influence(
        window_candidates(train), window_candidates(outer), lambda: trainer, sample=None
    )
    exact = slopes(trainer, train, mean_gradient(trainer, outer))
    assert np.allclose(found.values, exact)
    forward = 2 * LENGTH * VOCABULARY**2
    assert found.forward_flops == 4 * forward
    assert found.training_flops == 10 * 2 * 3 * forward + 3 * forward * 6
    assert found.facts["probed"] == 8 and found.facts["held_out_spearman"] is None
    documents = influence(
        joined_candidates(train), window_candidates(outer), lambda: trainer, sample=None
    ).values
    assert documents[1] == pytest.approx(exact[2:4].mean())
    assert documents[0] == pytest.approx((5 * exact[0] + 2 * exact[1]) / 7)


def test_a_regression_tells_the_others():
    train, outer = windows(60), windows(3, seed=1)

    def frequencies(texts):
        """The influence of a window under a unigram model is linear in its tokens' numbers."""
        counts = [np.bincount([int(t) for t in text.split()[1:]], minlength=7) for text in texts]
        return sparse.csr_matrix([c / max(c.sum(), 1) for c in counts])

    settings = {"sample": 40, "features": frequencies, "penalty": 1e-3, "outer_size": 4}
    parts = window_candidates(train), window_candidates(outer)
    found = influence(*parts, lambda: Unigrams(VOCABULARY, LENGTH), **settings)
    exact = influence(*parts, lambda: Unigrams(VOCABULARY, LENGTH), sample=None, outer_size=4)
    assert found.facts["probed"] == 40 and found.facts["held_out_spearman"] > 0.7
    assert spearman(found.values, exact.values) > 0.7
    forward = 2 * LENGTH * VOCABULARY**2
    assert found.forward_flops == 0
    assert found.training_flops == (10 * 2 * 3 + 3 * 4 + 4 * 40) * forward
    with pytest.raises(ConfigurationError, match="sample .3. None or at least twice held_out"):
        influence(*parts, sample=3)


def test_alike_probes_teach_nothing():
    train, outer = windows(20), windows(3, seed=1)
    train.features["tokens"][:] = 1
    parts = window_candidates(train), window_candidates(outer)
    with pytest.raises(DataError, match="the probed candidates do not differ"):
        influence(*parts, lambda: Unigrams(VOCABULARY, LENGTH), sample=20)


@pytest.mark.long
def test_passes_of_a_slope_are_those_of_its_graph():
    model = language_model(40, 16, width=32, layer_count=2, heads=2)
    trainer = Unigrams(model_fn=lambda: model)
    traced = []
    real = tf.function

    def spy(function, **settings):
        compiled = real(function, **settings)
        traced.append(compiled)
        return compiled

    examples = pool.windows(2, each=2, length=16, vocabulary=40)
    direction = [np.ones(v.shape) for v in model.trainable_variables]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf, "function", spy)
        slopes(trainer, examples, direction)
    batch = {"tokens": tf.constant(examples.features["tokens"])}
    graph = traced[-1].get_concrete_function(batch).graph
    # what TensorFlow runs is what the results need: the graph itself holds more
    needed, found = {}, [output.op for output in graph.outputs]
    while found:
        operation = found.pop()
        if operation.name not in needed:
            needed[operation.name] = operation
            found += [tensor.op for tensor in operation.inputs] + operation.control_inputs
    pruned = types.SimpleNamespace(
        as_graph_def=graph.as_graph_def, get_operations=lambda: list(needed.values())
    )
    whole = flops.graph_flops(pruned) / len(examples)
    one = flops.forward_flops(model, flops.feature_shapes(examples.features))
    assert SLOPE_PASSES < whole / one < SLOPE_PASSES + 0.1
