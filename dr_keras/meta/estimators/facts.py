"""What an estimator says of itself: its cost, its memory, what it can be told to do.

Each fact is an attribute or a method of the estimator, and everybody who needs it asks there. An
estimator of somebody's own need not have them: whoever asks says then that it is not known.
"""

import dataclasses
from typing import NamedTuple

from dr_keras.meta.problem import InnerState


class ForwardPasses(NamedTuple):
    """What one meta-step of a member costs, in forward passes of the inner model on a batch.

    Matrix products only; the rater is not among them. A plain training step is 3.

    Attributes:
      inner: on batches of the inner updates.
      outer: on the outer batch.
    """

    inner: float
    outer: float


@dataclasses.dataclass(frozen=True)
class HeldBytes:
    """Bytes of what an estimate of temporaries is made of.

    Attributes:
      inner: what one forward pass of the inner model, and its loss, leaves for a backward pass, on
        one of the `micro_batches` of an inner batch.
      outer: the same of an outer batch.
      rater: the same of the rater, on a part of an inner batch.
      parameters: of the inner model.
      state: of a member, parameters and slots.
    """

    inner: int
    outer: int
    rater: int
    parameters: int
    state: int


class Facts:
    """The facts by name; a class of its own for the sake of its documentation.

    Attributes:
      name: in results and tables.
      biased: whether the meta-gradient leaves something out.
      needs_derivatives: whether it differentiates the outer objective.
      micro_batches: parts in which a batch goes through the models, one after the other.
    """

    name: str
    biased = False
    needs_derivatives = True
    micro_batches = 1

    def forward_passes(self, length: int) -> ForwardPasses:
        """Cost of an unroll of `length` updates, outer loss and meta-gradient included."""
        raise NotImplementedError

    def saved_bytes(self, state: InnerState, length: int) -> int:
        """Bytes of the states and gradients that loops keep for their way back.

        Args:
          state: of tensors or specs.
          length: T.
        """
        raise NotImplementedError

    def temporary_bytes(self, held: HeldBytes, state: InnerState, length: int) -> int:
        """An estimate of a compiled meta-step's temporaries, what is saved included."""
        raise NotImplementedError

    def over_devices(self):
        """The `LoopedUnroll` to use where replicas share a member's batches; None: there is none.

        Or the `EvolutionStrategies` whose pairs they share. See `dr_keras.meta.devices`,
        `split_member` and `shared_pairs`.
        """
        return None


def told(estimator, fact: str, *arguments):
    """What `estimator` says of a fact, a method of `Facts`; None where it says nothing."""
    method = getattr(estimator, fact, None)
    return None if method is None else method(*arguments)


def untold(estimator, *facts: str) -> str | None:
    """A sentence about those of the facts that `estimator` does not say; None if it says all."""
    missing = [fact for fact in facts if getattr(estimator, fact, None) is None]
    if not missing:
        return None
    return (
        f"unknown: the estimator {type(estimator).__name__} does not say its"
        f" {', '.join(missing)} (see dr_keras.meta.estimators.facts)"
    )
