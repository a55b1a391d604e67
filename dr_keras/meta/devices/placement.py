"""One device: the default placement, and the interface of every other.

A placement says where members of a population and copies of the rater live, and moves numbers
between replicas. Code of a meta-step is written once, for a replica: it reads and assigns its own
variables, and calls `sum` and `gather` of the placement for what all replicas must agree on.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import tensorflow as tf


def variable(value: tf.Tensor) -> tf.Variable:
    return tf.Variable(value, trainable=False)


@dataclasses.dataclass(frozen=True)
class Group:
    """The replicas that carry one member together, each a part of its batches.

    Attributes:
      parts: how many replicas.
      place: inside `run`: this replica's place in the group, an int32 scalar.
      sum: inside `run`: sums of tensors over the group.
    """

    parts: int
    place: Callable[[], tf.Tensor]
    sum: Callable[[list], list]

    def gathered(self, parts: list) -> list:
        """Inside `run`: tensors [B, ...], of which this replica has the parts [B / parts, ...]."""
        place = tf.reshape(self.place(), [1, 1])
        rows = self.sum(
            [tf.scatter_nd(place, part[None], [self.parts, *part.shape]) for part in parts]
        )
        return [tf.reshape(row, [-1, *row.shape[2:]]) for row in rows]


class OneDevice:
    """All members on TensorFlow's default device, in one process.

    Attributes:
      replica_count: replicas over all workers.
      worker_count: processes that train together.
      is_chief: whether this process writes what the run leaves on disk.
    """

    replica_count = 1
    worker_count = 1
    is_chief = True

    def check_population(self, size: int) -> None:
        """Raises ConfigurationError where `size` members cannot be spread over the replicas."""

    def group(self, size: int) -> Group | None:
        """What a member is split over; None where a replica carries whole members."""

    def hold(self, size: int, build: Callable[[int], Any]) -> tuple[list, dict, Callable]:
        """Makes variables for every member's state.

        Args:
          size: members.
          build: member's index -> pytree of tensors, its first state; called for local members.

        Returns:
          (what a replica sees: a list of its members' pytrees, whose leaves have `read_value` and
          `assign` inside `run`; index -> pytree of tf.Variables of each local member; what is to be
          called with the index of a member whose variables were assigned outside `run`, so that
          other replicas that carry it have its values too).
        """
        members = {index: tf.nest.map_structure(variable, build(index)) for index in range(size)}
        return list(members.values()), members, lambda index: None

    def copies(self, variables: list) -> list:
        """Every replica's own copy of `variables`; on one device the variables themselves."""
        return variables

    def push(self, variables: list, copies: list) -> None:
        """Gives all copies the values of `variables`."""

    def pull(self, variables: list, copies: list) -> None:
        """Gives `variables` the values of this process' first copies."""

    def shares(self, size: int) -> list[tuple[Sequence[int], int, int]]:
        """(members, place, parts) of each replica of this process, as `inputs` hands them on."""
        return [(range(size), 0, 1)]

    def inputs(self, size: int, build: Callable[[Sequence[int], int, int], Any]) -> Any:
        """What `run` is to be handed of data.

        Args:
          size: members.
          build: (indices of members, place, parts) -> what a replica is to have: part number
            `place` of `parts` equal ones of the batches of these members.
        """
        return build(range(size), 0, 1)

    def run(self, function: Callable, *arguments):
        """`function(*arguments)` on every replica; the result, which is the same on all."""
        return function(*arguments)

    def sum(self, tensors: list) -> list:
        """Inside `run`: sums over the replicas."""
        return tensors

    def gather(self, values: dict) -> dict:
        """Inside `run`: [members of the replica, ...] of each replica as [members, ...]."""
        return values

    def agree(self, number: int) -> int:
        """The largest of the workers' numbers; all workers must call."""
        return number

    def from_chief(self, produce: Callable[[], dict[str, float]]) -> dict[str, float]:
        """What `produce` returns on the chief, which alone calls it; all workers must call."""
        return produce()

    def member_values(self, size: int, held: list, members: dict) -> dict:
        """Index -> pytree of all members' variables, for a checkpoint; all workers must call."""
        return members
