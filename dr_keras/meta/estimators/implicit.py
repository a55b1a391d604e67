"""An approximate meta-gradient from the last state alone: the derivative of a minimum.

Were theta_T a minimum theta*(eta) of the weighted loss f(theta, eta), gradient 0, the implicit
function theorem would give d theta* / d eta without any unroll (Lorraine et al., 2020, arXiv
1911.02590; Pedregosa, 2016, arXiv 1602.02355):

    v = H^-1 grad L(theta_T)                 H the Hessian of f by theta
    d L / d eta = - sum_i <v, grad l_i(theta_T)> d w_i / d eta

It is the limit of an unroll that goes on for ever, and holds no states of one.
"""

import dataclasses

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta import checks, pytrees
from dr_keras.meta.estimators.facts import Facts, ForwardPasses
from dr_keras.meta.estimators.forward_loop import ForwardLoop
from dr_keras.meta.estimators.outer_level import outer_gradient, outer_sums
from dr_keras.meta.micro_batches import over_parts
from dr_keras.meta.problem import InnerState, MetaProblem, along, inner_gradient
import gin

SOLVERS = ("conjugate_gradients", "neumann")

# The squared residual, relative to that at the beginning, at which conjugate gradients stop.
_SOLVED = 1e-20


@gin.configurable
@dataclasses.dataclass(frozen=True)
class ImplicitGradient(Facts):
    """APPROXIMATE: takes the state after the T updates for the end of a training on their batches.

    f is the mean over the T inner batches of their weighted losses. What is left out: that theta_T
    is no minimum, and members go on; what the optimizer makes of a gradient (decoupled weight decay
    moves where it ends); statistics that follow theta. The younger the member, the further off it
    is. On the other hand it sees what an unroll of a few updates does not: all that an example does
    until the end.

    Cost in forward passes F of the inner model, outer batch = inner batch, rater not counted:
    (3T + 3 + 8 T iterations + 3T) F. Nothing that grows with T is held.

    Attributes:
      solver: "conjugate_gradients", of (H + damping) v = grad L; a direction in which f curves
        down, as away from minima, ends it early. Or "neumann", v = step sum_k (1 - step (H +
        damping))^k grad L with k < iterations: what so many steps of gradient descent would make of
        it; it diverges where a step is longer than 2 / the largest eigenvalue.
      iterations: products with H, at least 1.
      step: of the series, above 0.
      damping: added to H, at least 0: the smaller, the further v goes where f is nearly flat.
      micro_batches: as `LoopedUnroll`.

    It reports "implicit_residual", |(H + damping) v - grad L| / |grad L|: near 0 where the system
    is solved, above 1 where the series diverges.

    Raises:
      ConfigurationError: a setting out of its range; when called, a rater that sees the member's
        state in the meta-gradient, whose system is not symmetric.
    """

    solver: str = "conjugate_gradients"
    iterations: int = 10
    step: float = 0.1
    damping: float = 0.1
    micro_batches: int = 1

    name = "implicit"
    biased = True

    def __post_init__(self):
        checks.at_least("ImplicitGradient.iterations", self.iterations, 1)
        checks.at_least("ImplicitGradient.micro_batches", self.micro_batches, 1)
        if self.solver not in SOLVERS:
            raise ConfigurationError(
                f"ImplicitGradient.solver is {self.solver!r}: it must be one of"
                f" {', '.join(SOLVERS)}."
            )
        if not self.step > 0:
            raise ConfigurationError(f"ImplicitGradient.step is {self.step}: it must be above 0.")
        if not self.damping >= 0:
            raise ConfigurationError(
                f"ImplicitGradient.damping is {self.damping}: it must be at least 0."
            )

    def forward_passes(self, length):
        return ForwardPasses((3 + 8 * self.iterations + 3) * length, 3)

    def saved_bytes(self, state, length):
        return 0

    def temporary_bytes(self, held, state, length):
        # Four vectors of the solver, of which a loop has two copies.
        loops = 2 * (held.state + 4 * held.parameters)
        return max(2 * held.inner, held.outer) + held.rater + loops

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
        if problem.sees_state:
            raise ConfigurationError(
                "ImplicitGradient cannot go through what the rater reads of the member's state: set"
                " MetaTrainer.through_features = False, or use an estimator that unrolls."
            )
        loop = ForwardLoop(problem, state, eta, inner_batches, self.micro_batches)
        leaves, _, records, _ = loop.updates(
            loop.flat(state), 0, loop.length, [], loop.new_records()
        )
        final = loop.unflat(leaves, loop.length)
        sums = outer_sums(problem, final, outer_batches, self.micro_batches)
        outer_loss, outer_losses, cotangent = outer_gradient(problem, final, sums)
        weights = self._weights(loop, final)
        direction, residual = self.solve(
            lambda vector: self._product(loop, final, weights, vector),
            pytrees.shaped(cotangent.theta, final.theta),
        )
        metrics = {name: array.stack() for name, array in records.items()}
        metrics["outer_losses"] = outer_losses
        metrics["reported"] = {"implicit_residual": residual}
        return outer_loss, self._by_eta(loop, final, direction), final, metrics

    # --- the system -----------------------------------------------------------------------------

    def _weights(self, loop: ForwardLoop, final: InnerState) -> tf.Tensor:
        """Weights [T, B] (or [T, B, S]) of the inner batches under the last state."""

        def body(index, weights):
            found, _ = loop.problem.weigh(loop.eta, final, loop.batch(index), loop.parts)
            return index + 1, weights.write(index, found)

        shape = loop.problem.counts(loop.batch(0)).shape
        weights = tf.TensorArray(loop.eta[0].dtype, loop.length, element_shape=shape)
        _, weights = tf.while_loop(lambda index, _: index < loop.length, body, (0, weights))
        return weights.stack()

    def _product(self, loop: ForwardLoop, final: InnerState, weights, vector: list) -> list:
        """(H + damping) vector, lists like theta."""

        def of_batch(index, total):
            def of_part(examples, statistics):
                here = final._replace(statistics=statistics)
                with tf.GradientTape() as tape:
                    tape.watch(final.theta)
                    gradient, _, after = inner_gradient(loop.problem, here, *examples)
                found = tape.gradient(
                    gradient, final.theta, output_gradients=vector, unconnected_gradients="zero"
                )
                return pytrees.shaped(found, final.theta), [], after

            examples = tf.gather(weights, index), loop.batch(index)
            found, _, _ = over_parts(loop.parts, of_part, examples, final.statistics)
            return index + 1, [a + b / loop.length for a, b in zip(total, found, strict=True)]

        damped = [self.damping * leaf for leaf in vector]
        return tf.while_loop(lambda index, _: index < loop.length, of_batch, (0, damped))[1]

    def _by_eta(self, loop: ForwardLoop, final: InnerState, direction: list) -> list:
        """- mean_t sum_i <direction, grad l_t,i> d w_t,i / d eta, a list like eta."""
        direction = [-leaf / loop.length for leaf in direction]

        def body(index, total):
            batch = loop.batch(index)

            def of_part(batch, statistics):
                here = final._replace(statistics=statistics)
                by_weights, after = along(loop.problem, here, direction, batch)
                return [], [by_weights], after

            _, (by_weights,), _ = over_parts(loop.parts, of_part, batch, final.statistics)
            with tf.GradientTape() as tape:
                tape.watch(loop.eta)
                weights, _ = loop.problem.weigh(loop.eta, final, batch, loop.parts)
            share = tape.gradient(
                weights,
                loop.eta,
                output_gradients=tf.cast(by_weights, weights.dtype),
                unconnected_gradients="zero",
            )
            share = pytrees.shaped(share, loop.eta)
            return index + 1, [a + b for a, b in zip(total, share, strict=True)]

        return tf.while_loop(
            lambda index, _: index < loop.length, body, (0, pytrees.zeros_like(loop.eta))
        )[1]

    # --- how it is solved -----------------------------------------------------------------------

    def solve(self, product, right: list) -> tuple[list, tf.Tensor]:
        """(v with product(v) about `right`, a list; |product(v) - right| / |right|, a scalar)."""
        solver = self._neumann if self.solver == "neumann" else self._conjugate_gradients
        solution, rest = solver(product, right)
        return solution, pytrees.global_norm(rest) / pytrees.global_norm(right)

    def _neumann(self, product, right):
        def body(index, total, term):
            total = [a + self.step * b for a, b in zip(total, term, strict=True)]
            term = [a - self.step * b for a, b in zip(term, product(term), strict=True)]
            return index + 1, total, term

        # What is left after so many terms is the next of them: right - product(total) = term.
        return tf.while_loop(
            lambda index, *_: index < self.iterations, body, (0, pytrees.zeros_like(right), right)
        )[1:]

    def _conjugate_gradients(self, product, right):
        """Hestenes and Stiefel; the first direction is followed whatever its curvature.

        As if it curved up as much as it curves down: else nothing would be known of a saddle.
        """

        def add(a, scale, b):
            return [x + scale * y for x, y in zip(a, b, strict=True)]

        def body(index, going, solution, rest, way, square):
            curved = product(way)
            curvature = _dot(way, curved)
            # A NaN goes on, and shows in the end.
            upward = tf.logical_not(curvature <= 0)
            length = square / tf.abs(curvature)
            length = tf.where(upward | (index == 0), length, tf.zeros_like(length))
            solution, rest = add(solution, length, way), add(rest, -length, curved)
            new_square = _dot(rest, rest)
            way = add(rest, new_square / square, way)
            going = upward & tf.logical_not(new_square <= _SOLVED * first)
            return index + 1, going, solution, rest, way, new_square

        first = _dot(right, right)
        start = (0, tf.logical_not(first <= 0), pytrees.zeros_like(right), right, right, first)
        _, _, solution, rest, _, _ = tf.while_loop(
            lambda index, going, *_: (index < self.iterations) & going, body, start
        )
        return solution, rest


def _dot(a: list, b: list) -> tf.Tensor:
    return tf.add_n([tf.reduce_sum(x * y) for x, y in zip(a, b, strict=True)])
