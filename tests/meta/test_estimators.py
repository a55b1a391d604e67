"""Meta-gradient estimators: exact against differences and by hand, equal to one another, compiled.

A new estimator is one entry in EXACT. The full matrix of toys, inner optimizers and T, and the same
under `jit_compile`: ./tools/test --long tests/meta/test_estimators.py
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.estimators import (
    EvolutionStrategies,
    FirstOrder,
    ImplicitGradient,
    MixedMode,
    NestedTape,
    Recompute,
)
from dr_keras.meta.estimators.unroll import square_root_interval
from dr_keras.meta.optimizers import adam, adamw, constant_rate, cosine_rate, momentum, sgd
from dr_keras.meta.problem import InnerState, MetaProblem

# Estimators whose meta-gradient is exact up to rounding.
EXACT = {
    "nested_tape": NestedTape(),
    "recompute": Recompute(),
    "recompute_every_2": Recompute(checkpoint_every=2),
    "mixed_mode": MixedMode(),
}
# Options of theirs, for which agreement with NestedTape is enough.
OPTIONS = {
    "recompute_sqrt": Recompute(checkpoint_every="sqrt"),
    "mixed_mode_every_2": MixedMode(checkpoint_every=2),
    "mixed_mode_every_3_lean": MixedMode(checkpoint_every=3, save_gradients=False),
    "mixed_mode_lean": MixedMode(save_gradients=False),
    "recompute_saving_gradients": Recompute(save_gradients=True),
}

# Batches in parts, where the toy allows it.
IN_PARTS = {
    "mixed_mode": MixedMode(micro_batches=2),
    "mixed_mode_lean_every_2": MixedMode(False, checkpoint_every=2, micro_batches=2),
    "recompute": Recompute(micro_batches=2),
    "recompute_saving_gradients": Recompute(save_gradients=True, micro_batches=2),
}

exact = pytest.mark.parametrize("estimator", EXACT.values(), ids=EXACT.keys())

SGD = sgd(learning_rate=0.2)
CLIPPED_SGD = sgd(learning_rate=cosine_rate(0.2, 4, warmup=2), clip_norm=0.3)
MOMENTUM = momentum(learning_rate=0.1, beta=0.8)
NESTEROV = momentum(learning_rate=constant_rate(0.1, warmup=3), nesterov=True, clip_norm=0.5)
ADAM = adam(learning_rate=0.05)
CLIPPED_ADAM = adam(learning_rate=cosine_rate(0.05, 6, warmup=1), clip_norm=0.2)
ADAMW = adamw(learning_rate=0.05, weight_decay=0.3)
FULL_ADAMW = adamw(learning_rate=cosine_rate(0.05, 5), clip_norm=0.4, weight_decay=0.1)

# toy, optimizer, T, age of the member: every value of each, not every combination.
COVERING = [
    ("two_parameters", SGD, 1, 0),
    ("two_parameters", ADAMW, 5, 3),
    ("mlp", CLIPPED_SGD, 5, 0),
    ("mlp", MOMENTUM, 2, 4),
    ("mlp", ADAM, 5, 2),
    ("mlp", FULL_ADAMW, 1, 3),
    ("mlp_with_dropout", NESTEROV, 2, 1),
    ("normalised", MOMENTUM, 2, 1),
    ("conv_net", NESTEROV, 5, 0),
    ("conv_net", CLIPPED_ADAM, 2, 3),
    ("language_model", MOMENTUM, 1, 2),
    ("language_model", FULL_ADAMW, 2, 3),
]


def relative_error(found, expected):
    found, expected = (np.concatenate([np.ravel(x) for x in g]) for g in (found, expected))
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def assert_agree(found, expected, name, relative=1e-9):
    """Meta-gradients relative to their own length, everything else number by number."""
    for part in (0, 2, 3):
        tf.nest.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, relative, 1e-12, err_msg=name),
            found[part],
            expected[part],
        )
    assert relative_error(found[1], expected[1]) < relative, name


@pytest.mark.parametrize("toy, optimizer, unroll_length, age", COVERING)
def test_exact_estimators_match_central_differences_and_each_other(
    toy, optimizer, unroll_length, age, toy_problem, assert_matches_central_differences
):
    toy = toy_problem(toy, optimizer, unroll_length, age)
    expected = toy.estimate(NestedTape())
    for name, estimator in EXACT.items():
        found = toy.estimate(estimator)
        assert float(found[0]) == pytest.approx(float(toy.outer_loss(toy.eta)), rel=1e-12), name
        assert int(found[2].age) == age + unroll_length, name
        assert_matches_central_differences(toy, found[1], name)
        assert_agree(found, expected, name)


@exact
@pytest.mark.parametrize("unroll_length", [1, 2, 5])
def test_two_parameters_by_hand(estimator, unroll_length, toy_problem):
    """l_i = (theta - c_i)^2 / 2, w = softmax(eta), outer loss (theta_T - t)^2 / 2, SGD.

    theta' = (1 - r) theta + r sum_i w_i c_i, and dw_i/deta_j = w_i (1{i=j} - w_j), so that
    d theta_T / d eta_j = sum_t (1 - r)^(T - 1 - t) r w_j (c_j,t - sum_i w_i c_i,t).
    """
    rate = 0.2
    toy = toy_problem("two_parameters", sgd(learning_rate=rate), unroll_length)
    centres = toy.inner_batches["centre"].numpy()
    weights = np.exp(toy.eta[0]) / np.exp(toy.eta[0]).sum()
    theta, slope = float(toy.state.theta[0]), np.zeros(2)
    for centre in centres:
        mean = weights @ centre
        theta = (1 - rate) * theta + rate * mean
        slope = (1 - rate) * slope + rate * weights * (centre - mean)
    miss = theta - float(toy.outer_batches["outer"]["centre"])
    outer_loss, gradient, state, metrics = toy.estimate(estimator)
    np.testing.assert_allclose(outer_loss, miss**2 / 2, rtol=1e-10)
    np.testing.assert_allclose(gradient[0], miss * slope, rtol=1e-10)
    np.testing.assert_allclose(state.theta[0], theta, rtol=1e-10)
    np.testing.assert_allclose(metrics["scores"], np.tile(toy.eta[0], (unroll_length, 1)))
    np.testing.assert_allclose(
        metrics["inner_losses"][0], (float(toy.state.theta[0]) - centres[0]) ** 2 / 2
    )
    np.testing.assert_allclose(
        metrics["effective_sample_size"], np.full(unroll_length, 1 / (weights**2).sum())
    )


@pytest.mark.parametrize("estimator", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize(
    "toy, optimizer, unroll_length",
    [("mlp_with_dropout", ADAM, 5), ("normalised", MOMENTUM, 5), ("conv_net", FULL_ADAMW, 2)],
)
def test_options_change_memory_not_values(estimator, toy, optimizer, unroll_length, toy_problem):
    toy = toy_problem(toy, optimizer, unroll_length, age=1)
    assert_agree(toy.estimate(estimator), toy.estimate(NestedTape()), estimator.name)


@pytest.mark.parametrize("estimator", IN_PARTS.values(), ids=IN_PARTS.keys())
@pytest.mark.parametrize(
    "toy, optimizer, unroll_length",
    [
        ("mlp", ADAM, 5),
        ("conv_net", CLIPPED_ADAM, 2),
        pytest.param("recomputed_language_model", MOMENTUM, 2, marks=pytest.mark.long),
    ],
)
def test_batches_in_parts_change_memory_not_values(
    estimator, toy, optimizer, unroll_length, toy_problem
):
    toy = toy_problem(toy, optimizer, unroll_length, age=1)
    assert_agree(toy.estimate(estimator), toy.estimate(NestedTape()), estimator.name)


@pytest.mark.parametrize(
    "toy",
    [
        "mlp_with_dropout",
        pytest.param("normalised", marks=pytest.mark.long),
        pytest.param("by_token", marks=pytest.mark.long),
    ],
)
def test_estimates_move_members_as_the_exact_ones_do(toy, toy_problem):
    """Loss, state and records are the same; what is estimated has the shapes of eta."""
    toy = toy_problem(toy_problem.opened(by_token=True) if toy == "by_token" else toy, MOMENTUM, 2)
    expected = toy.estimate(NestedTape())
    for estimator in (EvolutionStrategies(pairs=1), ImplicitGradient(iterations=1)):
        found = estimator(
            toy.problem, toy.state, toy.eta, toy.inner_batches, toy.outer_batches, key=[3, 4]
        )
        found[3].pop("reported")
        assert_agree([found[0], expected[1], *found[2:]], expected, estimator.name)
        assert [leaf.shape for leaf in found[1]] == [leaf.shape for leaf in toy.eta]
        assert np.isfinite(np.concatenate([np.ravel(leaf) for leaf in found[1]])).all()


def test_dropout_draws_for_every_part_and_draws_the_same_when_run_again(toy_problem):
    toy = toy_problem("mlp_with_dropout", ADAM, 5)
    found = [toy.estimate(estimator) for estimator in IN_PARTS.values()]
    for other in found[1:]:
        assert_agree(other, found[0], "in parts")
    whole = toy.estimate(MixedMode())
    assert relative_error(whole[1], found[0][1]) > 1e-3  # other masks
    seeds = [np.ravel(leaf) for leaf in whole[2].statistics]
    later = [np.ravel(leaf) for leaf in found[0][2].statistics]
    assert any((a != b).any() for a, b in zip(seeds, later))


@pytest.mark.parametrize(
    "toy, estimator, message",
    [
        ("mlp", MixedMode(micro_batches=4), "does not divide the inner batch of 6 examples"),
        ("mlp", Recompute(micro_batches=3), "does not divide the outer batch of 4 examples"),
        ("normalised", MixedMode(micro_batches=5), "statistics over its batches"),
    ],
)
def test_batches_that_cannot_be_split_are_refused(toy, estimator, message, toy_problem):
    with pytest.raises(ConfigurationError, match=message):
        toy_problem(toy, SGD, 2).estimate(estimator)


@pytest.mark.parametrize("parts", [0, -1])
def test_fewer_than_one_part_is_refused(parts):
    with pytest.raises(ConfigurationError, match="micro_batches"):
        MixedMode(micro_batches=parts)


@pytest.mark.parametrize(
    "optimizer, unroll_length",
    [pytest.param(FULL_ADAMW, 2, marks=pytest.mark.long), (CLIPPED_SGD, 1)],
)
def test_recomputed_blocks_and_logits_change_memory_not_values(
    optimizer, unroll_length, toy_problem, assert_matches_central_differences, stacked_as
):
    plain = toy_problem("deep_language_model", optimizer, unroll_length, 3)
    toy = toy_problem("recomputed_language_model", optimizer, unroll_length, 3)
    like = toy.state.theta

    def stacked(state):
        slots = {
            name: stacked_as(slot, like) if isinstance(slot, list) else slot
            for name, slot in state.slots.items()
        }
        return state._replace(theta=stacked_as(state.theta, like), slots=slots)

    as_tensors = tf.nest.map_structure(tf.constant, stacked(plain.state))
    toy = dataclasses.replace(toy, state=as_tensors, eta=plain.eta)
    loss, gradient, state, metrics = plain.estimate(NestedTape())
    assert_matches_central_differences(plain, gradient, "differences")
    expected = loss, gradient, stacked(state), metrics
    for name, estimator in EXACT.items():
        assert_agree(toy.estimate(estimator), expected, name)


TOYS = [
    "mlp",
    "mlp_with_dropout",
    "normalised",
    "conv_net",
    "language_model",
    "recomputed_language_model",
]
OPTIMIZERS = [SGD, CLIPPED_SGD, MOMENTUM, NESTEROV, ADAM, CLIPPED_ADAM, ADAMW, FULL_ADAMW]


@pytest.mark.long
@pytest.mark.parametrize("unroll_length", [1, 2, 5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("toy", TOYS)
def test_all_estimators_agree_everywhere(
    toy, optimizer, unroll_length, toy_problem, assert_matches_central_differences
):
    """The full matrix."""
    toy = toy_problem(toy, optimizer, unroll_length, age=2)
    expected = toy.estimate(NestedTape())
    assert_matches_central_differences(toy, expected[1])
    for name, estimator in (EXACT | OPTIONS).items():
        assert_agree(toy.estimate(estimator), expected, name)


@pytest.mark.parametrize("length, interval", [(1, 1), (2, 2), (4, 2), (5, 3), (16, 4), (33, 6)])
def test_states_alive_grow_with_the_square_root(length, interval):
    assert square_root_interval(length) == interval
    assert Recompute(checkpoint_every="sqrt").segment_length(length) == interval
    alive = min(k - (-length // k) for k in range(1, length + 1))
    assert interval - (-length // interval) <= alive + 1


@pytest.mark.parametrize("estimator", [Recompute, MixedMode, FirstOrder])
@pytest.mark.parametrize("value", [0, -1, 1.5, "often"])
def test_a_wrong_interval_is_refused(estimator, value):
    with pytest.raises(ConfigurationError, match=f"checkpoint_every is '?{value}'?: it must be"):
        estimator(checkpoint_every=value)


@pytest.mark.parametrize("options", [{}, {"save_gradients": False}, {"checkpoint_every": 2}])
def test_first_order_is_exact_for_one_update_and_biased_beyond(options, toy_problem):
    estimator = FirstOrder(**options)
    assert estimator.biased and estimator.name == "first_order"
    toy = toy_problem("mlp", FULL_ADAMW, 1, age=3)
    assert_agree(toy.estimate(estimator), toy.estimate(NestedTape()), "first_order")
    toy = toy_problem("mlp", SGD, 2)
    found, expected = toy.estimate(estimator), toy.estimate(NestedTape())
    assert relative_error(found[1], expected[1]) > 0.01
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(found[3]["scores"], expected[3]["scores"], rtol=1e-12)


def test_first_order_by_hand(toy_problem):
    """Of the formula in `test_two_parameters_by_hand`, the factors (1 - r) become 1."""
    toy = toy_problem("two_parameters", SGD, 3)
    rate = SGD.learning_rate
    weights = np.exp(toy.eta[0]) / np.exp(toy.eta[0]).sum()
    slope = sum(rate * weights * (c - weights @ c) for c in toy.inner_batches["centre"].numpy())
    _, gradient, state, _ = toy.estimate(FirstOrder())
    miss = float(state.theta[0]) - float(toy.outer_batches["outer"]["centre"])
    np.testing.assert_allclose(gradient[0], miss * slope, rtol=1e-10)


@exact
@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, ADAM, ADAMW])
def test_the_meta_gradient_favours_clean_examples(estimator, optimizer, float64):
    """A score for each example: a step down the meta-gradient raises those of clean ones.

    Linear regression; targets of the corrupted half belong to other inputs.
    """
    rng = np.random.default_rng(0)
    truth = np.array([1.0, -2.0, 0.5])
    x = rng.normal(size=(2, 16, 3))
    targets = x @ truth
    clean = np.arange(16) < 8
    targets[:, ~clean] = rng.permutation(targets[:, ~clean], axis=1) * -1
    outer = rng.normal(size=(64, 3))

    def score(eta, batch):
        return tf.gather(eta[0], batch["index"])

    def inner_loss(theta, statistics, batch):
        return tf.square(tf.linalg.matvec(batch["x"], theta[0]) - batch["y"]), statistics

    def objective(name, theta, statistics, batch):
        return tf.reduce_mean(inner_loss(theta, statistics, batch)[0])

    theta = [tf.zeros(3, tf.float64)]
    slots = optimizer.init(theta)
    if "v" in slots:  # from zero, Adam's first updates are signs, which scores hardly move
        slots["v"] = [tf.ones(3, tf.float64)]
    _, gradient, _, _ = estimator(
        MetaProblem(score, inner_loss, objective, optimizer),
        InnerState(theta, [], slots, tf.constant(5000)),
        [tf.zeros(32, tf.float64)],
        {
            "x": tf.constant(x),
            "y": tf.constant(targets),
            "index": tf.reshape(tf.range(32), (2, 16)),
        },
        {"outer": {"x": tf.constant(outer), "y": tf.constant(outer @ truth)}},
    )
    rise = -gradient[0].numpy().reshape(2, 16)
    assert rise[:, clean].mean() > 0 > rise[:, ~clean].mean()
    pairs = rise[:, clean, None] > rise[:, None, ~clean]
    assert pairs.mean() > 0.8, pairs.mean()  # area under the curve, batch by batch


@exact
def test_the_meta_gradient_favours_clean_text(estimator, toy_problem):
    """Token rows that count upwards against random ones, the outer rows counting upwards."""
    toy = toy_problem("language_model", adam(learning_rate=0.02), 2)
    rng = np.random.default_rng(0)
    counting = (rng.integers(0, 8, (2, 16, 1)) + np.arange(6)) % 8 + 1
    batches = counting.copy()
    batches[:, 8:] = rng.integers(1, 9, (2, 8, 6))
    problem = MetaProblem(
        lambda eta, batch: tf.gather(eta[0], batch["index"]),
        toy.problem.inner_loss,
        toy.problem.objective,
        toy.problem.optimizer,
    )
    _, gradient, _, _ = estimator(
        problem,
        toy.state,
        [tf.zeros(32, tf.float64)],
        {"tokens": tf.constant(batches, tf.int32), "index": tf.reshape(tf.range(32), (2, 16))},
        {"outer": {"tokens": tf.constant(counting[0], tf.int32)}},
    )
    rise = -gradient[0].numpy().reshape(2, 16)
    assert rise[:, :8].mean() > 0 > rise[:, 8:].mean()
    pairs = rise[:, :8, None] > rise[:, None, 8:]
    assert pairs.mean() > 0.8, pairs.mean()


def compiled(toy, estimators):
    """name -> what each estimator returns for the toy, from one program under `jit_compile`."""

    @tf.function(jit_compile=True)
    def run(state, eta, inner_batches, outer_batches):
        state = InnerState(*state)
        return {
            name: estimator(toy.problem, state, eta, inner_batches, outer_batches)
            for name, estimator in estimators.items()
        }

    return run(tuple(toy.state), toy.eta, toy.inner_batches, toy.outer_batches)


@pytest.mark.long
def test_compiled_equals_uncompiled(toy_problem):
    """XLA writes gradients of slices as ops that TensorFlow registers no gradient for."""
    toy = toy_problem("language_model", FULL_ADAMW, 1, age=1)
    found = compiled(toy, {"nested_tape": NestedTape()})["nested_tape"]
    expected = toy.estimate(NestedTape())
    for a, b in zip(tf.nest.flatten(expected), tf.nest.flatten(found)):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-11)


def test_all_estimators_agree_compiled(toy_problem):
    """Arrays of states, seeds among them, in loops of an XLA program.

    XLA draws other numbers from a seed, so that dropout is compared with NestedTape under XLA.
    """
    toy = toy_problem("mlp_with_dropout", MOMENTUM, 3, age=1)
    found = compiled(toy, EXACT | {"first_order": FirstOrder()})
    biased = found.pop("first_order")
    for name, result in found.items():
        assert_agree(result, found["nested_tape"], name)
    assert relative_error(biased[1], found["nested_tape"][1]) > 0.01


@pytest.mark.long
@pytest.mark.parametrize("optimizer", [SGD, NESTEROV, CLIPPED_ADAM, FULL_ADAMW])
@pytest.mark.parametrize("toy", TOYS)
def test_all_estimators_agree_compiled_everywhere(toy, optimizer, toy_problem):
    toy = toy_problem(toy, optimizer, 5, age=1)
    found = compiled(toy, EXACT | OPTIONS)
    for name, result in found.items():
        assert_agree(result, found["nested_tape"], name)


@pytest.mark.parametrize("estimator", [Recompute(), MixedMode()], ids=["recompute", "mixed_mode"])
def test_the_program_does_not_grow_with_the_unroll(estimator, toy_problem):
    def operations(unroll_length):
        toy = toy_problem("mlp", ADAM, unroll_length)
        function = tf.function(lambda: toy.estimate(estimator))
        graph = function.get_concrete_function().graph.as_graph_def()
        return sum(len(f.node_def) for f in graph.library.function) + len(graph.node)

    assert operations(3) == operations(9)


@exact
@pytest.mark.parametrize("at", [0, 1])
def test_a_loss_that_is_not_finite_shows(estimator, at, toy_problem):
    """A NaN anywhere in the unroll reaches the outer loss, where the trainer looks for it."""
    toy = toy_problem("mlp", ADAM, 2)
    x = toy.inner_batches["x"].numpy()
    x[at, 2] = np.nan
    toy.inner_batches["x"] = tf.constant(x)
    outer_loss, gradient, _, metrics = toy.estimate(estimator)
    assert not np.isfinite(outer_loss) and not np.isfinite(metrics["inner_losses"][at, 2])
    assert not all(np.isfinite(leaf).all() for leaf in gradient)


@exact
@pytest.mark.parametrize("optimizer", [SGD, CLIPPED_SGD, NESTEROV, ADAM, CLIPPED_ADAM, FULL_ADAMW])
def test_zero_gradients_give_a_finite_meta_gradient(estimator, optimizer, float64):
    """One parameter is never used, another's gradient is exactly 0 at the first update."""

    def inner_loss(theta, statistics, batch):
        return tf.square(theta[0] * batch["x"]) + 0 * theta[1], statistics

    def objective(name, theta, statistics, batch):
        return tf.reduce_mean(tf.square(theta[0] - 1) + tf.square(theta[1] - 1))

    theta = [tf.constant(0.0, tf.float64), tf.constant(0.5, tf.float64)]
    _, gradient, state, _ = estimator(
        MetaProblem(lambda eta, batch: eta[0] * batch["x"], inner_loss, objective, optimizer),
        InnerState(theta, [], optimizer.init(theta), tf.constant(0)),
        [tf.constant(0.3, tf.float64)],
        {"x": tf.constant([[1.0, 2.0], [3.0, 4.0]], tf.float64)},
        {"outer": {"x": tf.constant([1.0], tf.float64)}},
    )
    assert float(gradient[0]) == 0.0
    assert all(np.isfinite(leaf).all() for leaf in state.theta)


@exact
@pytest.mark.parametrize("toy", ["mlp", pytest.param("language_model", marks=pytest.mark.long)])
def test_a_batch_of_one_has_no_meta_gradient(estimator, toy, toy_problem):
    """The softmax over one example is 1 whatever its score: the gradient is exactly 0."""
    toy = toy_problem(toy, ADAM, 2)
    toy.inner_batches = {name: value[:, :1] for name, value in toy.inner_batches.items()}
    _, gradient, _, metrics = toy.estimate(estimator)
    assert all(not leaf.numpy().any() for leaf in gradient)
    assert metrics["effective_sample_size"].numpy().tolist() == [1.0, 1.0]
    assert metrics["weight_entropy"].numpy().tolist() == [0.0, 0.0]


def test_rows_of_padding_are_harmless(toy_problem, assert_matches_central_differences):
    toy = toy_problem("language_model", ADAM, 2)
    for batch in (toy.inner_batches, toy.outer_batches["outer"]):
        tokens = batch["tokens"].numpy()
        tokens[..., 0, :] = 0
        batch["tokens"] = tf.constant(tokens)
    for name, estimator in EXACT.items():
        _, gradient, state, metrics = toy.estimate(estimator)
        assert all(np.isfinite(leaf).all() for leaf in [*gradient, *state.theta]), name
        assert metrics["inner_losses"].numpy()[:, 0].tolist() == [0.0, 0.0], name
        assert_matches_central_differences(toy, gradient, name)


@exact
def test_random_state_moves_on_through_the_unroll(estimator, toy_problem):
    """Dropout draws anew at each update, and the new state carries where it stands."""
    toy = toy_problem("mlp_with_dropout", SGD, 2)
    _, _, state, _ = toy.estimate(estimator)
    before = np.concatenate([np.ravel(leaf) for leaf in toy.state.statistics])
    after = np.concatenate([np.ravel(leaf) for leaf in state.statistics])
    assert (before != after).any()


def test_the_trainer_takes_every_estimator(regression_trainer, regression_sets):
    """In a graph without XLA, float32: two meta-steps end at the same rater."""
    raters = []
    for estimator in [NestedTape(), Recompute(checkpoint_every=2), MixedMode()]:
        trainer = regression_trainer(estimator=estimator, unroll_length=3, population_size=1)
        before = [v.numpy() for v in trainer.rater.trainable_variables]
        trainer.fit(*regression_sets, meta_steps=2)
        raters.append([v.numpy() for v in trainer.rater.trainable_variables])
    assert relative_error(before, raters[0]) > 1e-3
    for rater in raters[1:]:
        assert relative_error(rater, raters[0]) < 1e-5
