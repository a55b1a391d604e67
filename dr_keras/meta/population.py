"""The population: inner models at staggered stages of training, and their outer Adams.

A member advances by T inner updates a meta-step and starts again from a fresh seed when its
lifetime ends; first lifetimes are shortened in turn, so that at any time young and old members
stand side by side (paper, section 4: 8 inner models).
"""

from collections.abc import Callable
import dataclasses
import gc

import keras
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.checks import at_least
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.optimizers import InnerOptimizer, OuterAdam
from dr_keras.meta.problem import InnerState
from dr_keras.meta.seeds import derive_seed, seeded
from dr_keras.models.model_parts import ModelParts


def initial_values(constructor: Callable[[], keras.Model], seed: int) -> tuple[list, list]:
    """Trainable and non-trainable values of a freshly built model, decided by `seed` alone."""
    with seeded(seed):
        model = constructor()
    return (
        [tf.identity(v.value) for v in model.trainable_variables],
        [tf.identity(v.value) for v in model.non_trainable_variables],
    )


def initial_state(
    constructor: Callable[[], keras.Model],
    optimizer: InnerOptimizer,
    parts: ModelParts | None,
    seed: int,
) -> InnerState:
    """An inner model before any update, decided by `seed` alone."""
    theta, others = initial_values(constructor, seed)
    statistics = others if parts is None else parts.statistics(others)
    return InnerState(theta, statistics, optimizer.init(theta), tf.constant(0, tf.int32))


@dataclasses.dataclass
class Member:
    """One inner model's state and its outer Adam's slots, in variables.

    Attributes:
      state: InnerState of tf.Variables.
      outer_slots: slots of this member's outer Adam; they outlive re-initialisation.
      contributions: int32 variable, finite meta-gradients given so far.
      generation: int32 variable, initialisations after the first.
    """

    state: InnerState
    outer_slots: dict
    contributions: tf.Variable
    generation: tf.Variable

    def variables(self) -> dict:
        """All variables by name, as a checkpoint holds them; nothing by an empty name."""
        of_member = dict(vars(self))
        state = of_member.pop("state")._asdict()
        # The name that checkpoints have for it.
        state = {"non_trainable": state.pop("statistics"), **state}
        optional = [name for name in ("hyper", "memory") if not state[name]]
        return {n: tree for n, tree in (state | of_member).items() if n not in optional}


def assign(variables, values) -> None:
    """Gives the variables of a tree the values of another of its form."""
    tf.nest.map_structure(lambda variable, value: variable.assign(value), variables, values)


def _by_member(trees: dict) -> dict:
    # Checkpoints know children by names: these are the names that the places in a list have.
    return {str(index): Member(**tree).variables() for index, tree in trees.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Beginnings:
    """What members begin with, decided by the seed alone.

    Attributes:
      constructor: builds an inner Keras model.
      optimizer: inner optimizer, for its slots.
      outer_optimizer: for the members' outer slots.
      eta: the rater's trainable variables, for the shapes of the outer slots.
      seed: of the run.
      parts: of an inner model: which of its values a member has of its own; None: all.
      remember: (state, eta) -> the estimator's memory of a member that begins; None: it has none.
    """

    constructor: Callable[[], keras.Model]
    optimizer: InnerOptimizer
    outer_optimizer: OuterAdam
    eta: list
    seed: int
    parts: ModelParts | None = None
    remember: Callable | None = None

    def state(self, index: int, generation: int) -> InnerState:
        """Of member `index` after so many initialisations before this one."""
        seed = derive_seed(self.seed, "member", index, generation)
        state = initial_state(self.constructor, self.optimizer, self.parts, seed)
        return state._replace(memory=self.remember(state, self.eta)) if self.remember else state

    def member(self, index: int) -> dict:
        """The fields of a new `Member`, as tensors."""
        zero = tf.constant(0, tf.int32)
        slots = self.outer_optimizer.init(self.eta)
        return dict(
            state=self.state(index, 0), outer_slots=slots, contributions=zero, generation=zero
        )


class Population:
    """Members, their lifetimes and their seeds.

    Args:
      beginnings: of members.
      size: members; the paper's 8.
      lifetime: inner updates after which a member starts again; None: never.
      updates_per_step: inner updates per meta-step, T and those that only advance.
      placement: where members live; see `dr_keras.meta.devices.placement`.

    Attributes:
      placement: that one.
      members: Members by index; None for one that another worker holds.
      slots: the members of a replica as its code sees them, inside `placement.run`.

    Raises:
      ConfigurationError: size below 1, or a lifetime shorter than one unroll.
    """

    def __init__(
        self,
        beginnings: Beginnings,
        size: int,
        lifetime: int | None,
        updates_per_step: int,
        placement: OneDevice,
    ):
        at_least("population_size", size, 1)
        placement.check_population(size)
        if lifetime is not None:
            at_least("lifetime", lifetime, 1)
        if lifetime is not None and lifetime < updates_per_step:
            raise ConfigurationError(
                f"lifetime is {lifetime} inner updates, shorter than the {updates_per_step} of one"
                " meta-step: raise lifetime or lower unroll_length."
            )
        self.size, self.lifetime, self.updates_per_step = size, lifetime, updates_per_step
        self._beginnings, self.placement = beginnings, placement
        self._held, self._trees, self._settle = placement.hold(size, beginnings.member)
        self.slots = [Member(**tree) for tree in self._held]
        self.members = [
            Member(**self._trees[index]) if index in self._trees else None for index in range(size)
        ]

    def lifetime_ends(self, index: int, meta_step: int) -> bool:
        """Whether member `index` is to start again before `meta_step` (counted from 0)."""
        if self.lifetime is None or meta_step == 0:
            return False
        # Member i starts as if it had lived i/size of a lifetime: its first is that much shorter.
        offset = index * self.lifetime // self.size
        done = meta_step * self.updates_per_step + offset
        return done // self.lifetime > (done - self.updates_per_step) // self.lifetime

    def begin_step(self, meta_step: int) -> list[int]:
        """Re-initialises the members whose lifetime has ended; their indices."""
        ended = [i for i in range(self.size) if self.lifetime_ends(i, meta_step)]
        for index in ended:
            self.reinitialise(index)
        return ended

    def reinitialise(self, index: int) -> None:
        """A new inner model from the member's next seed; its outer Adam goes on."""
        member = self.members[index]
        if member is None:
            return  # another worker's
        member.generation.assign_add(1)
        fresh = self._beginnings.state(index, int(member.generation.numpy()))
        assign(member.state, fresh)
        self._settle(index)
        gc.collect()  # the discarded Keras model is a cycle that holds its weights

    def settle(self) -> None:
        """After members were assigned from outside, as a checkpoint does: all replicas know."""
        for index in self._trees:
            self._settle(index)

    def variables(self) -> dict:
        """Index -> variables by name, as a checkpoint holds them, of the members here."""
        return _by_member(self._trees)

    def gathered_variables(self) -> dict:
        """As `variables`, on the chief with every worker's members; all workers must call."""
        return _by_member(self.placement.member_values(self.size, self._held, self._trees))

    def ages(self) -> list[int]:
        """Inner updates of each member here since its initialisation."""
        return [int(member.state.age.numpy()) for member in self.members if member]
