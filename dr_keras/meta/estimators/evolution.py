"""A meta-gradient from values of the outer objective alone, whatever that is: no derivative of it.

For a metric that has none (accuracy on multiple choice), for models without second derivatives, and
for long unrolls, of which nothing is held. Evolution strategies (Salimans et al., 2017, arXiv
1703.03864): in antithetic pairs, the unroll is run with a perturbation and with its opposite, and
the difference of the two outcomes says how far to follow it.
"""

import dataclasses

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta import checks, pytrees
from dr_keras.meta.estimators.facts import Facts, ForwardPasses
from dr_keras.meta.estimators.forward_loop import ForwardLoop
from dr_keras.meta.estimators.outer_level import outer_losses
from dr_keras.meta.problem import InnerState, MetaProblem, inner_update
import gin

PERTURBED = ("scores", "parameters")
SHAPING = ("ranks", "none")


@gin.configurable
@dataclasses.dataclass(frozen=True)
class EvolutionStrategies(Facts):
    """Estimates the gradient of E J(x + spread * normal noise), J the outer loss of theta_T.

    That is a smoothed J: what has steps, such as an error rate, has a slope then. The estimate is
    its mean over pairs of (J(x + d) - J(x - d)) / (2 spread^2) d, d = spread * noise. Dropout
    draws the same masks in all runs, and all of them have the same batches.

    Cost in forward passes F of the inner model, outer batch = inner batch, rater not counted:
    (3T + 1) F a run, 2 pairs + 1 runs; a rater that reads the member's state costs 3T F more.

    Attributes:
      pairs: antithetic pairs for each member and meta-step.
      spread: standard deviation of the noise, above 0. Of scores it is in units of the weighting's
        logarithm: at 0.5 an example weighs up to some e^0.5 times more or less.
      perturbed: "scores", the noise is added to the scores of the T batches, and the slope by them
        goes through the rater's own derivative; or "parameters", to all of the rater's, which needs
        no derivative of the rater either. The variance of an estimate grows with how many numbers
        are perturbed: T * B scores are far fewer than parameters.
      shaping: "ranks", values of J count by their rank among the 2 * pairs ones (Salimans et al.,
        section 2.1), brought to the spread of the values, so that one outlier does not decide the
        direction and learning rates keep their meaning; ties have one rank. "none": as they are.
      micro_batches: as `LoopedUnroll`.

    Where the outer loss of any run is not finite, so is the estimate.

    Raises:
      ConfigurationError: a setting out of its range; called without a key.
    """

    pairs: int = 8
    spread: float = 0.5
    perturbed: str = "scores"
    shaping: str = "ranks"
    micro_batches: int = 1

    name = "evolution_strategies"
    biased = True
    needs_derivatives = False

    def __post_init__(self):
        checks.at_least("EvolutionStrategies.pairs", self.pairs, 1)
        checks.at_least("EvolutionStrategies.micro_batches", self.micro_batches, 1)
        if not self.spread > 0:
            raise ConfigurationError(
                f"EvolutionStrategies.spread is {self.spread}: it must be above 0."
            )
        for name, choices in (("perturbed", PERTURBED), ("shaping", SHAPING)):
            if (value := getattr(self, name)) not in choices:
                raise ConfigurationError(
                    f"EvolutionStrategies.{name} is {value!r}: it must be one of"
                    f" {', '.join(choices)}."
                )

    def forward_passes(self, length):
        runs = 2 * self.pairs + 1
        return ForwardPasses(3 * length * runs, runs)

    def saved_bytes(self, state, length):
        return 0

    def temporary_bytes(self, held, state, length):
        return max(held.inner, held.outer) + held.rater + 2 * (held.state + held.parameters)

    def over_devices(self):
        return self

    # --- the parts that replicas may share, see dr_keras.meta.devices.shared_pairs --------------

    def outcomes(
        self, problem: MetaProblem, state, eta, inner_batches, outer_batches, key, first, count
    ) -> tf.Tensor:
        """Outer losses [count, 2] of the pairs from number `first` on, each with both signs."""
        inner = state.theta[0].dtype

        def body(index, losses):
            sign = tf.where(index % 2 == 0, self.spread, -self.spread)
            noise = self.noise(problem, eta, inner_batches, key, first + index // 2)
            noise = [tf.cast(sign, leaf.dtype) * leaf for leaf in noise]
            if self.perturbed == "scores":
                loop = _PerturbedScores(problem, state, eta, inner_batches, self.micro_batches)
                (loop.added,) = noise
            else:
                moved = [leaf + d for leaf, d in zip(eta, noise, strict=True)]
                loop = ForwardLoop(problem, state, moved, inner_batches, self.micro_batches)
            leaves, *_ = loop.updates(loop.flat(state), 0, loop.length, [], {})
            final = loop.unflat(leaves, loop.length)
            loss = problem.combination(
                outer_losses(problem, final, outer_batches, self.micro_batches)
            )
            return index + 1, losses.write(index, tf.cast(loss, inner))

        losses = tf.TensorArray(inner, 2 * count, element_shape=())
        _, losses = tf.while_loop(lambda index, _: index < 2 * count, body, (0, losses))
        return tf.reshape(losses.stack(), [count, 2])

    def noise(self, problem: MetaProblem, eta, inner_batches, key, pair) -> list:
        """Normal noise of pair number `pair`: [T, B] (or [T, B, S]), or a list like eta."""
        like = eta
        if self.perturbed == "scores":
            first = {name: value[0] for name, value in inner_batches.items()}
            length = next(iter(inner_batches.values())).shape[0]
            like = [tf.zeros([length, *problem.counts(first).shape], eta[0].dtype)]
        fold = tf.random.experimental.stateless_fold_in
        key = fold(tf.cast(key, tf.int32), pair)
        return [
            tf.random.stateless_normal(leaf.shape, fold(key, number), dtype=leaf.dtype)
            for number, leaf in enumerate(like)
        ]

    def slopes(self, losses: tf.Tensor) -> tf.Tensor:
        """[pairs]: how far the estimate follows each pair's noise, of their losses [pairs, 2]."""
        values = losses
        if self.shaping == "ranks":
            flat = tf.reshape(losses, [-1])
            ranks = tf.reduce_mean(tf.sign(flat[:, None] - flat[None]), axis=1)
            of_values = tf.math.reduce_std(flat)
            ranks *= tf.math.divide_no_nan(of_values, tf.math.reduce_std(ranks))
            values = tf.reshape(ranks, losses.shape)
        slopes = (values[:, 0] - values[:, 1]) / (2 * self.spread * self.pairs)
        nothing = tf.constant(float("nan"), slopes.dtype)
        return tf.where(tf.reduce_all(tf.math.is_finite(losses)), slopes, nothing)

    def followed(self, problem: MetaProblem, eta, inner_batches, key, slopes, first, count) -> list:
        """The sum of slope * noise over the pairs from number `first` on, like `noise`."""

        def body(index, total):
            noise = self.noise(problem, eta, inner_batches, key, first + index)
            scale = slopes[index]
            total = [a + tf.cast(scale, a.dtype) * b for a, b in zip(total, noise, strict=True)]
            return index + 1, total

        like = self.noise(problem, eta, inner_batches, key, first)
        return tf.while_loop(lambda index, _: index < count, body, (0, pytrees.zeros_like(like)))[1]

    def finished(
        self, problem: MetaProblem, state, eta, inner_batches, outer_batches, followed, losses
    ) -> tuple[tf.Tensor, list, InnerState, dict]:
        """The run without noise, and what an estimator returns, of all pairs' sum and losses."""
        loop = ForwardLoop(problem, state, eta, inner_batches, self.micro_batches)
        leaves, _, records, _ = loop.updates(
            loop.flat(state), 0, loop.length, [], loop.new_records()
        )
        final = loop.unflat(leaves, loop.length)
        held_out = outer_losses(problem, final, outer_batches, self.micro_batches)
        gradient = followed
        if self.perturbed == "scores":
            gradient = self._through_rater(loop, *followed)
        metrics = {name: array.stack() for name, array in records.items()}
        metrics["outer_losses"] = held_out
        metrics["reported"] = {
            "perturbed_loss_deviation": tf.math.reduce_std(losses),
            "perturbed_losses_not_finite": tf.reduce_sum(
                tf.cast(~tf.math.is_finite(losses), losses.dtype)
            ),
        }
        return problem.combination(held_out), gradient, final, metrics

    def _through_rater(self, loop: ForwardLoop, by_scores: tf.Tensor) -> list:
        """sum_t <by_scores_t, d scores_t / d eta>, by a list like eta."""
        problem, eta = loop.problem, loop.eta

        def body(index, leaves, total):
            state, batch = loop.unflat(leaves, index), loop.batch(index)
            with tf.GradientTape() as tape:
                tape.watch(eta)
                scores = problem.scores(eta, state, batch, loop.parts)
            share = tape.gradient(
                scores,
                eta,
                output_gradients=tf.cast(tf.gather(by_scores, index), scores.dtype),
                unconnected_gradients="zero",
            )
            if problem.features is not None:
                weights = problem.weighting(scores, problem.counts(batch))
                state, _ = inner_update(problem, state, weights, batch, loop.parts)
                leaves = loop.flat(state)
            share = pytrees.shaped(share, eta)
            return index + 1, leaves, [a + b for a, b in zip(total, share, strict=True)]

        return tf.while_loop(
            lambda index, *_: index < loop.length,
            body,
            (0, loop.flat(loop.state), pytrees.zeros_like(eta)),
        )[2]

    def __call__(
        self,
        problem: MetaProblem,
        state: InnerState,
        eta: list,
        inner_batches: dict,
        outer_batches: dict,
        key: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, list, InnerState, dict]:
        """See `dr_keras.meta.estimators` for the interface."""
        if key is None:
            raise ConfigurationError(
                "EvolutionStrategies draws its noise from a key: call it with key=, int32 [2]."
            )
        losses = self.outcomes(
            problem, state, eta, inner_batches, outer_batches, key, 0, self.pairs
        )
        slopes = self.slopes(losses)
        followed = self.followed(problem, eta, inner_batches, key, slopes, 0, self.pairs)
        return self.finished(problem, state, eta, inner_batches, outer_batches, followed, losses)


class _PerturbedScores(ForwardLoop):
    """Updates on scores with noise `added`, [T, B] or [T, B, S]."""

    added: tf.Tensor

    def weigh(self, state, batch, index):
        scores = self.problem.scores(self.eta, state, batch, self.parts)
        scores += tf.gather(self.added, index)
        return self.problem.weighting(scores, self.problem.counts(batch)), scores
