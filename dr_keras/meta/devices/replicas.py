"""Members spread over the replicas of a tf.distribute strategy.

Replica r of R carries members r * P / R to (r + 1) * P / R - 1: parameters, slots and outer Adam,
in variables of its own that nobody else reads. With fewer members than replicas, member m is
carried by replicas m * R / P to (m + 1) * R / P - 1 together: all of them have its state, and each
computes with a part of its batches; see `split_member`. Each replica also has a copy
of the rater, which stays the same on all of them because all apply the same sum. Everything here is
called outside jit-compiled functions: inside them a strategy can neither reduce nor assign.
"""

from collections.abc import Callable, Sequence
import json
from typing import Any

import numpy as np
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.devices.placement import Group, OneDevice, variable

_SUM = tf.distribute.ReduceOp.SUM


def _index() -> tf.Tensor:
    return tf.distribute.get_replica_context().replica_id_in_sync_group


class Replicas(OneDevice):
    """The replicas of one process: MirroredStrategy, or TPUStrategy.

    Args:
      strategy: of tf.distribute.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        self.replica_count = strategy.num_replicas_in_sync
        # Numbers in the whole group of the replicas that this process runs.
        self._local = [
            int(number)
            for number in strategy.experimental_local_results(
                strategy.experimental_distribute_values_from_function(
                    lambda context: np.int32(context.replica_id_in_sync_group)
                )
            )
        ]

    def check_population(self, size: int) -> None:
        if size % self.replica_count == 0 or self.replica_count % size == 0:
            return
        multiples = [self.replica_count * factor for factor in (1, 2, 3)]
        divisors = [n for n in range(1, self.replica_count) if self.replica_count % n == 0]
        raise ConfigurationError(
            f"population_size is {size}, but the strategy has {self.replica_count} replicas, and"
            " each must carry as many members as the others, or as many of them carry each member:"
            f" set population_size to a multiple of it ({', '.join(map(str, multiples))}, ...) or"
            f" to a divisor ({', '.join(map(str, divisors))}), or use"
            f" {_largest_divisor(size, self.replica_count)} devices."
        )

    def _parts(self, size: int) -> int:
        """Replicas that carry one member together."""
        return max(1, self.replica_count // size)

    def _members_of(self, replica: int, size: int) -> range:
        share = max(1, size // self.replica_count)
        first = replica // self._parts(size) * share
        return range(first, first + share)

    def group(self, size: int) -> Group | None:
        parts = self._parts(size)
        if parts == 1:
            return None

        def group_sum(tensors: list) -> list:
            if size == 1:
                return self.sum(tensors)
            # A sum over some of the replicas is asked of none of TensorFlow's strategies: all sum
            # one row for each member, and a replica's own row is the only one that is not zero.
            member = _index() // parts
            rows = [
                tf.scatter_nd(tf.reshape(member, [1, 1]), value[None], [size, *value.shape])
                for value in tensors
            ]
            return [tf.gather(row, member) for row in self.sum(rows)]

        return Group(parts, lambda: _index() % parts, group_sum)

    # --- variables -------------------------------------------------------------------------

    def _leaf(self, values: list) -> tuple[Any, list[tf.Variable]]:
        """A leaf as a replica sees it, and this process' variables, one for each local replica."""
        with self.strategy.scope():
            leaf = tf.Variable(
                tf.zeros_like(values[0]),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.NONE,
            )
        components = list(leaf.values)
        for component, value in zip(components, values, strict=True):
            component.assign(value)
        return leaf, components

    def hold(self, size: int, build: Callable[[int], Any]) -> tuple[list, dict, Callable]:
        seen, members = [], {}
        copies: dict[int, list[tuple[tf.Variable, tf.Variable]]] = {}
        for number in range(max(1, size // self.replica_count)):
            indices = [self._members_of(replica, size)[number] for replica in self._local]
            built = {index: build(index) for index in dict.fromkeys(indices)}
            trees = [built[index] for index in indices]
            leaves = [self._leaf(list(values)) for values in zip(*map(tf.nest.flatten, trees))]
            seen.append(tf.nest.pack_sequence_as(trees[0], [leaf for leaf, _ in leaves]))
            for place, index in enumerate(indices):
                own = [components[place] for _, components in leaves]
                if index in members:
                    pairs = zip(tf.nest.flatten(members[index]), own, strict=True)
                    copies.setdefault(index, []).extend(pairs)
                else:
                    members[index] = tf.nest.pack_sequence_as(trees[0], own)

        def settle(index):
            for original, copy in copies.get(index, []):
                copy.assign(original.read_value())

        return seen, members, settle

    def copies(self, variables: list) -> list:
        made = [self._leaf([v.read_value()] * len(self._local)) for v in variables]
        return [leaf for leaf, _ in made]

    def push(self, variables: list, copies: list) -> None:
        for original, copy in zip(variables, copies, strict=True):
            for component in copy.values:
                component.assign(original.read_value())

    def pull(self, variables: list, copies: list) -> None:
        for original, copy in zip(variables, copies, strict=True):
            original.assign(copy.values[0].read_value())

    # --- inside and around a step ----------------------------------------------------------

    def _share(self, replica: int, size: int) -> tuple[range, int, int]:
        parts = self._parts(size)
        return self._members_of(replica, size), replica % parts, parts

    def shares(self, size: int) -> list[tuple[Sequence[int], int, int]]:
        return [self._share(replica, size) for replica in self._local]

    def inputs(self, size: int, build: Callable[[Sequence[int], int, int], Any]) -> Any:
        def build_for(context):
            return build(*self._share(int(context.replica_id_in_sync_group), size))

        return self.strategy.experimental_distribute_values_from_function(build_for)

    def run(self, function: Callable, *arguments):
        results = self.strategy.run(function, args=arguments)
        return tf.nest.map_structure(
            lambda value: self.strategy.experimental_local_results(value)[0], results
        )

    def sum(self, tensors: list) -> list:
        context = tf.distribute.get_replica_context()
        sums = list(tensors)
        # Floats travel together. MirroredStrategy refuses integers in company, each other's too.
        groups = {}
        for place, tensor in enumerate(tensors):
            alone = tensor.dtype.is_integer
            groups.setdefault(place if alone else tensor.dtype.name, []).append(place)
        for places in groups.values():
            totals = context.all_reduce(_SUM, [tensors[place] for place in places])
            for place, total in zip(places, totals, strict=True):
                sums[place] = total
        return sums

    def gather(self, values: dict) -> dict:
        def placed(value):
            """[R, ...], zeros but for this replica's row; nothing is multiplied: NaN stays put."""
            shape = [self.replica_count, *value.shape]
            return tf.scatter_nd(tf.reshape(_index(), [1, 1]), value[None], shape)

        as_numbers = {
            name: tf.cast(value, tf.int32) if value.dtype == tf.bool else value
            for name, value in values.items()
        }
        rows = self.sum([placed(value) for value in as_numbers.values()])
        return {
            name: tf.cast(tf.reshape(row, [-1, *values[name].shape[1:]]), values[name].dtype)
            for name, row in zip(values, rows, strict=True)
        }


class WorkerReplicas(Replicas):
    """The replicas of several processes: MultiWorkerMirroredStrategy.

    Every process runs the same program; the chief writes for all. A process keeps its own
    replicas' variables alone.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        super().__init__(strategy)
        resolver = strategy.cluster_resolver
        cluster = resolver.cluster_spec()
        self.worker_count = sum(cluster.num_tasks(job) for job in cluster.jobs)
        self.is_chief = resolver.task_type == "chief" or (
            "chief" not in cluster.jobs and resolver.task_id == 0
        )
        self._devices = strategy.extended.worker_devices
        self._gather_rows = tf.function(self._gather_rows_function)
        self._fetch = tf.function(self._fetch_function)

    def _leaf(self, values: list) -> tuple[Any, list[tf.Variable]]:
        # A variable made in the strategy's scope would be broadcast, which TensorFlow cannot do
        # for the unsigned seeds of dropout, and which nobody needs.
        components = []
        for device, value in zip(self._devices, values, strict=True):
            with tf.device(device):
                components.append(variable(value))
        return _Components(components, self._local), components

    def _gather_rows_function(self, row):
        return self.run(lambda value: self.gather({"rows": value[None]})["rows"], row)

    def _rows(self, row: np.ndarray) -> np.ndarray:
        """Each worker's row; replicas of one worker have the same."""
        per_replica = self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(row)
        )
        return self._gather_rows(per_replica).numpy()

    def agree(self, number: int) -> int:
        return int(self._rows(np.array([number], np.int32)).max())

    def from_chief(self, produce: Callable[[], dict[str, float]]) -> dict[str, float]:
        text = json.dumps({k: float(v) for k, v in produce().items()}) if self.is_chief else ""
        content = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        length = self.agree(len(content))
        row = np.zeros(length, np.int32)
        row[: len(content)] = content
        # Only the chief's row is not zero.
        return json.loads(self._rows(row).max(axis=0).astype(np.uint8).tobytes().decode())

    def _fetch_function(self, held, replica):
        """The values that `replica` has in `held`, on all of them."""

        def fetch(replica):
            mine = tf.equal(_index(), replica)
            leaves = [leaf.read_value() for leaf in held]
            bits = [tf.bitcast(x, tf.int32) if x.dtype in (tf.uint32,) else x for x in leaves]
            sums = self.sum([tf.where(mine, x, tf.zeros_like(x)) for x in bits])
            return [tf.bitcast(x, like.dtype) for x, like in zip(sums, leaves, strict=True)]

        return self.run(fetch, replica)

    def member_values(self, size: int, held: list, members: dict) -> dict:
        if set(members) == set(range(size)):
            return members
        gathered = {}
        for replica in range(0, self.replica_count, self._parts(size)):
            for number, index in enumerate(self._members_of(replica, size)):
                values = self._fetch(tf.nest.flatten(held[number]), tf.constant(replica))
                if self.is_chief:
                    gathered[index] = tf.nest.pack_sequence_as(
                        held[number], [variable(value.numpy()) for value in values]
                    )
        return gathered


class _Components:
    """A variable for each local replica; inside `run` it stands for the replica's own."""

    def __init__(self, values: list[tf.Variable], replicas: list[int]):
        self.values = values
        self._replicas = replicas

    def _own(self) -> tf.Variable:
        return self.values[self._replicas.index(int(tf.get_static_value(_index())))]

    def read_value(self) -> tf.Tensor:
        return self._own().read_value()

    def assign(self, value: tf.Tensor):
        return self._own().assign(value)


def _largest_divisor(size: int, limit: int) -> int:
    return max(number for number in range(1, limit + 1) if size % number == 0)
