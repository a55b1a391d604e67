"""A price on the share of a batch that is kept: how much to discard is learned with what."""

import math

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta import pytrees
from dr_keras.meta.estimators.nested_tape import NestedTape
from dr_keras.meta.weighting import share_kept
import gin


@gin.configurable
class PricedShare:
    """Lowers outer_loss + price * share, where share is what weights keep of a batch.

    The share is `weighting.share_kept`, the effective sample size as a share of the batch: k of B
    examples with all the weight are k / B. Its mean over the inner batches falls as the rater tells
    examples apart, and what it comes to rest at is a discard fraction that nobody chose: 1 - share,
    which `studies.learned_fraction` reads off scores. Not in the paper, which chooses by a sweep.

    The meta-gradient of the loss is that of `estimator`; the share's is exact. Where the rater
    reads the member's state, only the first inner batch is priced, whose state nothing moves. The
    outer loss that is reported, and all of the estimator's facts, are without the price; the rater
    runs forward and backward once more on what is priced.

    Args:
      estimator: of the meta-gradient of the loss; None is `NestedTape`. Any but one that is priced
        itself.
      price: of keeping everything, in units of the outer loss. Above 0 less is kept; below 0 more,
        which holds up a rater whose weights collapse. The loss is that after one unroll of a few
        updates, whatever a training gains in the end: prices of hundredths of a nat are high.

    Raises:
      ConfigurationError: the price is not finite, or the estimator is priced itself.
    """

    def __init__(self, estimator=None, price: float = 0.0):
        if not math.isfinite(price):
            raise ConfigurationError(f"PricedShare.price is {price}: it must be a finite number.")
        if isinstance(estimator, PricedShare):
            raise ConfigurationError(
                "PricedShare.estimator is priced itself: give it the one inside, and one price."
            )
        self.estimator, self.price = estimator or NestedTape(), price
        self.name = f"{getattr(self.estimator, 'name', type(self.estimator).__name__)}_priced"

    def __getattr__(self, name: str):
        # Facts, and `init` of one with a memory: what the estimator says, and nothing it does not.
        if name.startswith("__") or name == "estimator":
            raise AttributeError(name)
        return getattr(self.estimator, name)

    def over_devices(self):
        """None: replicas that share a batch would each know the share of a part of it."""
        return None

    def __call__(
        self, problem, state, eta: list, inner_batches: dict, outer_batches: dict, key=None
    ) -> tuple:
        """See `dr_keras.meta.estimators`; what it reports has "share_kept", their mean."""
        outer_loss, gradient, new_state, metrics = self.estimator(
            problem, state, eta, inner_batches, outer_batches, key=key
        )
        length = next(iter(inner_batches.values())).shape[0]
        batches = pytrees.unstack_batches(inner_batches, length)
        priced = batches if problem.features is None else batches[:1]
        with tf.GradientTape() as tape:
            tape.watch(eta)
            shares = tf.stack([self._share(problem, state, eta, batch) for batch in priced])
            mean = tf.reduce_mean(shares)
        by_share = tape.gradient(mean, eta, unconnected_gradients="zero")
        pairs = zip(gradient, pytrees.dense(by_share), strict=True)
        moved = [g + self.price * tf.cast(d, g.dtype) for g, d in pairs]
        reported = metrics.get("reported", {}) | {"share_kept": mean}
        return outer_loss, moved, new_state, {**metrics, "reported": reported}

    def _share(self, problem, state, eta: list, batch: dict) -> tf.Tensor:
        parts = getattr(self.estimator, "micro_batches", 1)
        weights, scores = problem.weigh(eta, state, batch, parts)
        return share_kept(weights, problem.weighting(tf.zeros_like(scores), problem.counts(batch)))
