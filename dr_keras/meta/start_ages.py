"""Members that are of an age before they contribute: inner updates without meta-gradient.

Some damage shows only to a model that has learned something, other damage best to a young one. So a
member may first make so many plain updates after each initialisation, weighed by the rater as it
stands, on a stream of its own. Where it is on the way is its age; a run that is stopped there goes
on from there.
"""

import collections
from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import itertools

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream
from dr_keras.errors import NonFiniteError
from dr_keras.meta import pytrees
from dr_keras.meta.member_batches import read_shares
from dr_keras.meta.population import Population, assign, values_of
from dr_keras.meta.seeds import derive_seed
from dr_keras.system.reading_ahead import ReadingAhead

# Lives in a row of one member none of which reaches its start age.
_MOST_LIVES = 10


@dataclasses.dataclass(eq=False)
class Ageing:
    """Brings members to their start ages.

    Attributes:
      population: of members.
      rater: weighs the batches.
      replica_eta: its variables as a replica sees them.
      replica_kept: the variables that no update changes, likewise.
      advance: compiled, of `MemberStep` or `SplitMember`.
      batch_size: examples in an inner batch.
      seed: of the run.
      failures: int32 variable, counts members that blow up and start again; None: they may not.
      read_ahead: rounds of updates whose batches a thread reads before they are needed.
    """

    population: Population
    rater: keras.Model
    replica_eta: list
    replica_kept: dict
    advance: Callable
    batch_size: int
    seed: int
    failures: tf.Variable | None = None
    read_ahead: int = 2

    def __post_init__(self):
        self._update = tf.function(self._update_function, autograph=False)

    def __call__(self, train: ExampleSet, callbacks: Sequence, stop: Callable[[], bool]) -> bool:
        """Updates members until all have their start age.

        Args:
          train: examples of the inner updates.
          callbacks: those with a method `on_members_age` are told (updates done, updates in all)
            of the members here.
          stop: whether to leave it; asked after every update.

        Returns:
          Whether all have it now.

        Raises:
          NonFiniteError: a member blew up and may not start again, or did in ten lives in a row.
        """
        if self.population.start_age is None:
            return True
        # The rounds' batches are known beforehand, until a member starts again.
        with contextlib.ExitStack() as reading:
            return self._until_of_age(train, callbacks, stop, reading)

    def _until_of_age(self, train, callbacks, stop, reading: contextlib.ExitStack) -> bool:
        placement, members = self.population.placement, self.population.members
        done, lives, rounds = 0, collections.Counter(), None
        told = [c.on_members_age for c in callbacks if hasattr(c, "on_members_age")]
        for number in itertools.count():
            lacking = self.population.lacking()
            left = sum(lacking.values())
            for tell in told if done or left else ():
                tell(done, done + left)
            if not placement.agree(left):
                return True
            if number and stop():  # all workers ask, those that have nothing to do as well
                return False
            ages = {index: int(members[index].state.age.numpy()) for index in lacking}
            if rounds is None:
                read = self._rounds(train, lacking, ages)
                rounds = ReadingAhead(read, itertools.count(), self.read_ahead)
                reading.enter_context(rounds)
            self._update(self._inputs(next(rounds)))
            done += len(lacking)
            # An update that is not finite leaves the member as it was.
            failed = [i for i in lacking if int(members[i].state.age.numpy()) == ages[i]]
            if placement.agree(len(failed)):
                reading.close()
                rounds = None
                for index in range(self.population.size):
                    if placement.agree(int(index in failed)):
                        lives[index] += 1
                        self._start_again(index, lives[index])

    def _start_again(self, index: int, lives: int) -> None:
        if self.failures is None or lives == _MOST_LIVES:
            again = f" in {lives} lives in a row" if lives > 1 else ""
            remedy = " or on_nonfinite='reinit', which restarts such members" if lives == 1 else ""
            raise NonFiniteError(
                f"Member {index} blew up before its start age{again}: an update made its weights"
                f" NaN or infinite. Lower the inner learning rate, or set clip_norm{remedy}."
            )
        self.failures.assign_add(1)
        self.population.reinitialise(index)

    def _rounds(
        self, train: ExampleSet, lacking: dict[int, int], ages: dict[int, int]
    ) -> Callable[[int], tuple[dict, set[int]]]:
        """What reads a round of updates, counted from now, of NumPy alone.

        Args:
          lacking, ages: of members here, updates to come and updates made.
        """
        streams = {}
        for index in lacking:
            life = int(self.population.members[index].generation.numpy())
            own_seed = derive_seed(self.seed, "start_age", index, life)
            streams[index] = BatchStream(train, self.batch_size, own_seed)
        idle = np.zeros(self.batch_size, np.int64)  # who lacks none has any batch

        def read(number: int) -> tuple[dict, set[int]]:
            lack = {index for index, left in lacking.items() if left > number}
            rows = {index: streams[index].indices(ages[index] + number) for index in lack}
            size = self.population.size
            numbers = np.stack([rows.get(index, idle) for index in range(size)])
            return read_shares(self.population.placement, size, train, numbers), lack

        return read

    def _inputs(self, read: tuple[dict, set[int]]):
        """What `_update` is to be handed of what was read."""
        shares, lack = read

        def build(members, place, parts):
            batches = {n: tf.constant(values) for n, values in shares[members, place].items()}
            return {"batches": batches, "lacking": tf.constant([i in lack for i in members])}

        return self.population.placement.inputs(self.population.size, build)

    def _update_function(self, inputs: dict) -> None:
        rater_state = [tf.identity(v.value) for v in self.rater.non_trainable_variables]
        self.population.placement.run(self._replica_update, inputs, rater_state)

    def _replica_update(self, inputs: dict, rater_state: list) -> tf.Tensor:
        """One update of those members of a replica that lack one."""
        group = self.population.placement.group(self.population.size)
        eta = values_of(self.replica_eta)
        constants = {"rater": rater_state, **values_of(self.replica_kept)}
        for index, member in enumerate(self.population.slots):
            lacks = inputs["lacking"][index]
            state = values_of(member.state)
            batch = {name: value[index] for name, value in inputs["batches"].items()}

            def advanced(state=state, batch=batch):
                return self.advance(eta, constants, state, batch)[0]

            if group is None:
                new = tf.cond(lacks, advanced, lambda state=state: state)
            else:  # its sums over replicas must be asked of all of them
                new = pytrees.where(lacks, advanced(), state)
            assign(member.state, new)
        return tf.constant(0)
