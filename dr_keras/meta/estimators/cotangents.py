"""Cotangents of an inner model's state, and how they pass through one update of the optimizer."""

from typing import NamedTuple

import tensorflow as tf

from dr_keras.meta.problem import InnerState, MetaProblem


class Cotangent(NamedTuple):
    """d outer_loss / d state: one list of tensors a part, leaves of floating type only."""

    theta: list
    non_trainable: list
    slots: list


def floating(tree) -> list:
    """Leaves that a derivative can go through; seeds and counters have none."""
    return [leaf for leaf in tf.nest.flatten(tree) if leaf.dtype.is_floating]


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
        theta, new_slots = problem.optimizer.update(state.theta, state.slots, gradient, state.age)
        targets = [*theta, *floating(new_slots)]
    sources = ([], [], gradient) if first else (state.theta, slots, gradient)
    return tape.gradient(
        targets,
        sources,
        output_gradients=[*cotangent.theta, *cotangent.slots],
        unconnected_gradients="zero",
    )


def along(
    problem: MetaProblem, state: InnerState, direction: list, batch: dict
) -> tuple[tf.Tensor, list]:
    """Directional derivatives of the losses [B] along `direction`, a list like theta.

    With u the cotangent of the inner gradient, this is the cotangent of the weights: g is
    sum_i w_i grad l_i, so that <u, dg/dw_i> = <u, grad l_i>. Forward mode.

    Returns:
      (derivatives [B], new non_trainable)
    """
    with tf.autodiff.ForwardAccumulator(state.theta, direction) as accumulator:
        losses, non_trainable = problem.inner_loss(state.theta, state.non_trainable, batch)
    return accumulator.jvp(losses, unconnected_gradients="zero"), non_trainable
