"""A price on the share that is kept: its gradient, its facts, and what it does to a rater."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.estimators import MixedMode, NestedTape, PricedShare, told
from dr_keras.meta.optimizers import OuterAdam, adamw, sgd
from dr_keras.meta.weighting import share_kept

PRICE = 0.3


@dataclasses.dataclass
class Priced:
    """A toy whose outer loss has the price of what is kept in it."""

    toy: object
    batches: int | None = None

    def __getattr__(self, name):
        return getattr(self.toy, name)

    def share(self, eta, index):
        problem, batches = self.toy.problem, self.toy.inner_batches
        batch = {name: value[index] for name, value in batches.items()}
        weights, scores = problem.weigh(eta, self.toy.state, batch)
        return share_kept(weights, problem.weighting(tf.zeros_like(scores), problem.counts(batch)))

    def outer_loss(self, eta):
        length = next(iter(self.toy.inner_batches.values())).shape[0]
        shares = [self.share(eta, index) for index in range(self.batches or length)]
        return self.toy.outer_loss(eta) + PRICE * tf.reduce_mean(shares)


@pytest.mark.parametrize("estimator", [NestedTape(), MixedMode(micro_batches=2)], ids=["", "parts"])
@pytest.mark.parametrize(
    "by_token, features, length", [(False, (), 3), (True, (), 2), (False, ("inner_loss", "age"), 2)]
)
def test_the_gradient_is_that_of_loss_and_price(
    by_token, features, length, estimator, toy_problem, assert_matches_central_differences
):
    opened = toy_problem.opened(by_token, features)
    toy = toy_problem(opened, adamw(learning_rate=0.3, clip_norm=0.5), length, age=1)
    # What a rater that reads the state makes of later batches depends on the state there.
    priced = Priced(toy, 1 if features else None)
    plain = toy.estimate(estimator)
    loss, gradient, state, metrics = toy.estimate(PricedShare(estimator, PRICE))
    assert_matches_central_differences(priced, gradient)
    assert float(loss) == float(plain[0])
    tf.nest.map_structure(np.testing.assert_array_equal, state, plain[2])
    shares = [float(priced.share(toy.eta, k)) for k in range(priced.batches or length)]
    np.testing.assert_allclose(metrics["share_kept"], shares)
    assert all(0 < share < 1 for share in shares)


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
    """The dearer the less; below 0 nearly all. The order of the scores stays what it is for."""
    shares, aucs = {}, {}
    for price in (-0.3, 0.0, 0.3):
        trainer = regression_trainer(
            estimator=PricedShare(price=price),
            outer_optimizer=OuterAdam(0.03, warmup=1, clip_norm=1.0, weight_decay=0.0),
            population_size=1,
            lifetime=None,
        )
        trainer.fit(*regression_sets, 60)
        shares[price] = trainer.last_record.members["share_kept"][0]
        scores = trainer.rater(dict(regression_sets[0].features)).numpy()[:, 0]
        aucs[price] = (scores[20:, None] > scores[:20]).mean()  # the first half lies
    assert shares[0.3] < shares[0.0] - 0.1 and shares[0.0] < shares[-0.3] - 0.1, shares
    assert aucs[0.3] > 0.7 and aucs[0.0] > 0.7, aucs
