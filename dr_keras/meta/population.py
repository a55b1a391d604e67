"""The population: inner models at staggered stages of training, and their outer Adams.

A member advances by T inner updates a meta-step and starts again from a fresh seed when its
lifetime ends; first lifetimes are shortened in turn, so that at any time young and old members
stand side by side (paper, section 4: 8 inner models). Lifetimes, learning rates, the ages at which
members begin to contribute and the weights that they start from may differ by member.
"""

from collections.abc import Callable, Sequence
import dataclasses
import gc

import keras
import tensorflow as tf

from dr_keras.meta.checks import at_least
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.draws import Drawn, by_member
from dr_keras.meta.initial_members import InitialMembers
from dr_keras.meta.lifetimes import Lifetimes
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


def _whole(name: str, value) -> int:
    at_least(name, value, 0)
    return int(value)


def assign(variables, values) -> None:
    """Gives the variables of a tree the values of another of its form."""
    tf.nest.map_structure(lambda variable, value: variable.assign(value), variables, values)


def values_of(variables):
    """The values of a tree of variables, in its form."""
    return tf.nest.map_structure(lambda variable: variable.read_value(), variables)


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
      learning_rate: (member, generation) -> the inner learning rate of its own; None: the
        optimizer's for all.
      initial: the weights that members start from; None: fresh ones.
    """

    constructor: Callable[[], keras.Model]
    optimizer: InnerOptimizer
    outer_optimizer: OuterAdam
    eta: list
    seed: int
    parts: ModelParts | None = None
    remember: Callable | None = None
    learning_rate: Callable[[int, int], float] | None = None
    initial: InitialMembers | None = None

    def state(self, index: int, generation: int) -> InnerState:
        """Of member `index` after so many initialisations before this one."""

        def build():
            model = self.constructor()
            if self.initial is not None:
                self.initial.load(model, index, generation)
            return model

        seed = derive_seed(self.seed, "member", index, generation)
        state = initial_state(build, self.optimizer, self.parts, seed)
        if self.learning_rate is not None:
            own_rate = tf.constant(self.learning_rate(index, generation), tf.float32)
            state = state._replace(hyper={"learning_rate": own_rate})
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
      lifetime: see `Lifetimes`.
      updates_per_step: inner updates per meta-step, T and those that only advance.
      placement: where members live; see `dr_keras.meta.devices.placement`.
      start_ages: inner updates without meta-gradient that a member makes after each initialisation
        before it contributes, see `dr_keras.meta.start_ages`: for all, by member, or a draw.

    Attributes:
      placement: that one.
      start_age: (member, generation) -> the age at which it begins to contribute; None: at once.
      members: Members by index; None for one that another worker holds.
      slots: the members of a replica as its code sees them, inside `placement.run`.

    Raises:
      ConfigurationError: size below 1, or a lifetime shorter than one unroll.
    """

    def __init__(
        self,
        beginnings: Beginnings,
        size: int,
        lifetime: int | Sequence[int | None] | Drawn | None,
        updates_per_step: int,
        placement: OneDevice,
        start_ages: int | Sequence[int] | Drawn = 0,
    ):
        at_least("population_size", size, 1)
        placement.check_population(size)
        self.size, self.updates_per_step = size, updates_per_step
        self._lifetimes = Lifetimes(lifetime, size, updates_per_step, beginnings.seed)
        self.start_age = None
        if callable(start_ages) or start_ages != 0:
            self.start_age = by_member(
                "start_ages", start_ages, size, beginnings.seed, _whole, whole=True
            )
        self._beginnings, self.placement = beginnings, placement
        self._held, self._trees, self._settle = placement.hold(size, beginnings.member)
        self.slots = [Member(**tree) for tree in self._held]
        self.members = [
            Member(**self._trees[index]) if index in self._trees else None for index in range(size)
        ]

    def lifetime_ends(self, index: int, meta_step: int) -> bool:
        """Whether member `index` is to start again before `meta_step` (counted from 0)."""
        return self._lifetimes.end(index, meta_step)

    def begin_step(self, meta_step: int) -> list[int]:
        """Re-initialises the members whose lifetime has ended; their indices."""
        ended = [i for i in range(self.size) if self.lifetime_ends(i, meta_step)]
        for index in ended:
            if self._has_lived(index):
                self.reinitialise(index)
        return ended

    def _has_lived(self, index: int) -> bool:
        """Not where the run was stopped after it started again, on its way to its start age."""
        member = self.members[index]
        if member is None or self.start_age is None:
            return True
        start = self.start_age(index, int(member.generation.numpy()))
        return start == 0 or int(member.state.age.numpy()) > start

    def lacking(self) -> dict[int, int]:
        """Member here -> inner updates that it lacks to its start age, where it lacks any."""
        found = {}
        for index, member in enumerate(self.members):
            if member is not None and self.start_age is not None:
                start = self.start_age(index, int(member.generation.numpy()))
                found[index] = start - int(member.state.age.numpy())
        return {index: updates for index, updates in found.items() if updates > 0}

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
