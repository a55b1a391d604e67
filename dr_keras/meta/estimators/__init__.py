"""Meta-gradient estimators: one file each, one interface.

An estimator is a callable

    estimator(problem, state, eta, inner_batches, outer_batches, key=key)
        -> (outer_loss, meta_gradient, new_state, metrics)

    problem        dr_keras.meta.problem.MetaProblem: pure functions
    state          InnerState of one member, before the unroll
    eta            list of tensors: the rater's trainable variables
    inner_batches  dict of tensors [T, B, ...]: one batch for each inner update
    outer_batches  name of a held-out set -> dict of tensors [B_outer, ...]
    key            int32 [2], for `tf.random.stateless_*`: another for each member and meta-step
    outer_loss     scalar: the combined held-out losses of theta_T
    meta_gradient  list like eta: d outer_loss / d eta through the T updates
    new_state      InnerState after the unroll: members keep advancing
    metrics        dict of tensors: "scores" [T, B] and "inner_losses" [T, B] (before each update),
                   or [T, B, S] where tokens are weighed; "weight_entropy" [T],
                   "effective_sample_size" [T]; "outer_losses": name of a held-out set -> its loss;
                   where there is something to say of the estimate, "reported": name -> scalar,
                   which is logged under that name

One that has something to remember of a member has `init(state, eta)`, a dict of tensors, which is
`state.memory` of a member that begins: it hands on what is to be remembered in `new_state`.

It says what it costs and what it holds by the attributes and methods of
`dr_keras.meta.estimators.facts.Facts`; where one has none of them, what follows from them is not
known. It has no tf.function and no variables of its own: the trainer wraps and compiles it once.
"""

from typing import Protocol

from dr_keras.meta.estimators.evolution import EvolutionStrategies
from dr_keras.meta.estimators.facts import Facts, ForwardPasses, HeldBytes, told, untold
from dr_keras.meta.estimators.first_order import FirstOrder
from dr_keras.meta.estimators.implicit import ImplicitGradient
from dr_keras.meta.estimators.mixed_mode import MixedMode
from dr_keras.meta.estimators.nested_tape import NestedTape
from dr_keras.meta.estimators.priced_share import PricedShare
from dr_keras.meta.estimators.recompute import Recompute

__all__ = [
    "Estimator",
    "EvolutionStrategies",
    "Facts",
    "FirstOrder",
    "ForwardPasses",
    "HeldBytes",
    "ImplicitGradient",
    "MixedMode",
    "NestedTape",
    "PricedShare",
    "Recompute",
    "told",
    "untold",
]


class Estimator(Protocol):
    """What `MetaTrainer` takes for an estimator; see above."""

    def __call__(
        self, problem, state, eta: list, inner_batches: dict, outer_batches: dict, key=None
    ) -> tuple:
        """(outer_loss, meta_gradient, new_state, metrics)."""
