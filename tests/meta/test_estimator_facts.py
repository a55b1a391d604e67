"""What estimators say of themselves, against the products in the programs that XLA makes."""

import json
import math

import pytest
import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2

from dr_keras.meta.estimators import (
    EvolutionStrategies,
    FirstOrder,
    ImplicitGradient,
    MixedMode,
    NestedTape,
    Recompute,
    told,
    untold,
)
from dr_keras.meta.optimizers import adam
from dr_keras.meta.problem import InnerState, MetaProblem

WIDTH, BATCH, LAYERS = 16, 8, 4
FORWARD = LAYERS * 2 * BATCH * WIDTH * WIDTH


def toy_problem():
    """A chain of equal products; a weight before the first, so that none lacks a derivative."""

    def inner_loss(theta, statistics, batch):
        hidden = batch["x"] * theta[0]
        for weights in theta[1:]:
            hidden = tf.tanh(tf.matmul(hidden, weights))
        return tf.reduce_sum(tf.square(hidden - 0.3), 1), statistics

    def objective(name, theta, statistics, batch):
        return tf.reduce_mean(inner_loss(theta, statistics, batch)[0])

    def score(eta, batch):
        return tf.tanh(eta[0] * tf.reduce_sum(batch["x"], 1))

    return MetaProblem(score, inner_loss, objective, adam(1e-2))


def products(module: hlo_pb2.HloModuleProto) -> int:
    """Operations of all matrix products, those in loops once for each pass."""
    computations = {c.id: c for c in module.computations}

    def within(computation):
        total, by_id = 0, {i.id: i for i in computation.instructions}
        for instruction in computation.instructions:
            passes = 1
            if instruction.opcode == "dot":
                left = by_id[instruction.operand_ids[0]].shape.dimensions
                inner = instruction.dot_dimension_numbers.lhs_contracting_dimensions
                sizes = [*instruction.shape.dimensions, *(left[d] for d in inner)]
                total += 2 * math.prod(sizes)
            elif instruction.opcode == "while":
                passes = int(json.loads(instruction.backend_config)["known_trip_count"]["n"])
            called = instruction.called_computation_ids
            total += passes * sum(within(computations[number]) for number in called)
        return total

    return within(computations[module.entry_computation_id])


def counted_passes(estimator, length: int) -> float:
    """Forward passes in the optimised program of one call of the estimator."""
    problem = toy_problem()
    theta = [tf.ones([WIDTH])]
    theta += [tf.random.stateless_normal([WIDTH, WIDTH], [0, i]) / 4 for i in range(LAYERS)]
    state = InnerState(theta, [], problem.optimizer.init(theta), tf.constant(0))

    @tf.function(jit_compile=True, autograph=False)
    def step(state, eta, inner, outer):
        loss, gradient, new, _ = estimator(
            problem, InnerState(*state), eta, inner, {"outer": outer}, key=tf.constant([0, 1])
        )
        return loss, gradient, tuple(new)

    batches = {"x": tf.ones([length, BATCH, WIDTH])}, {"x": tf.ones([BATCH, WIDTH])}
    generate = step.experimental_get_compiler_ir(tuple(state), [tf.constant(0.1)], *batches)
    serialised = generate(stage="optimized_hlo_serialized")
    return products(hlo_pb2.HloModuleProto.FromString(serialised)) / FORWARD


@pytest.mark.parametrize(
    "estimator, length, expected",
    [
        pytest.param(NestedTape(), 1, 3 + 3 + 2, marks=pytest.mark.long),
        (NestedTape(), 3, 9 + 3 + 6 * 2 + 2),
        (Recompute(), 3, 9 + 3 + 9 * 2 + 5),
        (Recompute(save_gradients=True), 3, 9 + 3 + 8 * 2 + 3),
        (Recompute(micro_batches=2), 2, 6 + 3 + 8 + 3 + 6),
        pytest.param(MixedMode(), 2, 6 + 3 + 8 + 3, marks=pytest.mark.long),
        (MixedMode(), 3, 9 + 3 + 8 * 2 + 3),
        (MixedMode(save_gradients=False), 3, 9 + 3 + 9 * 2 + 5),
        pytest.param(MixedMode(micro_batches=2), 2, 6 + 3 + 8 + 3, marks=pytest.mark.long),
        (FirstOrder(), 3, 9 + 3 + 3 * 3),
        (EvolutionStrategies(pairs=2), 2, (6 + 1) * 5),
        pytest.param(
            ImplicitGradient("neumann", iterations=3),
            2,
            6 + 3 + 8 * 2 * 3 + 6,
            marks=pytest.mark.long,
        ),
        pytest.param(FirstOrder(save_gradients=False), 3, 9 + 3 + 9 + 6, marks=pytest.mark.long),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else str(value),
)
def test_forward_passes_are_those_of_the_compiled_program(estimator, length, expected):
    assert sum(estimator.forward_passes(length)) == expected
    # Nested tapes that run again ask the first of the four layers for one product less an update.
    again = getattr(estimator, "iterations", 0) * length or length - 1
    assert counted_passes(estimator, length) == pytest.approx(expected, abs=again / LAYERS)


def test_a_checkpointed_unroll_runs_updates_again():
    every = MixedMode(checkpoint_every=2).forward_passes(4).inner
    assert every == MixedMode().forward_passes(4).inner + 3 * 4 + 2
    lean = Recompute(checkpoint_every=2).forward_passes(4).inner
    assert lean == Recompute().forward_passes(4).inner + 3 * (4 - 2)


def test_where_a_member_can_be_split():
    mixed = MixedMode()
    assert mixed.over_devices() is mixed
    stand_in = NestedTape().over_devices()
    assert isinstance(stand_in, Recompute) and stand_in.save_gradients
    assert told(EvolutionStrategies(), "over_devices") is not None
    assert told(ImplicitGradient(), "over_devices") is None


def test_an_estimator_that_says_nothing_is_unknown():
    class Own:
        micro_batches = 3

    assert told(Own(), "forward_passes", 2) is None and told(Own(), "over_devices") is None
    assert untold(Own(), "micro_batches") is None
    said = untold(Own(), "micro_batches", "forward_passes", "saved_bytes")
    assert said.startswith("unknown: the estimator Own does not say its forward_passes, saved")
