import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream
from dr_keras.errors import ConfigurationError
from dr_keras.studies.arm_streams import TopKStream, data_budget, is_unfiltered, scored_examples


def examples(count, length=5):
    tokens = np.ones((count, length), np.int32)
    tokens[: count // 2, 3:] = 0  # the first half has 2 targets, the other 4
    names = np.array([f"e{k}" for k in range(count)], object)
    return ExampleSet({"tokens": tokens}, names, names, names)


def test_top_k_keeps_the_best_of_each_oversized_batch_in_order():
    data = examples(40)
    scores = np.random.default_rng(0).normal(size=40)
    stream = TopKStream(data, scores, 0.5, 4, seed=3)
    inner = BatchStream(data, 8, 3)
    for step in range(5):
        rows, oversized = stream.indices(step), inner.indices(step)
        assert sorted(scores[rows]) == sorted(scores[oversized])[4:]
        assert [r for r in oversized if r in set(rows)] == rows.tolist()


def test_nan_ranks_lowest_and_ties_go_to_the_earlier():
    data = examples(8)
    scores = np.array([np.nan, 1, 1, 1, 1, 1, 1, np.nan])
    rows = TopKStream(data, scores, 0.5, 4, seed=0).indices(0)
    oversized = BatchStream(data, 8, 0).indices(0)
    assert rows.tolist() == [r for r in oversized if r not in (0, 7)][:4]
    with pytest.raises(ConfigurationError, match="offline only"):
        TopKStream(data, scores[:3], 0.5, 4, seed=0)


def test_random_choice_in_batches_of_a_single_pass_is_the_unfiltered_arm():
    data = examples(40)
    rows = [TopKStream(data, None, 0.5, 4, seed=1).indices(step) for step in range(5)]
    assert len(set(np.concatenate(rows))) == 20  # nothing repeats: 5 x 8 = 40 were read
    assert is_unfiltered(5, 4, 0.5, 40) and not is_unfiltered(6, 4, 0.5, 40)
    assert not is_unfiltered(5, 4, 0.75, 40)


def test_budget_by_hand():
    data = examples(8)

    class Stream:
        def __init__(self):
            self.examples = data

        def indices(self, step):
            return np.array([[0, 4], [0, 5], [0, 4]][step])

    found = data_budget(Stream(), 3, read_a_step=4, train_size=16)
    assert (found.pool_examples, found.pool_tokens) == (8, 4 * 2 + 4 * 4)
    assert found.tokens_seen == 3 * 2 + 3 * 4
    assert found.unique_tokens == 2 + 4 + 4
    assert found.epochs == 6 / 8 and found.passes == 12 / 16


def test_scored_examples_by_hand():
    online, offline = (scored_examples(16, online, 100) for online in (True, False))
    assert (online(2), offline(2)) == (32, 32)
    assert (online(50), offline(50)) == (800, 100)
