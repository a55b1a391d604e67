"""The outer loss, with or without its gradient, of all held-out sets, whole or in parts."""

import tensorflow as tf

from dr_keras.meta import pytrees
from dr_keras.meta.micro_batches import over_parts
from dr_keras.meta.problem import Cotangent, InnerState, MetaProblem, floating, seen_of


def outer_losses(
    problem: MetaProblem, final: InnerState, outer_batches: dict, parts: int
) -> dict[str, tf.Tensor]:
    """Name of a held-out set -> its loss, without derivatives.

    Args:
      parts: as of `outer_sums`.
    """

    def of_set(name, batch):
        def of_part(batch, statistics):
            return [*problem.outer_sum(name, final.theta, statistics, batch)], [], statistics

        sums, _, _ = over_parts(parts, of_part, batch, final.statistics)
        return tf.math.divide_no_nan(*sums)

    return {name: of_set(name, batch) for name, batch in outer_batches.items()}


def outer_sums(
    problem: MetaProblem, final: InnerState, outer_batches: dict, parts: int
) -> dict[str, list]:
    """What the outer loss and its gradient are made of, sums over examples all.

    Args:
      parts: each batch goes through the model in so many parts.

    Returns:
      name of a held-out set -> [sum, count, *derivatives of the sum by what `seen_of` names].
    """
    sources = seen_of(final)

    def of_set(name, batch):
        def of_part(batch, statistics):
            with tf.GradientTape() as tape:
                tape.watch(sources)
                total, count = problem.outer_sum(name, final.theta, statistics, batch)
            found = tape.gradient(total, sources, unconnected_gradients="zero")
            return [total, count, *pytrees.dense(found)], [], statistics

        return over_parts(parts, of_part, batch, final.statistics)[0]

    return {name: of_set(name, batch) for name, batch in outer_batches.items()}


def outer_gradient(
    problem: MetaProblem, final: InnerState, sums: dict[str, list]
) -> tuple[tf.Tensor, dict, Cotangent]:
    """(outer loss, losses by held-out set, cotangent of the last state) of whole `outer_sums`."""
    losses = {name: tf.math.divide_no_nan(*found[:2]) for name, found in sums.items()}
    with tf.GradientTape() as tape:
        tape.watch(losses)
        loss = problem.combination(losses)
    shares = tape.gradient(loss, losses, unconnected_gradients="zero")
    found = None
    for name, (_, count, *derivatives) in sums.items():
        scale = tf.math.divide_no_nan(shares[name], count)
        scaled = [tf.cast(scale, leaf.dtype) * leaf for leaf in derivatives]
        found = scaled if found is None else [a + b for a, b in zip(found, scaled, strict=True)]
    count = len(final.theta)
    slots = pytrees.zeros_like(floating(final.slots))
    return loss, losses, Cotangent(found[:count], found[count:], slots)
