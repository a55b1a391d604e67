"""A member whose batches are split over the replicas that carry it together.

The inner gradient, its derivative along a direction and the outer gradient are sums over examples;
so is the meta-gradient once the weights' cotangents are known. Each replica computes its part of
every sum, and an all-reduce over the group makes it whole: the numbers are those of one device with
as many micro-batches, masks of dropout included.

A strategy cannot reduce within compiled code. So the unroll stands here update by update, in pieces
that are compiled by themselves with the sums between them: for T updates 2 T sums of the size of
the inner model, one of the rater's size, 2 T of a batch's scores, one of its losses. All but the
sums over examples (weighting, both optimizers) every replica of the group computes for itself, from
the same numbers.
"""

from typing import NamedTuple

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta import pytrees
from dr_keras.meta.devices.placement import Group
from dr_keras.meta.devices.shared_pairs import SharedPairs, check_shared
from dr_keras.meta.estimators import EvolutionStrategies, told
from dr_keras.meta.estimators.outer_level import outer_gradient, outer_sums
from dr_keras.meta.meta_step import MemberStep, Unrolled
from dr_keras.meta.problem import (
    Cotangent,
    InnerState,
    inner_gradient,
    inner_losses,
    moved,
    seen_of,
)
from dr_keras.meta.weighting import weight_metrics


class _Update(NamedTuple):
    """What entered an inner update, and its inner gradient."""

    state: InnerState
    gradient: list


def check_split(group: Group, estimator, statistics: list, sizes: dict[str, int]) -> None:
    """Raises ConfigurationError where a member cannot be split over the group's replicas.

    Args:
      group: of the placement.
      estimator: of meta-gradients.
      statistics: Keras variables of the inner model that training changes by itself.
      sizes: kind of batch, "inner" or "outer" -> examples in it.
    """
    parts = group.parts
    remedy = f"have as many members as replicas, or fewer devices ({parts} carry a member now)"
    split = told(estimator, "over_devices")
    if split is None:
        raise ConfigurationError(
            f"The estimator {type(estimator).__name__} cannot split a member's batch over replicas:"
            f" use MixedMode, Recompute, FirstOrder, NestedTape or EvolutionStrategies, or"
            f" {remedy}."
        )
    if isinstance(split, EvolutionStrategies):
        check_shared(group, split, statistics, sizes)
        return
    for kind, size in sizes.items():
        if size % (parts * split.micro_batches):
            micro = split.micro_batches
            each = f" in {micro} micro-batches each" if micro > 1 else ""
            raise ConfigurationError(
                f"{kind}_batch_size is {size}, which {parts} replicas{each} cannot share equally:"
                f" make it a multiple of {parts * micro}, or {remedy}."
            )
    averages = [v.path for v in statistics if tf.as_dtype(v.dtype).is_floating]
    if averages:
        raise ConfigurationError(
            f"The inner model keeps statistics over its batches ({', '.join(averages[:3])};"
            " BatchNormalization does), which would differ where replicas share a batch: use a"
            f" normalisation within examples, or {remedy}."
        )


def carried_together(group: Group, member: MemberStep, jit_compile: bool):
    """What has `step` and `advance` of a member that the group's replicas carry."""
    shares_pairs = isinstance(told(member.estimator, "over_devices"), EvolutionStrategies)
    return (SharedPairs if shares_pairs else SplitMember)(group, member, jit_compile)


class SplitMember:
    """The meta-step of a member, called within a replica with that replica's part of the batches.

    Every state and inner gradient of the unroll is kept; with the estimator's `checkpoint_every`,
    every k-th state, and the updates in between run again. Inner gradients are kept in any case:
    to make one again would be one more sum over replicas.

    Args:
      group: of replicas.
      member: what one replica would do. Its estimator says what the second derivatives of an update
        are, see `LoopedUnroll`; a NestedTape stands for Recompute, whose numbers are the same.
      jit_compile: compile each piece with XLA.
    """

    def __init__(self, group: Group, member: MemberStep, jit_compile: bool):
        self._group, self._problem_of = group, member.problem_of
        self._estimator = told(member.estimator, "over_devices")

        def piece(function):
            return tf.function(function, jit_compile=jit_compile, autograph=False)

        self._scores = piece(self._scores_function)
        self._by_scores = piece(self._by_scores_function)
        self._weights = piece(self._weights_function)
        self._by_weights = piece(self._by_weights_function)
        self._gradient = piece(self._gradient_function)
        self._update = piece(self._update_function)
        self._outer = piece(self._outer_function)
        self._outer_gradient = piece(self._outer_gradient_function)
        self._pull_back = piece(self._pull_back_function)
        self._losses = piece(self._losses_function)
        self._finish = piece(member.finish)

    # --- pieces: tensors in, tensors out, no sums over replicas ------------------------------

    def _scores_function(self, eta, constants, state, batch):
        """(scores, counts) of this replica's part of a batch."""
        problem = self._problem_of(constants)
        scores = problem.scores(eta, state, batch, self._estimator.micro_batches)
        return scores, tf.cast(problem.counts(batch), scores.dtype)

    def _by_scores_function(self, eta, constants, state, batch, cotangent, first):
        """<cotangent, d scores> of this replica's part of a batch: (by eta, by the state).

        The latter by what `seen_of` names; empty where scores do not depend on it, or for the
        first update.
        """
        problem = self._problem_of(constants)
        seen = seen_of(state) if problem.sees_state and not first else []
        with tf.GradientTape() as tape:
            tape.watch([*eta, *seen])
            scores = problem.scores(eta, state, batch, self._estimator.micro_batches)
        found = pytrees.dense(
            tape.gradient(
                scores, [*eta, *seen], output_gradients=cotangent, unconnected_gradients="zero"
            )
        )
        return found[: len(eta)], found[len(eta) :]

    def _weights_function(self, constants, scores, counts):
        return self._problem_of(constants).weighting(scores, counts)

    def _by_weights_function(self, constants, scores, counts, cotangent):
        """Cotangent of a whole batch's scores, given that of its weights."""
        with tf.GradientTape() as tape:
            tape.watch(scores)
            weights = self._problem_of(constants).weighting(scores, counts)
        return tape.gradient(
            weights, scores, output_gradients=cotangent, unconnected_gradients="zero"
        )

    def _gradient_function(self, constants, state, weights, batch, place):
        """(this part's share of the inner gradient, its losses, seeds to begin with, seeds after).

        Whole numbers among the non-trainable values are seeds of dropout, which move on with every
        draw. Parts draw one after the other, as they do on one device.
        """
        problem, micro = self._problem_of(constants), self._estimator.micro_batches
        begin = after = state.statistics
        if any(leaf.dtype.is_integer for leaf in tf.nest.flatten(begin)):
            small = {name: value[: value.shape[0] // micro] for name, value in batch.items()}
            # Only the seeds of this pass are used, and compilers leave the rest of it out.
            _, moved = problem.inner_loss(state.theta, state.statistics, small)
            begin = _advanced(state.statistics, moved, place * micro)
            after = _advanced(state.statistics, moved, self._group.parts * micro)
        gradient, losses, _ = inner_gradient(
            problem, state._replace(statistics=begin), weights, batch, micro
        )
        return gradient, losses, begin, after

    def _update_function(self, constants, state, gradient, statistics):
        return moved(self._problem_of(constants), state, gradient, statistics)

    def _outer_function(self, constants, final, batches):
        """This part's `outer_sums`."""
        problem, micro = self._problem_of(constants), self._estimator.micro_batches
        return outer_sums(problem, final, batches, micro)

    def _outer_gradient_function(self, constants, final, sums):
        return outer_gradient(self._problem_of(constants), final, sums)

    def _pull_back_function(self, constants, state, gradient, weights, batch, cotangent, first):
        return self._estimator.pull_back_parts(
            self._problem_of(constants), state, gradient, weights, batch, cotangent, first
        )

    def _losses_function(self, constants, state, batch):
        """This part's losses."""
        problem = self._problem_of(constants)
        return inner_losses(problem, state, batch, self._estimator.micro_batches)

    # --- between the pieces ------------------------------------------------------------------

    def _own(self, values: tf.Tensor) -> tf.Tensor:
        """This replica's part [B / parts, ...] of [B, ...]."""
        parts = tf.reshape(values, [self._group.parts, -1, *values.shape[1:]])
        return tf.gather(parts, self._group.place())

    def _scored(self, eta, constants, state, batch):
        """(scores, counts) of the whole batch."""
        return self._group.gathered(list(self._scores(eta, constants, state, batch)))

    def _updated(self, constants, state, weights, batch):
        """One update: (state', what entered it, this part's losses).

        Args:
          weights: of this part.
        """
        part, losses, begin, after = self._gradient(
            constants, state, weights, batch, self._group.place()
        )
        entered = _Update(state._replace(statistics=begin), self._group.sum(part))
        new = self._update(constants, state, entered.gradient, after)
        return InnerState(*new), entered, losses

    def advance(self, eta, constants, state, batch):
        """One update without meta-gradient: (state', whether it is finite; else state)."""
        weights = self._weights(constants, *self._scored(eta, constants, state, batch))
        new, _, _ = self._updated(constants, state, self._own(weights), batch)
        finite = pytrees.all_finite(new)
        return pytrees.where(finite, new, state), finite

    def step(
        self, eta, constants, state, outer_slots, contributions, inner_batches, outer_batches, key
    ):
        """As the trainer's step of a member: (direction, state', outer slots', report).

        `key` is for estimators of somebody's own, which cannot be split.
        """
        length = next(iter(inner_batches.values())).shape[0]
        batches = pytrees.unstack_batches(inner_batches, length)
        state = InnerState(*state)
        segment = self._estimator.segment_length(length)
        first_of_segment, saved, losses, new = {}, {}, [], state
        scored, weights = [], []
        for number in range(length):
            if number % segment == 0:
                first_of_segment[number] = new
            scored.append(self._scored(eta, constants, new, batches[number]))
            weights.append(self._weights(constants, *scored[-1]))
            own = self._own(weights[-1])
            new, entered, loss = self._updated(constants, new, own, batches[number])
            losses.append(loss)
            if segment == length:
                saved[number] = entered
        sums = self._outer(constants, new, outer_batches)
        sums = tf.nest.pack_sequence_as(sums, self._group.sum(tf.nest.flatten(sums)))
        outer_loss, outer_losses, cotangent = self._outer_gradient(constants, new, sums)
        cotangent = Cotangent(*cotangent)

        by_eta = None
        for start in reversed(first_of_segment):
            numbers = range(start, min(start + segment, length))
            if segment != length:
                # Not before its turn: that is what the segments are for.
                with tf.control_dependencies(tf.nest.flatten(cotangent)):
                    again = tf.nest.map_structure(tf.identity, first_of_segment[start])
                for number in numbers:
                    own = self._own(weights[number])
                    again, saved[number], _ = self._updated(constants, again, own, batches[number])
            for number in reversed(numbers):
                entered, first = saved.pop(number), number == 0
                own, sums, by_weights = self._pull_back(
                    constants, *entered, self._own(weights[number]), batches[number], cotangent,
                    first,
                )  # fmt: skip
                scores, counts = scored[number]
                (by_weights,) = self._group.gathered([tf.cast(by_weights, scores.dtype)])
                by_scores = self._by_weights(constants, scores, counts, by_weights)
                share, through = self._by_scores(
                    eta, constants, entered.state, batches[number], self._own(by_scores), first
                )
                by_eta = share if by_eta is None else [a + b for a, b in zip(by_eta, share)]
                if not first:
                    # Shares of both kinds are by theta first, floating statistics after it.
                    sums = [a + b for a, b in zip(sums, through)] if through else sums
                    cotangent = self._estimator.joined(own, self._group.sum(sums))

        after = self._losses(constants, new, batches[0])
        *losses, after = self._group.gathered([*losses, after])
        metrics = [weight_metrics(batch_weights) for batch_weights in weights]
        metrics = {name: tf.stack([m[name] for m in metrics]) for name in metrics[0]}
        metrics |= {
            "scores": tf.stack([scores for scores, _ in scored]),
            "inner_losses": tf.stack(losses),
            "outer_losses": outer_losses,
        }
        counts = [counts for _, counts in scored]
        found = Unrolled(outer_loss, self._group.sum(by_eta), new, metrics, after, counts)
        return self._finish(found, state, outer_slots, contributions)


def _advanced(before, after, passes):
    """Whole numbers moved on by `passes` times their way from `before` to `after`."""

    def moved(old, new):
        if not old.dtype.is_integer:
            return old
        way = tf.cast(new, tf.int64) - tf.cast(old, tf.int64)
        return tf.cast(tf.cast(old, tf.int64) + tf.cast(passes, tf.int64) * way, old.dtype)

    return tf.nest.map_structure(moved, before, after)
