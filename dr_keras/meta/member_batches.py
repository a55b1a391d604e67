"""The batches and keys of all members, addressed by meta-step: nothing to save for a resume."""

from collections.abc import Mapping
import dataclasses

import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.seeds import derive_seed

Features = Mapping[str, np.ndarray]


def read_shares(
    placement: OneDevice, size: int, examples: ExampleSet, numbers: np.ndarray
) -> dict[tuple, Features]:
    """For each replica of this process its part of the batches of its own members.

    Args:
      placement: where members live.
      size: members.
      examples: what is read.
      numbers: rows of all members, int [P, ..., B].

    Returns:
      (members, place) of a replica -> its features [P_r, ..., B_r, ...].
    """
    found = {}
    for members, place, parts in placement.shares(size):
        chosen = np.split(numbers[list(members)], parts, axis=-1)[place]
        found[members, place] = {n: values[chosen] for n, values in examples.features.items()}
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class ReadBatches:
    """The examples of one meta-step, of the members of this process.

    Attributes:
      step: number of the meta-step.
      rows: of the train set, of all members, int [P, updates_per_step, B].
      inner: (members, place) of a replica -> its features [P_r, updates_per_step, B, ...].
      outer: name of a held-out set -> likewise [P_r, B_outer, ...].
    """

    step: int
    rows: np.ndarray
    inner: Mapping[tuple, Features]
    outer: Mapping[str, Mapping[tuple, Features]]


@dataclasses.dataclass(eq=False)
class MemberBatches:
    """What a meta-step is fed with.

    Attributes:
      placement: where members live.
      size: members.
      seed: of the run.
      updates_per_step: inner updates of a meta-step.
      train: examples of the inner updates.
      outer: name of a held-out set -> its examples.
      inner_batch_size, outer_batch_size: examples.

    Raises:
      DataError: a set is too small for a batch.
    """

    placement: OneDevice
    size: int
    seed: int
    updates_per_step: int
    train: ExampleSet
    outer: Mapping[str, ExampleSet]
    inner_batch_size: int
    outer_batch_size: int

    def __post_init__(self):
        self._inner = self._streams(self.train, self.inner_batch_size, "inner")
        # Of one set, whatever its name, the batches are those that it always had.
        several = len(self.outer) > 1
        self._outer = {
            name: self._streams(examples, self.outer_batch_size, "outer", *[name] * several)
            for name, examples in self.outer.items()
        }

    def _streams(self, examples: ExampleSet, size: int, *names: str) -> list[BatchStream]:
        seeds = [derive_seed(self.seed, *names, member) for member in range(self.size)]
        first = BatchStream(examples, size, seeds[0])
        return [first.with_seed(seed) for seed in seeds]

    def read(self, step: int) -> "ReadBatches":
        """What meta-step `step` is fed with, in memory: of NumPy alone, so that any thread may."""
        numbers = range(step * self.updates_per_step, (step + 1) * self.updates_per_step)
        rows = np.stack([[stream.indices(n) for n in numbers] for stream in self._inner])
        outer = {
            name: self._shares(self.outer[name], np.stack([s.indices(step) for s in streams]))
            for name, streams in self._outer.items()
        }
        return ReadBatches(step, rows, self._shares(self.train, rows), outer)

    def placed(self, read: "ReadBatches") -> tuple[dict, dict, tf.Tensor]:
        """(inner batches, outer batches by set, keys) of a meta-step, as replicas take them.

        See `MetaTrainer`'s train step.
        """
        outer = {name: self._placed(shares) for name, shares in read.outer.items()}
        return self._placed(read.inner), outer, self._keys(read.step)

    def _shares(self, examples: ExampleSet, numbers: np.ndarray) -> dict[tuple, Features]:
        return read_shares(self.placement, self.size, examples, numbers)

    def _placed(self, shares: Mapping[tuple, Features]):
        def build(members, place, parts):
            return {name: tf.constant(values) for name, values in shares[members, place].items()}

        return self.placement.inputs(self.size, build)

    def _keys(self, step: int):
        seeds = [derive_seed(self.seed, "key", member, step) for member in range(self.size)]

        def build(members, place, parts):
            return tf.constant([[seeds[member], step] for member in members], tf.int32)

        return self.placement.inputs(self.size, build)
