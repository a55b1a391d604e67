"""What is weighed, what the rater sees, what is optimised: exact in every combination, in float64.

By default a covering set, in which every pair of choices meets; with `-m long` the whole matrix and
XLA's programs.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.meta.estimators import MixedMode, NestedTape, Recompute
from dr_keras.meta.optimizers import adamw
from dr_keras.meta.problem import InnerState
from dr_keras.meta.weighting import token_softmax
from dr_keras.models.objectives import mean_loss, smooth_accuracy

EXACT = {"nested_tape": NestedTape(), "recompute": Recompute(), "mixed_mode": MixedMode()}
IN_PARTS = {"mixed_mode in parts": MixedMode(micro_batches=2, checkpoint_every=2)}
ALL_FEATURES = ("inner_loss", "reference_loss", "age")
CHOICES = (
    (False, True),  # weights by token
    ((), ALL_FEATURES),
    (False, True),  # frozen base with low-rank updates
    (1, 2),  # held-out sets
    (1, 2, 3),  # T
)
# Pairs of choices all meet in these.
COVERING = [
    (False, (), False, 2, 1),
    (True, ALL_FEATURES, True, 1, 1),
    (False, (), True, 1, 2),
    (True, ALL_FEATURES, False, 2, 2),
    (False, ALL_FEATURES, False, 1, 3),
    (True, (), True, 2, 3),
]
OPTIMIZER = adamw(learning_rate=0.3, clip_norm=0.5)


def test_the_covering_set_covers():
    """Every two choices of two axes stand together somewhere."""
    for (a, first), (b, second) in itertools.combinations(enumerate(CHOICES), 2):
        for pair in itertools.product(first, second):
            assert any((case[a], case[b]) == pair for case in COVERING), (a, b, pair)


def relative_error(found, expected) -> float:
    found, expected = (
        np.concatenate([np.ravel(leaf) for leaf in tree if leaf.dtype.is_floating])
        for tree in (tf.nest.flatten(found), tf.nest.flatten(expected))
    )
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def agree(results: dict) -> None:
    """To 1e-9: outer losses, meta-gradients, states, metrics."""
    for name, found in results.items():
        for part, expected in zip(found, results["nested_tape"], strict=True):
            assert relative_error(part, expected) < 1e-9, name


def all_agree(toy, assert_matches_central_differences, more=()) -> None:
    estimators = EXACT | dict(more)
    results = {name: toy.estimate(estimator) for name, estimator in estimators.items()}
    agree(results)
    assert float(results["nested_tape"][0]) == pytest.approx(
        float(toy.outer_loss(toy.eta)), rel=1e-12
    )
    assert_matches_central_differences(toy, results["nested_tape"][1])


@pytest.mark.parametrize("case", COVERING, ids=str)
def test_estimators_agree_with_each_other_and_central_differences(
    case, toy_problem, assert_matches_central_differences
):
    *opened, length = case
    toy = toy_problem(toy_problem.opened(*opened), OPTIMIZER, length, age=1)
    all_agree(toy, assert_matches_central_differences, IN_PARTS if length == 3 else ())


@pytest.mark.long
@pytest.mark.parametrize("case", list(itertools.product(*CHOICES)), ids=str)
def test_the_whole_matrix_agrees_compiled_too(
    case, toy_problem, assert_matches_central_differences
):
    *opened, length = case
    toy = toy_problem(toy_problem.opened(*opened), OPTIMIZER, length, age=1)
    all_agree(toy, assert_matches_central_differences, IN_PARTS)

    @tf.function(jit_compile=True)
    def run(state, eta, inner, outer):
        state = InnerState(*state)
        return {n: e(toy.problem, state, eta, inner, outer) for n, e in EXACT.items()}

    found = run(tuple(toy.state), toy.eta, toy.inner_batches, toy.outer_batches)
    agree(found)
    assert relative_error(found["nested_tape"][1], toy.estimate(NestedTape())[1]) < 1e-7


def test_features_of_the_state_matter_to_the_meta_gradient(toy_problem):
    """Held still, as `through_features=False` has it, they give another gradient from T = 2 on."""
    opened = toy_problem.opened(features=ALL_FEATURES)
    still = toy_problem.opened(features=ALL_FEATURES, options={"through_features": False})
    for length, alike in ((1, True), (2, False)):
        exact, biased = (
            toy_problem(each, OPTIMIZER, length, age=1).estimate(NestedTape())[1]
            for each in (opened, still)
        )
        assert (relative_error(biased, exact) < 1e-9) == alike, length
        again = toy_problem(still, OPTIMIZER, length, age=1).estimate(MixedMode())[1]
        assert relative_error(again, biased) < 1e-9


def test_weights_within_windows_and_objectives_by_set(
    toy_problem, assert_matches_central_differences
):
    opened = toy_problem.opened(
        by_token=True,
        sets=2,
        options={
            "weighting": token_softmax(within="window"),
            "objective": {"outer": smooth_accuracy(), "set_1": mean_loss()},
        },
    )
    toy = toy_problem(opened, OPTIMIZER, 2, age=1)
    all_agree(toy, assert_matches_central_differences)
    losses = toy.estimate(NestedTape())[3]["outer_losses"]
    assert 0 < float(losses["outer"]) < 1 < float(losses["set_1"])


def test_a_frozen_base_is_in_no_state_and_not_saved_by_update(toy_problem):
    """Adapters of rank 1 are what a member has and what loops keep; the base exists once."""
    whole, low_rank = (
        toy_problem(toy_problem.opened(lora=lora), OPTIMIZER, 3) for lora in (False, True)
    )
    sizes = [
        sum(leaf.shape.num_elements() for leaf in toy.state.theta) for toy in (whole, low_rank)
    ]
    # Embedding 9 x 2, dense 2 x 3 + 3, head 3 x 9 + 9; of each dense layer two vectors.
    assert sizes == [18 + 9 + 36, (2 + 3) + (3 + 9)]
    assert low_rank.state.statistics == []
    for estimator in (Recompute(), MixedMode()):
        per_update = 3 * sizes[1] * 8  # parameters and Adam's slots, float64
        kept = estimator.saved_bytes(low_rank.state, 3)
        gradients = 3 * sizes[1] * 8 if estimator.save_gradients else 0
        assert kept == 2 * per_update + gradients
