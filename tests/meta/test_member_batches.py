"""What a meta-step is fed with: streams' rows, of one's own members alone, from a thread."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.columns import Column
from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream
from dr_keras.errors import DataError
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.member_batches import MemberBatches
from dr_keras.meta.seeds import derive_seed


class Watched(Column):
    """Row i is [i, i]; it knows what was read of it."""

    def __init__(self, rows):
        self.shape, self.dtype = (rows, 2), np.dtype(np.float32)
        self.seen = []

    def read(self, rows):
        self.seen.append(rows)
        return np.stack([rows, rows], axis=1).astype(np.float32)


class SecondHalf(OneDevice):
    """As the second of two replicas: of four members it has the last two."""

    def shares(self, size):
        return [(range(size // 2, size), 0, 1)]

    def inputs(self, size, build):
        return build(range(size // 2, size), 0, 1)


class ThirdOfFour(OneDevice):
    """As the third of four replicas that carry two members: the first half of the second's."""

    def shares(self, size):
        return [(range(1, 2), 0, 2)]

    def inputs(self, size, build):
        return build(range(1, 2), 0, 2)


def make_set(column, name="train"):
    labels = np.array(["one"] * len(column), object)
    return ExampleSet({"x": column}, labels, labels, labels, name=name)


@pytest.mark.parametrize(
    "placement, size, members, part",
    [
        (OneDevice(), 2, [0, 1], slice(None)),
        (SecondHalf(), 4, [2, 3], slice(None)),
        (ThirdOfFour(), 2, [1], slice(0, 2)),
    ],
)
def test_a_replica_reads_the_rows_of_its_own_members_alone(placement, size, members, part):
    train, outer = Watched(40), Watched(20)
    sets = make_set(train), {"outer": make_set(outer, "outer")}
    batches = MemberBatches(placement, size, 7, 3, *sets, 4, 4)
    read = batches.read(5)
    streams = [BatchStream(sets[0], 4, derive_seed(7, "inner", m)) for m in range(size)]
    expected = np.stack([[s.indices(5 * 3 + k) for k in range(3)] for s in streams])
    np.testing.assert_array_equal(read.rows, expected)  # of all: it is what a record says
    own = expected[members][..., part]
    np.testing.assert_array_equal(np.concatenate(train.seen), own.reshape(-1))
    held_out = [BatchStream(sets[1]["outer"], 4, derive_seed(7, "outer", m)) for m in members]
    own_outer = np.stack([s.indices(5) for s in held_out])[..., part]
    np.testing.assert_array_equal(np.concatenate(outer.seen), own_outer.reshape(-1))

    inner, outers, keys = batches.placed(read)
    np.testing.assert_array_equal(inner["x"], np.stack([own, own], axis=-1))
    np.testing.assert_array_equal(outers["outer"]["x"], np.stack([own_outer] * 2, axis=-1))
    assert isinstance(inner["x"], tf.Tensor) and keys.shape == (len(members), 2)


def test_reading_ahead_changes_nothing_and_errors_come_at_their_step(
    regression_trainer, regression_sets, monkeypatch
):
    results = []
    for depth in (0, 3):
        trainer = regression_trainer(read_ahead=depth)
        history = trainer.fit(*regression_sets, 4, steps_per_epoch=2).history
        (before, after) = history.pop("data_wait_share")
        assert 0 < before < 1 and 0 < after < 1
        results.append((history, [v.numpy() for v in trainer.rater.trainable_variables]))
    np.testing.assert_equal(*results)

    read = MemberBatches.read

    def failing(batches, step):
        if step == 6:
            raise DataError("tokens-00001-of-00003.npy is cut short")
        return read(batches, step)

    monkeypatch.setattr(MemberBatches, "read", failing)
    with pytest.raises(DataError, match="^tokens-00001-of-00003.npy is cut short$"):
        trainer.fit(*regression_sets, 9)
    assert int(trainer.meta_step) == 6
    assert not [one for one in threading.enumerate() if one.name == "reading ahead"]
