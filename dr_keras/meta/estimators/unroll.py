"""The two loops that `Recompute`, `MixedMode` and `FirstOrder` share.

Forward: a `tf.while_loop` over the T updates that saves what enters each but the first. Backward: a
`tf.while_loop` over t = T-1 ... 1 that takes the cotangent of the state after update t to that of
the state before it and of the weights w_t; the rater's share is added up on the way. The first
update stands outside the loop: its state depends on nothing that eta moves, so only the cotangent
of its weights is asked for, and the Hessian term is never built. Each loop is one body in the
compiled program, whatever T.
"""

import math

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta import checks, pytrees
from dr_keras.meta.estimators.facts import Facts, ForwardPasses, HeldBytes
from dr_keras.meta.estimators.forward_loop import ForwardLoop
from dr_keras.meta.estimators.outer_level import outer_gradient, outer_sums
from dr_keras.meta.micro_batches import check_parts, over_parts
from dr_keras.meta.problem import (
    Cotangent,
    InnerState,
    MetaProblem,
    along,
    inner_gradient,
    pull_back_optimizer,
    seen_of,
)
from dr_keras.meta.pytrees import tree_bytes


def square_root_interval(length: int) -> int:
    """k that about minimises k + T / k, the number of states alive at once: ceil(sqrt(T))."""
    return math.isqrt(length - 1) + 1


class LoopedUnroll(Facts):
    """Forward and backward loop; a subclass says what an update's second derivatives are.

    Args:
      save_gradients: the forward loop keeps the inner gradients beside the states, 4 bytes a
        parameter and update, and the backward loop need not compute them again.
      checkpoint_every: None saves the state that enters each update but the first, T - 1 of them. A
        number k saves every k-th and re-runs the k updates between two of them when the backward
        loop gets there: T / k + k states instead of T, for one more run of the updates. "sqrt"
        picks k = ceil(sqrt(T)).
      micro_batches: inner and outer batches go through inner model and rater in so many equal
        parts, one after the other: activations of one part at a time, the same sums and scores,
        and one more forward pass of the rater. Dropout draws for each part anew; models with
        statistics over the batch are refused.

    Attributes:
      second_passes: forward passes that `second_order` costs for one update, all that it runs again
        included: forward and reverse pass (2 F, the weights' gradient is not asked for) and 6 F of
        second derivatives.
      shared_passes: of those, the ones that an inner gradient made for the optimizer's part has
        in common with it.
      second_activations: how often `second_order` holds a forward pass's activations.

    Raises:
      ConfigurationError: `checkpoint_every` is none of these, or `micro_batches` is below 1; when
        called, a batch that `micro_batches` does not divide.
    """

    def __init__(
        self,
        save_gradients: bool = True,
        checkpoint_every: int | str | None = None,
        micro_batches: int = 1,
    ):
        if isinstance(checkpoint_every, str):
            if checkpoint_every != "sqrt":
                raise ConfigurationError(
                    f"checkpoint_every is {checkpoint_every!r}: it must be a number of updates, "
                    "'sqrt' or None."
                )
        elif checkpoint_every is not None:
            checks.at_least("checkpoint_every", checkpoint_every, 1)
        checks.at_least("micro_batches", micro_batches, 1)
        self.save_gradients = save_gradients
        self.checkpoint_every = checkpoint_every
        self.micro_batches = micro_batches

    second_passes = 8
    shared_passes = 2
    second_activations = 2

    def forward_passes(self, length: int) -> ForwardPasses:
        """As `Facts`; counted in compiled programs by tests/meta/test_estimator_facts.py.

        At most so many: at T = 1, and where the optimizer has no use for gradients that are not
        saved, a compiler finds more to share.
        """
        # Of the first update the cotangent of the weights is asked for alone, `along`: 3 F.
        passes = 3 * length + self.second_passes * (length - 1) + 3
        if not self.save_gradients:
            passes += 3 * length
            if self.micro_batches == 1:  # else a compiler cannot share across the loops over parts
                passes -= self.shared_passes * (length - 1) + 1
        segment = self.segment_length(length)
        if segment != length:
            # Updates run again, but for the last of a segment where only its entry is missed. The
            # gradient of the first of all is not handed on.
            last = 0 if self.save_gradients else -(-length // segment)
            passes += 3 * (length - last)
            if self.save_gradients:
                passes += 2 if self.micro_batches == 1 else 3
        return ForwardPasses(passes, 3)

    def saved_bytes(self, state: InnerState, length: int) -> int:
        """As `Facts`: one state is 12 bytes a parameter under Adam, a gradient 4."""
        one = tree_bytes((state.theta, state.statistics, state.slots))
        gradient = tree_bytes(state.theta) if self.save_gradients else 0
        segment = self.segment_length(length)
        if segment == length:
            return (one + gradient) * (length - 1) + gradient
        return (one + gradient) * segment + one * -(-length // segment)

    def temporary_bytes(self, held: HeldBytes, state: InnerState, length: int) -> int:
        """As `Facts`: activations of one update, what is saved, and what passes through loops."""
        activations = max(self.second_activations * held.inner, held.outer)
        # Of up to two updates the compiler makes straight code; what enters a pass of a longer loop
        # and what leaves it are two.
        carried = (1 if length <= 2 else 2) * (held.state + held.parameters)
        return activations + held.rater + self.saved_bytes(state, length) + carried

    def over_devices(self):
        return self

    def second_order(
        self,
        problem: MetaProblem,
        state: InnerState,
        weights: tf.Tensor,
        batch: dict,
        direction: list,
        onward: list,
    ) -> tuple[list, list, tf.Tensor, list]:
        """Derivatives of <direction, g> + <onward, new statistics> for one update.

        g is the gradient of the weighted loss, and the new statistics are the floating leaves of
        the non-trainable values after it.

        Args:
          state: before the update.
          weights: of the losses' shape.
          direction: u, the cotangent of g, a list like theta.
          onward: the cotangents of the new statistics.

        Returns:
          (by theta: H u and what the statistics add; by the old statistics; by the weights,
          <u, grad l_i>; new statistics)
        """
        raise NotImplementedError

    def pull_back(
        self,
        problem: MetaProblem,
        state: InnerState,
        gradient: list | None,
        weights: tf.Tensor,
        batch: dict,
        cotangent: Cotangent,
        first: bool,
    ) -> tuple[Cotangent | None, tf.Tensor]:
        """Cotangents before one update, given those after it.

        Args:
          state: before the update.
          gradient: the inner gradient, where it was saved.
          weights: of the losses' shape.
          cotangent: of the state after the update.
          first: of the unroll; nobody needs the state's cotangent, and it is not computed.

        Returns:
          (cotangent of the state or None, cotangent of the weights)
        """
        if gradient is None:
            gradient, _, _ = inner_gradient(problem, state, weights, batch, self.micro_batches)
        own, sums, by_weights = self.pull_back_parts(
            problem, state, gradient, weights, batch, cotangent, first
        )
        return None if first else self.joined(own, sums), by_weights

    def pull_back_parts(
        self, problem, state, gradient, weights, batch, cotangent, first
    ) -> tuple[tuple, list, tf.Tensor]:
        """As `pull_back`, before what comes from the examples is joined with what does not.

        Of several replicas that share a batch, each has all of the former and the sums over its own
        examples; see `dr_keras.meta.devices.split_member`.

        Returns:
          (what passes through the optimizer alone, sums over examples: a list that is empty for the
          first update, cotangent of the weights)
        """
        direct, by_slots, direction = pull_back_optimizer(
            problem, state, gradient, cotangent, first
        )

        def of_part(examples, statistics):
            before = state._replace(statistics=statistics)
            if first:
                by_weights, after = along(problem, before, direction, examples[1])
                return [], [by_weights], after
            by_theta, by_statistics, by_weights, after = self.second_order(
                problem, before, *examples, direction, cotangent.statistics
            )
            return pytrees.shaped([*by_theta, *by_statistics], seen_of(before)), [by_weights], after

        sums, (by_weights,), _ = over_parts(
            self.micro_batches, of_part, (weights, batch), state.statistics
        )
        return (direct, by_slots), sums, by_weights

    def joined(self, own: tuple, sums: list) -> Cotangent:
        """Cotangent of the state of the two things that `pull_back_parts` returns first."""
        direct, by_slots = own
        count = len(direct)
        theta = [a + b for a, b in zip(direct, sums[:count], strict=True)]
        return Cotangent(theta, sums[count:], by_slots)

    def segment_length(self, length: int) -> int:
        """Updates between two saved states of the forward loop, as the backward loop sees it."""
        if self.checkpoint_every is None:
            return length
        if self.checkpoint_every == "sqrt":
            return square_root_interval(length)
        return min(self.checkpoint_every, length)

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
        return _Run(self, problem, state, eta, inner_batches)(outer_batches)


class _Run(ForwardLoop):
    """One call of an estimator: its forward loop, and the way back."""

    def __init__(self, estimator, problem, state, eta, inner_batches):
        super().__init__(
            problem, state, eta, inner_batches, estimator.micro_batches, estimator.save_gradients
        )
        self.estimator = estimator
        self.segment = estimator.segment_length(self.length)

    # --- forward -------------------------------------------------------------------------------

    def new_saved(self, size):
        leaves = self.flat(self.state) + (
            [tf.convert_to_tensor(p) for p in self.state.theta] if self.saves_gradients else []
        )
        return self.new_arrays(leaves, size)

    def forward(self):
        """All T updates: (leaves of the last state, saved, records, first gradient or []).

        `saved` holds what enters each update but the first, or each segment of them.
        """
        leaves, records, zero = self.flat(self.state), self.new_records(), tf.constant(0)
        if self.segment == self.length:
            saved = self.new_saved(self.length - 1) if self.length > 1 else []
            first = pytrees.zeros_like(self.state.theta) if self.saves_gradients else []
            return self.updates(leaves, zero, tf.constant(self.length), saved, records, first)

        def body(number, leaves, saved, records):
            saved = [array.write(number, leaf) for array, leaf in zip(saved, leaves)]
            start, stop = self.bounds(number)
            leaves, _, records, _ = self.updates(leaves, start, stop, [], records)
            return number + 1, leaves, saved, records

        saved = self.new_arrays(leaves, self.segments)
        _, leaves, saved, records = tf.while_loop(
            lambda number, *_: number < self.segments, body, (zero, leaves, saved, records)
        )
        return leaves, saved, records, []

    @property
    def segments(self):
        return -(-self.length // self.segment)

    def bounds(self, number):
        start = number * self.segment
        return start, tf.minimum(start + self.segment, self.length)

    def replay(self, leaves, start, stop):
        """What enters the updates of a segment, re-run from its first state."""
        saved = self.new_saved(self.segment)
        if self.saves_gradients:
            return self.updates(leaves, start, stop, saved, {})[1]
        last = stop - 1  # whose outcome the backward loop has no use for
        leaves, saved, *_ = self.updates(leaves, start, last, saved, {})
        return [array.write(last - start, leaf) for array, leaf in zip(saved, leaves)]

    # --- backward ------------------------------------------------------------------------------

    def pull_back(self, leaves, gradient, index, cotangent, first):
        """(cotangent before update `index`, what it adds to the meta-gradient)."""
        state, batch = self.unflat(leaves, index), self.batch(index)
        seen = seen_of(state) if self.problem.sees_state and not first else []
        with tf.GradientTape() as tape:
            tape.watch([*self.eta, *seen])
            weights, _ = self.problem.weigh(self.eta, state, batch, self.parts)
        before, weights_cotangent = self.estimator.pull_back(
            self.problem, state, gradient, weights, batch, cotangent, first
        )
        found = tape.gradient(
            weights,
            [*self.eta, *seen],
            output_gradients=tf.cast(weights_cotangent, weights.dtype),
            unconnected_gradients="zero",
        )
        found = pytrees.dense(found)
        share, through = found[: len(self.eta)], found[len(self.eta) :]
        return before.plus(through) if through else before, share

    def read(self, saved, index):
        """(leaves, gradient or None) that were saved at `index`."""
        values = [array.read(index) for array in saved]
        count = len(self.flat(self.state))
        return values[:count], values[count:] if len(values) > count else None

    def backward(self, cotangent, total, saved, start, stop):
        """From update stop - 1 down to `start`, whose entry is the first in `saved`."""

        def body(index, cotangent, total):
            leaves, gradient = self.read(saved, index - start)
            before, share = self.pull_back(leaves, gradient, index, cotangent, first=False)
            for leaf, like in zip(tf.nest.flatten(before), tf.nest.flatten(cotangent)):
                leaf.set_shape(like.shape)
            return index - 1, before, [a + b for a, b in zip(total, share)]

        low = tf.maximum(start, 1)  # update 0 is not this loop's
        _, cotangent, total = tf.while_loop(
            lambda index, *_: index >= low, body, (stop - 1, cotangent, total)
        )
        return cotangent, total

    def __call__(self, outer_batches):
        if self.parts > 1:  # else nothing need have a batch, which a toy problem lacks
            sizes = {
                "inner": tf.nest.flatten(self.inner_batches)[0].shape[1],
                "outer": tf.nest.flatten(outer_batches)[0].shape[0],
            }
            check_parts(self.parts, sizes, self.state.statistics, self.estimator)
        leaves, saved, records, first_gradient = self.forward()
        final = self.unflat(leaves, self.length)
        sums = outer_sums(self.problem, final, outer_batches, self.parts)
        outer_loss, outer_losses, cotangent = outer_gradient(self.problem, final, sums)
        total = pytrees.zeros_like(self.eta)

        if self.segment == self.length:
            if self.length > 1:
                cotangent, total = self.backward(
                    cotangent, total, saved, tf.constant(1), tf.constant(self.length)
                )
        else:

            def body(number, cotangent, total):
                start, stop = self.bounds(number)
                leaves = [array.read(number) for array in saved]
                states = self.replay(leaves, start, stop)
                cotangent, total = self.backward(cotangent, total, states, start, stop)
                return number - 1, cotangent, total

            _, cotangent, total = tf.while_loop(
                lambda number, *_: number >= 0,
                body,
                (tf.constant(self.segments - 1), cotangent, total),
            )
        _, share = self.pull_back(
            self.flat(self.state), first_gradient or None, 0, cotangent, first=True
        )
        total = [a + b for a, b in zip(total, share)]
        metrics = {name: array.stack() for name, array in records.items()}
        metrics["outer_losses"] = outer_losses
        return outer_loss, total, final, metrics
