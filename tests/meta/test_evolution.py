"""Evolution strategies: their mean is the meta-gradient, and they lower what has no derivative."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError, NonFiniteError
from dr_keras.meta.devices.placement import Group
from dr_keras.meta.devices.split_member import check_split
from dr_keras.meta.estimators import EvolutionStrategies, FirstOrder, NestedTape
from dr_keras.meta.optimizers import OuterAdam, momentum, sgd
from dr_keras.meta.problem import InnerState, MetaProblem
from dr_keras.models.objectives import Terms

T, BATCH = 2, 8


def flat(gradient) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in gradient])


def regression(reads_state: bool = False) -> tuple:
    """(problem, state, eta, inner batches, outer batches) of a linear model, float64."""
    rng = np.random.default_rng(0)

    def inner_loss(theta, statistics, batch):
        return tf.square(tf.linalg.matvec(batch["x"], theta[0]) - batch["y"]), statistics

    def score(eta, batch):
        seen = [batch["x"], batch["y"][:, None]]
        if reads_state:
            seen.append(batch["inner_loss"][:, None])
        return tf.tanh(tf.linalg.matvec(tf.concat(seen, 1), eta[0]) + eta[1])

    def features(state, batch):
        return {"inner_loss": inner_loss(state.theta, [], batch)[0]}

    def objective(name, theta, statistics, batch):
        losses = inner_loss(theta, statistics, batch)[0]
        return Terms(losses, tf.ones_like(losses))

    def batch(*shape):
        x, y = rng.normal(size=(*shape, 2)), rng.normal(size=shape)
        return {"x": tf.constant(x), "y": tf.constant(y)}

    optimizer = momentum(learning_rate=0.3, beta=0.5)
    problem = MetaProblem(
        score, inner_loss, objective, optimizer, features=features if reads_state else None
    )
    theta = [tf.constant([0.5, -1.0], tf.float64)]
    state = InnerState(theta, [], optimizer.init(theta), tf.constant(0))
    eta = [tf.constant(rng.normal(scale=0.5, size=3 + reads_state)), tf.constant(0.1, tf.float64)]
    return problem, state, eta, batch(T, BATCH), {"outer": batch(16)}


def estimates(estimator, toy, keys: int) -> np.ndarray:
    """[keys, N] meta-gradients, an independent one for each key."""
    run = tf.function(lambda key: estimator(*toy, key=key)[1], jit_compile=True, autograph=False)
    return np.stack([flat(run(tf.constant([7, number]))) for number in range(keys)])


@pytest.mark.parametrize(
    "perturbed, spread, reads_state",
    [
        ("scores", 0.02, True),
        pytest.param("parameters", 0.01, False, marks=pytest.mark.long),
        pytest.param("scores", 0.02, False, marks=pytest.mark.long),
    ],
)
def test_the_mean_of_many_pairs_is_the_meta_gradient(perturbed, spread, reads_state, float64):
    """Within its standard error, which is small enough to tell the first-order gradient apart."""
    toy = regression(reads_state)
    estimator = EvolutionStrategies(500, spread, perturbed, "none")
    found = estimates(estimator, toy, 24)
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    exact, biased = (flat(e(*toy)[1]) for e in (NestedTape(), FirstOrder()))
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(exact)
    assert np.abs((found.mean(axis=0) - exact) / error).max() < 3.5
    assert np.abs((found.mean(axis=0) - biased) / error).max() > 6


def test_shares_of_the_pairs_add_up_to_all_of_them(float64):
    toy = regression()
    problem, state, eta, inner, outer = toy
    estimator, key = EvolutionStrategies(4, 0.1), tf.constant([1, 2])

    def shares(*places):
        losses = [estimator.outcomes(*toy, key, first, count) for first, count in places]
        losses = tf.concat(losses, 0)
        slopes = estimator.slopes(losses)
        found = [
            estimator.followed(problem, eta, inner, key, slopes[a : a + n], a, n) for a, n in places
        ]
        return losses, [tf.add_n(leaves) for leaves in zip(*found)]

    (whole, total), (parts, sums) = shares((0, 4)), shares((0, 3), (3, 1))
    np.testing.assert_allclose(parts, whole, rtol=1e-13)
    np.testing.assert_allclose(sums[0], total[0], rtol=1e-12)
    assert len(np.unique(whole)) == 8  # every run has noise of its own
    loss, gradient, after, metrics = estimator(*toy, key=key)
    expected = NestedTape()(*toy)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-12)
    for name in ("scores", "inner_losses", "weight_entropy"):
        np.testing.assert_allclose(metrics[name], expected[3][name], rtol=1e-12)
    np.testing.assert_allclose(after.theta[0], expected[2].theta[0], rtol=1e-12)
    # sum_t,i (d loss / d score_ti) (d score_ti / d eta), the first factor from the noise alone
    with tf.GradientTape() as tape:
        tape.watch(eta)
        scores = tf.stack([problem.score(eta, {n: v[t] for n, v in inner.items()}) for t in (0, 1)])
    by_hand = tape.gradient(scores, eta, output_gradients=total[0])
    np.testing.assert_allclose(flat(gradient), flat(by_hand), rtol=1e-12)
    in_parts = dataclasses.replace(estimator, micro_batches=2)(*toy, key=key)
    np.testing.assert_allclose(flat(in_parts[1]), flat(gradient), rtol=1e-10)


def test_ranks_by_hand():
    """Of 1, 2, 2, 6 the mean signs are -3/4, 0, 0, 3/4, brought to the deviation of the values."""
    losses = tf.constant([[6.0, 2.0], [1.0, 2.0]])
    deviation = np.std([6, 2, 1, 2])
    scale = deviation / np.std([0.75, 0, -0.75, 0]) / (2 * 0.5 * 2)
    ranked = EvolutionStrategies(2, 0.5)
    np.testing.assert_allclose(ranked.slopes(losses), [0.75 * scale, -0.75 * scale], rtol=1e-6)
    plain = dataclasses.replace(ranked, shaping="none")
    np.testing.assert_allclose(plain.slopes(losses), [4 / 2, -1 / 2])
    outlier = ranked.slopes(tf.constant([[6e6, 2.0], [1.0, 2.0]])).numpy()
    assert outlier[0] == pytest.approx(-outlier[1])  # the order decides, not how far off
    assert ranked.slopes(tf.fill([2, 2], 3.0)).numpy().tolist() == [0, 0]
    for value in (np.nan, np.inf):
        assert np.isnan(ranked.slopes(tf.constant([[1.0, 2.0], [value, 3.0]]))).all()


def test_estimates_lower_an_error_rate_that_has_no_derivative(float64):
    """Logistic regression, a quarter of the labels wrong; 20 problems with a key of their own.

    A step down each estimate, and the same unroll again: fewer of 2,000 held-out points are missed.
    """

    def logit(theta, batch):
        return tf.linalg.matvec(batch["x"], theta[0])

    def inner_loss(theta, statistics, batch):
        return tf.math.softplus(-batch["sign"] * logit(theta, batch)), statistics

    def objective(name, theta, statistics, batch):
        wrong = tf.cast(batch["sign"] * logit(theta, batch) <= 0, tf.float64)
        return Terms(wrong, tf.ones_like(wrong))

    optimizer = sgd(learning_rate=1.0)
    problem = MetaProblem(
        lambda eta, batch: tf.gather(eta[0], batch["index"]), inner_loss, objective, optimizer
    )
    estimator = EvolutionStrategies(pairs=32, spread=0.5)

    def state(theta):
        return InnerState([theta], [], optimizer.init([theta]), tf.constant(0))

    @tf.function(jit_compile=True, autograph=False)
    def step(inner, outer, key):
        """(loss before, after, the exact meta-gradient, which is blind)."""
        start, eta = state(tf.zeros(4, tf.float64)), tf.zeros(T * BATCH, tf.float64)
        loss, (gradient,), *_ = estimator(problem, start, [eta], inner, outer, key=key)
        moved = [eta - 3 * gradient / tf.norm(gradient)]
        after, blind, *_ = NestedTape()(problem, start, moved, inner, outer)
        return loss, after, blind[0]

    improved = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth, x = rng.normal(size=4), rng.normal(size=(T, BATCH, 4))
        sign = np.sign(x @ truth)
        sign[:, : BATCH // 4] *= -1
        held_out = rng.normal(size=(2000, 4))
        inner = {"x": x, "sign": sign, "index": np.arange(T * BATCH).reshape(T, BATCH)}
        outer = {"outer": {"x": held_out, "sign": np.sign(held_out @ truth)}}
        inner, outer = tf.nest.map_structure(tf.constant, (inner, outer))
        before, after, blind = step(inner, outer, tf.constant([5, seed]))
        assert not blind.numpy().any()
        improved.append(float(after) < float(before))
    assert sum(improved) >= 18, sum(improved)


def missed(model, batch):
    """Share of predictions that are off by more than 1."""
    off = tf.abs(model(batch) - batch["target"])[:, 0]
    wrong = tf.cast(off > 1, off.dtype)
    return Terms(wrong, tf.ones_like(wrong))


def test_an_objective_without_derivative_asks_for_an_estimator_that_needs_none(
    regression_trainer, regression_sets
):
    with pytest.raises(ConfigurationError, match="objective missed .held-out set outer. has no"):
        regression_trainer(objective=missed).fit(*regression_sets, 1)


@pytest.mark.long
def test_a_rater_learns_from_a_share_of_misses(regression_trainer, regression_sets):
    trainer = regression_trainer(
        objective=missed,
        estimator=EvolutionStrategies(pairs=2),
        outer_optimizer=OuterAdam(0.05, 2, 1.0, 0.0),
        outer_batch_size=24,
        population_size=1,
        lifetime=20,
    )
    trainer.fit(*regression_sets, 40)
    scores = trainer.rater(dict(regression_sets[0].features)).numpy()[:, 0]
    assert (scores[20:, None] > scores[:20]).mean() > 0.8  # the first half lies
    assert trainer.last_record.members["perturbed_losses_not_finite"].tolist() == [0]


def test_a_metric_that_is_not_a_number_is_named(regression_trainer, regression_sets):
    def shaky(model, batch):
        """The logarithm of a negative number where a prediction is above 2.5, as some are soon."""
        return -tf.reduce_mean(tf.math.log(2.5 - model(batch)))

    trainer = regression_trainer(
        objective=shaky, estimator=EvolutionStrategies(pairs=1), population_size=1, lifetime=None
    )
    words = "objective is not finite .*shaky on the held-out set 'outer'. Make it give a number"
    with pytest.raises(NonFiniteError, match=words):
        trainer.fit(*regression_sets, 20)


@pytest.mark.parametrize(
    "pairs, sizes, message",
    [
        (3, {"inner": 8}, "pairs is 3, which 2 replicas cannot share equally: make it a multiple"),
        (4, {"inner": 8, "outer": 7}, "outer_batch_size is 7, which 2 replicas cannot read equal"),
    ],
)
def test_what_replicas_cannot_share_is_refused(pairs, sizes, message):
    group = Group(2, lambda: tf.constant(0), list)
    with pytest.raises(ConfigurationError, match=message):
        check_split(group, EvolutionStrategies(pairs), [], sizes)
    check_split(group, EvolutionStrategies(4), [], {"inner": 8, "outer": 6})


@pytest.mark.parametrize(
    "setting", [{"pairs": 0}, {"spread": 0.0}, {"perturbed": "weights"}, {"shaping": "sign"}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigurationError, match=f"EvolutionStrategies.{next(iter(setting))} is"):
        EvolutionStrategies(**setting)


def test_a_call_without_a_key_is_refused(float64):
    with pytest.raises(ConfigurationError, match="with key="):
        EvolutionStrategies()(*regression())
