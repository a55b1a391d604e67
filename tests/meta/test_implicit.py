"""The implicit estimator at a minimum: NumPy's solution, and the limit of a long exact unroll."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.estimators import ImplicitGradient, NestedTape, Recompute
from dr_keras.meta.optimizers import OuterAdam, sgd
from dr_keras.meta.problem import InnerState, MetaProblem
from dr_keras.models.objectives import Terms

BATCH, WIDTH, RATE, PULL = 8, 3, 0.5, 0.5


def norm(gradient) -> float:
    return float(np.linalg.norm(gradient))


@dataclasses.dataclass
class Logistic:
    """Logistic regression with a ridge, a score for each example; `batches` of 8, float64."""

    batches: int = 1

    def __post_init__(self):
        rng = np.random.default_rng(1)
        self.x = rng.normal(size=(self.batches, BATCH, WIDTH))
        self.sign = np.sign(self.x @ [1.0, -2.0, 0.5] + rng.normal(size=self.x.shape[:2]))
        self.eta = rng.normal(scale=0.7, size=self.batches * BATCH)
        self.held_out = rng.normal(size=(16, WIDTH))
        scores = self.eta.reshape(self.batches, BATCH)
        self.weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        self.theta = np.zeros(WIDTH)
        for _ in range(30):  # Newton's method, to the end
            self.theta = self.theta - np.linalg.solve(self.hessian(), self.gradient())
        optimizer = sgd(learning_rate=RATE)

        def losses(theta, batch):
            fit = tf.math.softplus(-batch["sign"] * tf.linalg.matvec(batch["x"], theta[0]))
            return fit + PULL / 2 * tf.reduce_sum(tf.square(theta[0]))

        def objective(name, theta, statistics, batch):
            found = losses(theta, batch)
            return Terms(found, tf.ones_like(found))

        self.problem = MetaProblem(
            lambda eta, batch: tf.gather(eta[0], batch["index"]),
            lambda theta, statistics, batch: (losses(theta, batch), statistics),
            objective,
            optimizer,
        )
        held_out = {"x": self.held_out, "sign": np.sign(self.held_out @ [1.0, -2.0, 0.5])}
        self.outer = {"outer": tf.nest.map_structure(tf.constant, held_out)}
        self.slots = optimizer.init([tf.zeros(WIDTH, tf.float64)])

    def chance(self, x, sign):
        """sigmoid(-sign x theta), the derivative's size."""
        return 1 / (1 + np.exp(sign * (x @ self.theta)))

    def gradients(self) -> np.ndarray:
        """Of every example's loss [batches, B, N]."""
        return -(self.sign * self.chance(self.x, self.sign))[..., None] * self.x + PULL * self.theta

    def gradient(self) -> np.ndarray:
        return (self.weights[..., None] * self.gradients()).sum(1).mean(0)

    def hessian(self) -> np.ndarray:
        chance = self.chance(self.x, self.sign)
        curved = self.weights * chance * (1 - chance)
        return np.einsum("tb,tbi,tbj->ij", curved, self.x, self.x) / self.batches + PULL * np.eye(
            WIDTH
        )

    def by_hand(self, damping: float = 0.0) -> np.ndarray:
        """- sum_i <H^-1 grad L, grad l_i> d w_i / d eta, by NumPy."""
        sign = np.sign(self.held_out @ [1.0, -2.0, 0.5])
        outer = -(sign * self.chance(self.held_out, sign)) @ self.held_out / len(sign)
        right = outer + PULL * self.theta
        direction = np.linalg.solve(self.hessian() + damping * np.eye(WIDTH), right)
        along = self.gradients() @ direction / self.batches
        centred = along - (self.weights * along).sum(1, keepdims=True)
        return -(self.weights * centred).reshape(-1)

    def estimate(self, estimator, repeats: int = 1, away: float = 0.0):
        """At the minimum, or `away` from it; each batch `repeats` times."""
        theta = [tf.constant(self.theta + away)]
        batch = {"x": self.x, "sign": self.sign, "index": np.arange(self.eta.size)}
        batch["index"] = batch["index"].reshape(self.sign.shape)
        inner = {n: tf.constant(np.repeat(v, repeats, axis=0)) for n, v in batch.items()}
        state = InnerState(theta, [], self.slots, tf.constant(0))
        return estimator(self.problem, state, [tf.constant(self.eta)], inner, self.outer)


@pytest.mark.parametrize("damping, micro_batches, compiled", [(0.0, 1, False), (0.2, 2, True)])
def test_conjugate_gradients_are_numpys_solution(damping, micro_batches, compiled, float64):
    """At the minimum of two batches; an inner update with either moves off, so the rate is 0."""
    case = Logistic(batches=2)
    case.problem = dataclasses.replace(case.problem, optimizer=sgd(learning_rate=0.0))
    estimator = ImplicitGradient(iterations=WIDTH + 1, damping=damping, micro_batches=micro_batches)
    called = estimator
    if compiled:
        called = tf.function(estimator, jit_compile=True, autograph=False)
    loss, (gradient,), state, metrics = case.estimate(called)
    np.testing.assert_allclose(gradient, case.by_hand(damping), rtol=1e-8)
    np.testing.assert_allclose(state.theta[0], case.theta)
    assert float(metrics["reported"]["implicit_residual"]) < 1e-8
    plain = case.estimate(NestedTape())
    np.testing.assert_allclose(loss, plain[0])
    np.testing.assert_allclose(metrics["scores"], plain[3]["scores"])
    np.testing.assert_allclose(metrics["inner_losses"], plain[3]["inner_losses"])


def test_so_many_terms_of_the_series_are_so_many_updates_unrolled(float64):
    """At the minimum, with the step of the inner optimizer; and both tend to the same."""
    case = Logistic()
    neumann = case.estimate(ImplicitGradient("neumann", 4, RATE, 0.0))
    unrolled = case.estimate(Recompute(), repeats=4)
    np.testing.assert_allclose(neumann[1][0], unrolled[1][0], rtol=1e-9)
    assert norm(unrolled[1][0] - case.by_hand()) > 0.1 * norm(case.by_hand())
    long = case.estimate(Recompute(), repeats=60)
    np.testing.assert_allclose(long[1][0], case.by_hand(), rtol=1e-6)


def test_the_residual_is_what_is_left_of_the_system(float64):
    case = Logistic()
    hessian = case.hessian()

    def product(vector):
        return [tf.linalg.matvec(tf.constant(hessian), vector[0])]

    right = [tf.constant([1.0, 2.0, -1.0], tf.float64)]
    for solver, iterations in (("neumann", 4), ("conjugate_gradients", 2)):
        estimator = ImplicitGradient(solver, iterations, RATE, 0.0)
        (found,), residual = estimator.solve(product, right)
        left = norm(hessian @ found.numpy() - right[0].numpy()) / norm(right[0])
        assert float(residual) == pytest.approx(left, rel=1e-9) and left > 1e-4
    diverging = ImplicitGradient("neumann", 30, 3 / np.linalg.eigvalsh(hessian).max(), 0.0)
    assert float(diverging.solve(product, right)[1]) > 1


def test_a_direction_that_curves_down_ends_the_solution(float64):
    """diag(1, -2): the first direction is followed against its curvature, the next ones are not."""

    def product(vector):
        return [tf.constant([1.0, -2.0], tf.float64) * vector[0]]

    estimator = ImplicitGradient(iterations=5, damping=0.0)
    downward = [tf.constant([0.0, 1.0], tf.float64)]
    np.testing.assert_allclose(estimator.solve(product, downward)[0][0], [0, 0.5])
    mixed = [tf.constant([1.0, 0.5], tf.float64)]
    # <r, A r> = 0.5 and |r|^2 = 1.25: a step of 2.5; the next direction curves down.
    np.testing.assert_allclose(estimator.solve(product, mixed)[0][0], [2.5, 1.25])
    nothing = [tf.zeros(2, tf.float64)]
    assert not estimator.solve(product, nothing)[0][0].numpy().any()


def test_it_is_off_away_from_the_minimum(float64):
    """Labelled as approximate: at a state that still learns it is not the unroll's gradient."""
    assert ImplicitGradient.biased
    case = Logistic()
    found = case.estimate(ImplicitGradient(iterations=WIDTH + 1, damping=0.0), away=2.0)
    exact = case.estimate(Recompute(), repeats=2, away=2.0)
    assert norm(found[1][0] - exact[1][0]) > 0.2 * norm(exact[1][0])


@pytest.mark.long
def test_the_trainer_takes_it(regression_trainer, regression_sets):
    trainer = regression_trainer(
        estimator=ImplicitGradient(iterations=4),
        outer_optimizer=OuterAdam(0.05, 2, 1.0, 0.0),
        population_size=1,
    )
    trainer.fit(*regression_sets, 20)
    scores = trainer.rater(dict(regression_sets[0].features)).numpy()[:, 0]
    assert (scores[20:, None] > scores[:20]).mean() > 0.8  # the first half lies
    assert 0 <= trainer.last_record.members["implicit_residual"][0] < 1


def test_what_it_cannot_do_is_refused(float64):
    case = Logistic()
    case.problem = dataclasses.replace(case.problem, features=lambda state, batch: {})
    with pytest.raises(ConfigurationError, match="MetaTrainer.through_features = False"):
        case.estimate(ImplicitGradient())
    for name, value in (("solver", "lu"), ("iterations", 0), ("step", 0.0), ("damping", -1.0)):
        with pytest.raises(ConfigurationError, match=f"ImplicitGradient.{name} is"):
            ImplicitGradient(**{name: value})
