"""The two loops that `Recompute`, `MixedMode` and `FirstOrder` share.

Forward: a `tf.while_loop` over the T updates that saves what enters each of them. Backward: a
`tf.while_loop` over t = T-1 ... 1 that hands the cotangent of the state after update t to
`LoopedUnroll.pull_back`, which returns that of the state before it and of the weights w_t; the
rater's share is added up on the way. The first update stands outside the loop: its state depends
on nothing that eta moves, so only the cotangent of its weights is asked for, and the Hessian term
is never built. Each loop is one body in the compiled program, whatever T.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from dr_keras.differentiation import xla_gradients  # noqa: F401 - registers gradients
from dr_keras.errors import ConfigurationError
from dr_keras.meta import checks, pytrees
from dr_keras.meta.problem import InnerState, MetaProblem, inner_gradient, weight_metrics


class Cotangent(NamedTuple):
    """d outer_loss / d state: one list of tensors a part, leaves of floating type only."""

    theta: list
    non_trainable: list
    slots: list


def floating(tree) -> list:
    """Leaves that a derivative can go through; seeds and counters have none."""
    return [leaf for leaf in tf.nest.flatten(tree) if leaf.dtype.is_floating]


def square_root_interval(length: int) -> int:
    """k that about minimises k + T / k, the number of states alive at once: ceil(sqrt(T))."""
    return math.isqrt(length - 1) + 1


def pull_back_optimizer(
    problem: MetaProblem, state: InnerState, gradient: list, cotangent: Cotangent, first: bool
) -> tuple[list, list, list]:
    """Cotangents of (theta, slots, gradient) through U alone, element-wise arithmetic.

    `theta` here is the direct dependence of theta' on theta, the inner gradient held still. For
    the first update the first two are empty.
    """
    slots = floating(state.slots)
    with tf.GradientTape() as tape:
        tape.watch(gradient if first else [state.theta, slots, gradient])
        theta, new_slots = problem.optimizer.update(
            state.theta, state.slots, gradient, state.age
        )
        targets = [*theta, *floating(new_slots)]
    sources = ([], [], gradient) if first else (state.theta, slots, gradient)
    return tape.gradient(
        targets,
        sources,
        output_gradients=[*cotangent.theta, *cotangent.slots],
        unconnected_gradients="zero",
    )


def along(problem: MetaProblem, state: InnerState, direction: list, batch: dict) -> tf.Tensor:
    """Directional derivatives of the losses [B] along `direction`, a list like theta: forward mode.

    With u the cotangent of the inner gradient, this is the cotangent of the weights: g is
    sum_i w_i grad l_i, so that <u, dg/dw_i> = <u, grad l_i>.
    """
    with tf.autodiff.ForwardAccumulator(state.theta, direction) as accumulator:
        losses, _ = problem.inner_loss(state.theta, state.non_trainable, batch)
    return accumulator.jvp(losses, unconnected_gradients="zero")


class LoopedUnroll:
    """Forward and backward loop; a subclass says how one update is pulled back.

    Args:
      checkpoint_every: None saves the state that enters each update. A number k saves every k-th
        and re-runs the k updates between two of them when the backward loop gets there: T / k + k
        states instead of T, for one more run of the updates. "sqrt" picks k = ceil(sqrt(T)).

    Raises:
      ConfigurationError: `checkpoint_every` is none of these.
    """

    # Whether the forward loop saves the inner gradients beside the states.
    save_gradients = False

    def __init__(self, checkpoint_every: int | str | None = None):
        if isinstance(checkpoint_every, str):
            if checkpoint_every != "sqrt":
                raise ConfigurationError(
                    f"checkpoint_every is {checkpoint_every!r}: it must be a number of updates, "
                    "'sqrt' or None."
                )
        elif checkpoint_every is not None:
            checks.at_least("checkpoint_every", checkpoint_every, 1)
        self.checkpoint_every = checkpoint_every

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
          weights: [B].
          cotangent: of the state after the update.
          first: of the unroll; the state's cotangent is not needed, and None will do.

        Returns:
          (cotangent of the state, cotangent of the weights [B])
        """
        raise NotImplementedError

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
        outer_batch: dict,
    ) -> tuple[tf.Tensor, list, InnerState, dict]:
        """See `dr_keras.meta.estimators` for the interface."""
        return _Run(self, problem, state, eta, inner_batches)(outer_batch)


class _Run:
    """One call of an estimator; loop variables are flat lists of tensors and TensorArrays."""

    def __init__(self, estimator, problem, state, eta, inner_batches):
        self.estimator, self.problem, self.eta = estimator, problem, list(eta)
        self.inner_batches = inner_batches
        self.state = state
        self.length, self.batch_size = next(iter(inner_batches.values())).shape[:2]
        self.segment = estimator.segment_length(self.length)
        self.saves_gradients = estimator.save_gradients

    # --- states as flat lists ------------------------------------------------------------------

    def flat(self, state):
        """Leaves of `state` without its age, which is known from the number of the update."""
        leaves = tf.nest.flatten((state.theta, state.non_trainable, state.slots))
        shapes = tf.nest.flatten((self.state.theta, self.state.non_trainable, self.state.slots))
        leaves = [tf.convert_to_tensor(leaf) for leaf in leaves]
        for leaf, like in zip(leaves, shapes):
            leaf.set_shape(like.shape)  # some gradients forget it, and the loops need it
        return leaves

    def unflat(self, leaves, index):
        like = (list(self.state.theta), self.state.non_trainable, self.state.slots)
        return InnerState(*tf.nest.pack_sequence_as(like, leaves), self.state.age + index)

    def batch(self, index):
        return {name: tf.gather(value, index) for name, value in self.inner_batches.items()}

    # --- arrays --------------------------------------------------------------------------------

    def new_arrays(self, leaves, size):
        return [
            tf.TensorArray(leaf.dtype, size, element_shape=leaf.shape, clear_after_read=False)
            for leaf in leaves
        ]

    def new_saved(self, size):
        leaves = self.flat(self.state) + (
            [tf.convert_to_tensor(p) for p in self.state.theta] if self.saves_gradients else []
        )
        return self.new_arrays(leaves, size)

    def new_records(self):
        def array(dtype, *shape):
            return tf.TensorArray(dtype, self.length, element_shape=shape)

        rater, inner = self.eta[0].dtype, self.state.theta[0].dtype
        return {
            "scores": array(rater, self.batch_size),
            "inner_losses": array(inner, self.batch_size),
            "weight_entropy": array(rater),
            "effective_sample_size": array(rater),
        }

    # --- forward -------------------------------------------------------------------------------

    def updates(self, leaves, start, stop, saved, records):
        """Updates start ... stop - 1; what enters each is saved, and its metrics recorded.

        `saved` (a list) or `records` (a dict) may be empty: then nothing is kept there.
        """

        def body(index, leaves, saved, records):
            state, batch = self.unflat(leaves, index), self.batch(index)
            weights, scores = self.problem.weights(self.eta, batch)
            gradient, losses, non_trainable = inner_gradient(self.problem, state, weights, batch)
            if saved:
                entering = [*leaves, *gradient] if self.saves_gradients else leaves
                saved = [a.write(index - start, leaf) for a, leaf in zip(saved, entering)]
            if records:
                values = {"scores": scores, "inner_losses": losses, **weight_metrics(weights)}
                records = {
                    name: array.write(index, tf.cast(values[name], array.dtype))
                    for name, array in records.items()
                }
            theta, slots = self.problem.optimizer.update(
                state.theta, state.slots, gradient, state.age
            )
            new = InnerState(theta, non_trainable, slots, state.age + 1)
            return index + 1, self.flat(new), saved, records

        _, leaves, saved, records = tf.while_loop(
            lambda index, *_: index < stop, body, (start, leaves, saved, records)
        )
        return leaves, saved, records

    def forward(self):
        """All T updates: (leaves of the last state, saved, records).

        `saved` holds what enters each update, or each segment of them.
        """
        leaves, records, zero = self.flat(self.state), self.new_records(), tf.constant(0)
        if self.segment == self.length:
            saved = self.new_saved(self.length) if self.length > 1 or self.saves_gradients else []
            return self.updates(leaves, zero, tf.constant(self.length), saved, records)

        def body(number, leaves, saved, records):
            saved = [array.write(number, leaf) for array, leaf in zip(saved, leaves)]
            start, stop = self.bounds(number)
            leaves, _, records = self.updates(leaves, start, stop, [], records)
            return number + 1, leaves, saved, records

        saved = self.new_arrays(leaves, self.segments)
        _, leaves, saved, records = tf.while_loop(
            lambda number, *_: number < self.segments, body, (zero, leaves, saved, records)
        )
        return leaves, saved, records

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
        leaves, saved, _ = self.updates(leaves, start, last, saved, {})
        return [array.write(last - start, leaf) for array, leaf in zip(saved, leaves)]

    # --- backward ------------------------------------------------------------------------------

    def pull_back(self, leaves, gradient, index, cotangent, first):
        """(cotangent before update `index`, what it adds to the meta-gradient)."""
        state, batch = self.unflat(leaves, index), self.batch(index)
        with tf.GradientTape() as tape:
            tape.watch(self.eta)
            weights, _ = self.problem.weights(self.eta, batch)
        before, weights_cotangent = self.estimator.pull_back(
            self.problem, state, gradient, weights, batch, cotangent, first
        )
        share = tape.gradient(
            weights,
            self.eta,
            output_gradients=tf.cast(weights_cotangent, weights.dtype),
            unconnected_gradients="zero",
        )
        return before, pytrees.dense(share)

    def read(self, saved, index):
        """(leaves, gradient or None) that were saved at `index`."""
        values = [array.read(index) for array in saved]
        count = len(self.flat(self.state))
        return values[:count], values[count:] if len(values) > count else None

    def backward(self, cotangent, total, saved, start, stop):
        """From update stop - 1 down to `start`."""

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

    def __call__(self, outer_batch):
        leaves, saved, records = self.forward()
        final = self.unflat(leaves, self.length)
        statistics = floating(final.non_trainable)
        with tf.GradientTape() as tape:
            tape.watch([final.theta, statistics])
            outer_loss = self.problem.outer_loss(final.theta, final.non_trainable, outer_batch)
        by_theta, by_statistics = tape.gradient(
            outer_loss, (final.theta, statistics), unconnected_gradients="zero"
        )
        cotangent = Cotangent(
            pytrees.dense(by_theta),
            pytrees.dense(by_statistics),
            pytrees.zeros_like(floating(final.slots)),
        )
        total = pytrees.zeros_like(self.eta)

        gradient = None
        if self.segment == self.length:
            if self.length > 1:
                cotangent, total = self.backward(
                    cotangent, total, saved, tf.constant(0), tf.constant(self.length)
                )
            if self.saves_gradients:
                _, gradient = self.read(saved, 0)
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
        _, share = self.pull_back(self.flat(self.state), gradient, 0, cotangent, first=True)
        total = [a + b for a, b in zip(total, share)]
        metrics = {name: array.stack() for name, array in records.items()}
        return outer_loss, total, final, metrics
