"""A member whose batches are split over the replicas that carry it together.

The inner gradient, its derivative along a direction and the outer gradient are sums over examples;
so is the meta-gradient once the weights' cotangents are known. Each replica computes its part of
every sum, and an all-reduce over the group makes it whole: the numbers are those of one device with
as many micro-batches, masks of dropout included.

A strategy cannot reduce within compiled code. So the unroll stands here update by update, in pieces
that are compiled by themselves with the sums between them: for T updates 2 T sums of the size of
the inner model, one of the rater's size, three of T batches' scores. All but the sums over examples
(softmax, both optimizers) every replica of the group computes for itself, from the same numbers.
"""

from typing import NamedTuple

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta import pytrees
from dr_keras.meta.devices.placement import Group
from dr_keras.meta.estimators import told
from dr_keras.meta.estimators.unroll import outer_gradient
from dr_keras.meta.meta_step import MemberStep, Unrolled
from dr_keras.meta.problem import InnerState, inner_gradient, inner_losses, moved, weight_metrics


class _Update(NamedTuple):
    """What entered an inner update, and its inner gradient."""

    state: InnerState
    gradient: list


def check_split(group: Group, estimator, inner_model, sizes: dict[str, int]) -> None:
    """Raises ConfigurationError where a member cannot be split over the group's replicas.

    Args:
      group: of the placement.
      estimator: of meta-gradients.
      inner_model: Keras model.
      sizes: kind of batch, "inner" or "outer" -> examples in it.
    """
    parts = group.parts
    remedy = f"have as many members as replicas, or fewer devices ({parts} carry a member now)"
    split = told(estimator, "over_devices")
    if split is None:
        raise ConfigurationError(
            f"The estimator {type(estimator).__name__} cannot split a member's batch over replicas:"
            f" use MixedMode, Recompute, FirstOrder or NestedTape, or {remedy}."
        )
    for kind, size in sizes.items():
        if size % (parts * split.micro_batches):
            micro = split.micro_batches
            each = f" in {micro} micro-batches each" if micro > 1 else ""
            raise ConfigurationError(
                f"{kind}_batch_size is {size}, which {parts} replicas{each} cannot share equally:"
                f" make it a multiple of {parts * micro}, or {remedy}."
            )
    statistics = [v.path for v in inner_model.non_trainable_variables if _is_float(v)]
    if statistics:
        raise ConfigurationError(
            f"The inner model keeps statistics over its batches ({', '.join(statistics[:3])};"
            " BatchNormalization does), which would differ where replicas share a batch: use a"
            f" normalisation within examples, or {remedy}."
        )


def _is_float(variable) -> bool:
    return tf.as_dtype(variable.dtype).is_floating


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
        self._gradient = piece(self._gradient_function)
        self._update = piece(self._update_function)
        self._outer = piece(self._outer_function)
        self._pull_back = piece(self._pull_back_function)
        self._losses = piece(self._losses_function)
        self._finish = piece(member.finish)

    # --- pieces: tensors in, tensors out, no sums over replicas ------------------------------

    def _scores_function(self, eta, rater_state, batch):
        """Scores of this replica's part of a batch."""
        micro = self._estimator.micro_batches
        return self._problem_of(rater_state).scores(eta, batch, micro)

    def _by_scores_function(self, eta, rater_state, batch, cotangent):
        """<cotangent, d scores / d eta> of this replica's part of a batch."""
        with tf.GradientTape() as tape:
            tape.watch(eta)
            micro = self._estimator.micro_batches
            scores = self._problem_of(rater_state).scores(eta, batch, micro)
        return pytrees.dense(
            tape.gradient(scores, eta, output_gradients=cotangent, unconnected_gradients="zero")
        )

    def _gradient_function(self, rater_state, state, weights, batch, place):
        """(this part's share of the inner gradient, its losses, seeds to begin with, seeds after).

        Whole numbers among the non-trainable values are seeds of dropout, which move on with every
        draw. Parts draw one after the other, as they do on one device.
        """
        problem, micro = self._problem_of(rater_state), self._estimator.micro_batches
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

    def _update_function(self, rater_state, state, gradient, statistics):
        return moved(self._problem_of(rater_state), state, gradient, statistics)

    def _outer_function(self, rater_state, final, batch):
        problem, micro = self._problem_of(rater_state), self._estimator.micro_batches
        return outer_gradient(problem, final, batch, micro, self._group.parts)

    def _pull_back_function(self, rater_state, state, gradient, weights, batch, cotangent, first):
        return self._estimator.pull_back_parts(
            self._problem_of(rater_state), state, gradient, weights, batch, cotangent, first
        )

    def _losses_function(self, rater_state, state, batch):
        """This replica's share of the mean loss."""
        problem = self._problem_of(rater_state)
        losses = inner_losses(problem, state, batch, self._estimator.micro_batches)
        return tf.reduce_mean(losses) / self._group.parts

    # --- between the pieces ------------------------------------------------------------------

    def _gathered(self, parts: list) -> tf.Tensor:
        """[N, B] of N tensors [B / parts], this replica's parts of N batches."""
        part = tf.stack(parts)
        place = tf.reshape(self._group.place(), [1, 1])
        (rows,) = self._group.sum(
            [tf.scatter_nd(place, part[None], [self._group.parts, *part.shape])]
        )
        return tf.reshape(tf.transpose(rows, [1, 0, 2]), [len(parts), -1])

    def _own(self, values: tf.Tensor) -> tf.Tensor:
        """This replica's part [N, B / parts] of [N, B]."""
        parts = tf.reshape(values, [values.shape[0], self._group.parts, -1])
        return tf.gather(parts, self._group.place(), axis=1)

    def _updated(self, rater_state, state, weights, batch):
        """One update of the whole batch: (state', what entered it, this part's losses)."""
        part, losses, begin, after = self._gradient(
            rater_state, state, weights, batch, self._group.place()
        )
        entered = _Update(state._replace(statistics=begin), self._group.sum(part))
        new = self._update(rater_state, state, entered.gradient, after)
        return InnerState(*new), entered, losses

    def advance(self, eta, rater_state, state, batch):
        """One update without meta-gradient: (state', whether it is finite; else state)."""
        scores = self._gathered([self._scores(eta, rater_state, batch)])
        weights = self._own(self._problem_of(rater_state).softmax(scores))[0]
        new, _, _ = self._updated(rater_state, state, weights, batch)
        finite = pytrees.all_finite(new)
        return pytrees.where(finite, new, state), finite

    def step(self, eta, rater_state, state, outer_slots, contributions, inner_batches, outer_batch):
        """As the trainer's step of a member: (direction, state', outer slots', report)."""
        length = next(iter(inner_batches.values())).shape[0]
        batches = pytrees.unstack_batches(inner_batches, length)
        problem, state = self._problem_of(rater_state), InnerState(*state)
        scores = self._gathered([self._scores(eta, rater_state, batch) for batch in batches])
        with tf.GradientTape() as tape:
            tape.watch(scores)
            all_weights = problem.softmax(scores)
        weights = self._own(all_weights)

        segment = self._estimator.segment_length(length)
        first_of_segment, saved, losses, new = {}, {}, [], state
        for number in range(length):
            if number % segment == 0:
                first_of_segment[number] = new
            new, entered, loss = self._updated(rater_state, new, weights[number], batches[number])
            losses.append(loss)
            if segment == length:
                saved[number] = entered
        outer_loss, cotangent = self._outer(rater_state, new, outer_batch)
        outer_loss, *theta = self._group.sum([outer_loss, *cotangent.theta])
        cotangent = cotangent._replace(theta=theta)

        by_weights = {}
        for start in reversed(first_of_segment):
            numbers = range(start, min(start + segment, length))
            if segment != length:
                # Not before its turn: that is what the segments are for.
                with tf.control_dependencies(tf.nest.flatten(cotangent)):
                    again = tf.nest.map_structure(tf.identity, first_of_segment[start])
                for number in numbers:
                    again, saved[number], _ = self._updated(
                        rater_state, again, weights[number], batches[number]
                    )
            for number in reversed(numbers):
                entered = saved.pop(number)
                own, sums, by_weights[number] = self._pull_back(
                    rater_state, *entered, weights[number], batches[number], cotangent,
                    number == 0,
                )  # fmt: skip
                if number:
                    cotangent = self._estimator.joined(own, self._group.sum(sums))

        ordered = [by_weights[number] for number in range(length)]
        found = self._gathered([*losses, *ordered])
        by_scores = tape.gradient(
            all_weights, scores, output_gradients=tf.cast(found[length:], scores.dtype)
        )
        by_eta = None
        for batch, part in zip(batches, tf.unstack(self._own(by_scores)), strict=True):
            share = self._by_scores(eta, rater_state, batch, part)
            by_eta = share if by_eta is None else [a + b for a, b in zip(by_eta, share)]
        after = self._losses(rater_state, new, batches[0])
        *by_eta, after = self._group.sum([*by_eta, after])
        metrics = [weight_metrics(batch_weights) for batch_weights in tf.unstack(all_weights)]
        metrics = {name: tf.stack([m[name] for m in metrics]) for name in metrics[0]}
        metrics |= {"scores": scores, "inner_losses": found[:length]}
        found = Unrolled(outer_loss, by_eta, new, metrics, after)
        return self._finish(found, state, outer_slots, contributions)


def _advanced(before, after, passes):
    """Whole numbers moved on by `passes` times their way from `before` to `after`."""

    def moved(old, new):
        if not old.dtype.is_integer:
            return old
        way = tf.cast(new, tf.int64) - tf.cast(old, tf.int64)
        return tf.cast(tf.cast(old, tf.int64) + tf.cast(passes, tf.int64) * way, old.dtype)

    return tf.nest.map_structure(moved, before, after)
