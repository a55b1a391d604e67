"""A price on the share that is kept: its gradient, its facts, and what it does to a rater."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.estimators import MixedMode, NestedTape, PricedShare, Recompute, told
from dr_keras.meta.optimizers import OuterAdam, adamw, sgd
from dr_keras.meta.weighting import share_kept

PRICE = 0.3


@dataclasses.dataclass
class Priced:
    """A toy whose outer loss has the price of what is kept in it."""

    toy: object
    batches: int

    def __getattr__(self, name):
        return getattr(self.toy, name)

    def share(self, eta, index):
        problem, batches = self.toy.problem, self.toy.inner_batches
        batch = {name: value[index] for name, value in batches.items()}
        weights, scores = problem.weigh(eta, self.toy.state, batch)
        return share_kept(weights, problem.weighting(tf.zeros_like(scores), problem.counts(batch)))

    def outer_loss(self, eta):
        shares = [self.share(eta, index) for index in range(self.batches)]
        return self.toy.outer_loss(eta) + PRICE * tf.reduce_mean(shares)


@pytest.mark.parametrize("reads_state", [False, True])
def test_the_gradient_is_that_of_loss_and_price(
    reads_state, toy_problem, assert_matches_central_differences
):
    opened = toy_problem.opened(True, ("inner_loss", "age")) if reads_state else "two_parameters"
    toy = toy_problem(opened, adamw(learning_rate=0.3, clip_norm=0.5), 2, age=1)
    # What a rater that reads the state makes of later batches depends on the state there.
    priced = Priced(toy, 1 if reads_state else 2)
    plain = toy.estimate(NestedTape())
    loss, gradient, state, metrics = toy.estimate(PricedShare(price=PRICE))
    assert_matches_central_differences(priced, gradient)
    assert float(loss) == float(plain[0])
    tf.nest.map_structure(np.testing.assert_array_equal, state, plain[2])
    shares = [float(priced.share(toy.eta, k)) for k in range(priced.batches)]
    np.testing.assert_allclose(metrics["reported"]["share_kept"], np.mean(shares))
    assert all(0 < share < 1 for share in shares)


def test_in_parts_it_is_the_same(toy_problem):
    toy = toy_problem("mlp", sgd(learning_rate=0.2), 1)
    whole, parts = (
        toy.estimate(PricedShare(estimator, PRICE))
        for estimator in (NestedTape(), Recompute(micro_batches=2))
    )
    for found, expected in zip(parts[1], whole[1], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
    shares = [found[3]["reported"]["share_kept"] for found in (parts, whole)]
    np.testing.assert_allclose(*shares)


def test_two_examples_by_hand(toy_problem):
    """w = softmax(eta): the share is 1 / (2 (w_1^2 + w_2^2)), its slope by eta_1 -2 s^2 w_1 w_2 d.

    d = 2 (w_1 - w_2): of w_1^2 + w_2^2 by w_1, where w_2 gives what w_1 takes.
    """
    toy = toy_problem("two_parameters", sgd(learning_rate=0.2), 1)
    free, dear = (toy.estimate(PricedShare(price=price))[1][0] for price in (0.0, 2.0))
    first, second = np.exp(toy.eta[0]) / np.exp(toy.eta[0]).sum()
    share = 1 / (2 * (first**2 + second**2))
    slope = -2 * share**2 * first * second * 2 * (first - second)
    np.testing.assert_allclose(dear - free, 2.0 * np.array([slope, -slope]), rtol=1e-9)


def test_facts_are_those_of_the_estimator_and_no_others():
    class Own:
        micro_batches = 3

    inside = MixedMode(micro_batches=2)
    priced = PricedShare(inside, 0.1)
    assert priced.name == "mixed_mode_priced" and priced.micro_batches == 2
    assert priced.forward_passes(2) == inside.forward_passes(2)
    assert told(priced, "over_devices") is None  # a member's batch is not split
    own = PricedShare(Own(), 0.1)
    assert own.micro_batches == 3 and told(own, "forward_passes", 2) is None
    assert getattr(own, "init", None) is None


def test_what_is_refused():
    with pytest.raises(ConfigurationError, match="PricedShare.price is nan: .* finite"):
        PricedShare(price=float("nan"))
    with pytest.raises(ConfigurationError, match="estimator is priced itself"):
        PricedShare(PricedShare(), 0.1)


def test_a_price_decides_how_much_is_kept(regression_trainer, regression_sets):
    """Dear: a few of eight examples. Paid for: nearly all of them."""
    shares = {}
    for price in (-2.0, 2.0):
        trainer = regression_trainer(
            estimator=PricedShare(price=price),
            outer_optimizer=OuterAdam(0.05, warmup=1, clip_norm=1.0, weight_decay=0.0),
            population_size=1,
            lifetime=None,
        )
        trainer.fit(*regression_sets, 30)
        shares[price] = float(trainer.last_record.members["share_kept"][0])
    assert shares[2.0] < 0.35 and shares[-2.0] > 0.6, shares
