"""The forward loop of an unroll: T inner updates, one body in the compiled program whatever T."""

import tensorflow as tf

from dr_keras.meta.problem import InnerState, MetaProblem, inner_gradient, moved
from dr_keras.meta.weighting import weight_metrics


class ForwardLoop:
    """Inner updates of one member; loop variables are flat lists of tensors and TensorArrays.

    Args:
      problem: the pure functions.
      state: before the unroll.
      eta: the rater's parameters.
      inner_batches: features [T, B, ...].
      parts: in which a batch goes through the models.
      saves_gradients: whether inner gradients are kept beside the states that are.
    """

    def __init__(
        self,
        problem: MetaProblem,
        state: InnerState,
        eta: list,
        inner_batches: dict,
        parts: int = 1,
        saves_gradients: bool = False,
    ):
        self.problem, self.eta, self.state = problem, list(eta), state
        self.inner_batches = inner_batches
        self.length = next(iter(inner_batches.values())).shape[0]
        self.parts, self.saves_gradients = parts, saves_gradients

    def weigh(self, state: InnerState, batch: dict, index: tf.Tensor) -> tuple:
        """(weights, scores) of the batch of update `index`."""
        return self.problem.weigh(self.eta, state, batch, self.parts)

    # --- states as flat lists ------------------------------------------------------------------

    def flat(self, state):
        """Leaves of `state` without its age, which is known from the number of the update."""
        leaves = tf.nest.flatten((state.theta, state.statistics, state.slots))
        shapes = tf.nest.flatten((self.state.theta, self.state.statistics, self.state.slots))
        leaves = [tf.convert_to_tensor(leaf) for leaf in leaves]
        for leaf, like in zip(leaves, shapes):
            leaf.set_shape(like.shape)  # some gradients forget it, and the loops need it
        return leaves

    def unflat(self, leaves, index):
        like = (list(self.state.theta), self.state.statistics, self.state.slots)
        theta, statistics, slots = tf.nest.pack_sequence_as(like, leaves)
        return self.state._replace(
            theta=theta, statistics=statistics, slots=slots, age=self.state.age + index
        )

    def batch(self, index):
        return {name: tf.gather(value, index) for name, value in self.inner_batches.items()}

    # --- arrays --------------------------------------------------------------------------------

    def new_arrays(self, leaves, size):
        return [
            tf.TensorArray(leaf.dtype, size, element_shape=leaf.shape, clear_after_read=False)
            for leaf in leaves
        ]

    def new_records(self):
        def array(dtype, *shape):
            return tf.TensorArray(dtype, self.length, element_shape=shape)

        rater, inner = self.eta[0].dtype, self.state.theta[0].dtype
        shape = self.problem.counts(self.batch(0)).shape
        return {
            "scores": array(rater, *shape),
            "inner_losses": array(inner, *shape),
            "weight_entropy": array(rater),
            "effective_sample_size": array(rater),
        }

    # --- forward -------------------------------------------------------------------------------

    def updates(self, leaves, start, stop, saved, records, first_gradient=None):
        """Updates start ... stop - 1; what enters each is saved, and its metrics recorded.

        `saved` (a list) or `records` (a dict) may be empty: then nothing is kept there. With
        `first_gradient` (a list that is empty or like theta) what enters the first update is not
        saved, because it is at hand, and its gradient, if asked for, goes there: nothing reads
        the arrays after the backward loop, so that the compiler needs no copy of them.

        Returns:
          (leaves, saved, records, first_gradient)
        """
        skip, first_gradient = first_gradient is not None, first_gradient or []

        def body(index, leaves, saved, records, first_gradient):
            state, batch = self.unflat(leaves, index), self.batch(index)
            weights, scores = self.weigh(state, batch, index)
            gradient, losses, statistics = inner_gradient(
                self.problem, state, weights, batch, self.parts
            )
            if saved:
                entering = [*leaves, *gradient] if self.saves_gradients else leaves
                place = index - start
                if skip:  # the second update overwrites what the first one writes
                    place = tf.maximum(place - 1, 0)
                saved = [a.write(place, leaf) for a, leaf in zip(saved, entering)]
            first_gradient = [
                tf.where(index == start, new, old) for new, old in zip(gradient, first_gradient)
            ]
            if records:
                values = {"scores": scores, "inner_losses": losses, **weight_metrics(weights)}
                records = {
                    name: array.write(index, tf.cast(values[name], array.dtype))
                    for name, array in records.items()
                }
            new = moved(self.problem, state, gradient, statistics)
            return index + 1, self.flat(new), saved, records, first_gradient

        return tf.while_loop(
            lambda index, *_: index < stop, body, (start, leaves, saved, records, first_gradient)
        )[1:]
