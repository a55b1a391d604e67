import dataclasses

import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream
from dr_keras.errors import ConfigurationError
from dr_keras.studies.arm_streams import Draw, MixedIn, data_budget, is_unfiltered, scored_examples
from dr_keras.studies.top_k_streams import FullTopKStream, TopKStream


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


def of_lengths(lengths, corpora=None, width=9, first=1):
    """One window for each length, of tokens that tell windows apart."""
    tokens = np.zeros((len(lengths), width), np.int32)
    for row, length in enumerate(lengths):
        tokens[row, :length] = 2 + (first + row) % 200
    names = np.array([f"e{first + k}" for k in range(len(lengths))], object)
    corpora = names if corpora is None else np.array(corpora, object)
    return ExampleSet({"tokens": tokens}, names, names, corpora, end_id=1)


def test_arms_of_any_length_see_equal_numbers_of_tokens():
    lengths = np.tile([2, 3, 9, 5, 9, 8, 2, 4], 20)
    train = of_lengths(lengths, ["a"] * 80 + ["b"] * 80)
    order = np.argsort(lengths, kind="stable")
    draws = {"all": Draw(), "short": Draw(0.5, np.sort(order[:80])), "long": Draw(0.5, order[80:])}
    found = {}
    for name, draw in draws.items():
        for weights in (None, {"a": 0.25, "b": 0.75}):
            pool = dataclasses.replace(train, weights=weights)
            draw = dataclasses.replace(draw, weights=weights)
            stream = draw.stream(pool, 0.5, 4, seed=0, name=name, full=True)
            found[name, weights is None] = data_budget(stream, 30, 4, len(train))
            if weights is not None:
                rows = np.concatenate([stream.indices(step) for step in range(64)])  # a block
                assert (stream.examples.corpora[rows] == "b").mean() == 0.75
    assert {budget.tokens_seen for budget in found.values()} == {30 * 4 * 8}
    assert found["short", True].pool_tokens < found["long", True].pool_tokens / 2
    padded = draws["short"].stream(train, 0.5, 4, seed=0, name="short")
    assert data_budget(padded, 30, 4, len(train)).tokens_seen < 30 * 4 * 8 / 2


def test_full_windows_give_the_very_batches_that_they_gave():
    train = of_lengths([9] * 40)
    for draw in (Draw(), Draw(0.5, np.arange(0, 40, 2))):
        streams = [draw.stream(train, 0.5, 4, 3, "arm", full=full) for full in (False, True)]
        for step in range(20):
            before, now = (stream.batch(step)["tokens"] for stream in streams)
            np.testing.assert_array_equal(before, now)
        assert draw.read_a_step(streams[1], 40) == pytest.approx(4 / (1 - draw.discard_fraction))


def test_a_joined_window_has_read_all_that_it_joins():
    train = of_lengths([9, 2, 3, 2] * 5, ["a"] * 20)  # 15 short ones: 50 tokens with marks
    stream = Draw().stream(train, 0, 2, 0, "unfiltered", full=True)
    assert len(stream.examples) == 5 + 6
    assert Draw().read_a_step(stream, 20) == pytest.approx(2 * 20 / 11)
    half = Draw(0.5, np.flatnonzero(np.arange(20) % 4 < 2))  # 5 full, 5 of 2 tokens
    stream = half.stream(train, 0.5, 2, 0, "rater", full=True)
    assert len(stream.examples) == 5 + 2
    assert half.read_a_step(stream, 20) == pytest.approx(2 * (10 / 7) / 0.5)


@pytest.mark.parametrize("weights", [None, {"a": 3.0, "b": 1.0}])
def test_the_target_has_its_share_of_every_arm(weights):
    train = dataclasses.replace(of_lengths([9] * 40, ["a"] * 20 + ["b"] * 20), weights=weights)
    target = MixedIn(of_lengths([9] * 6, first=100), 0.125)
    draw = Draw(0.5, np.arange(10, 30), weights)
    stream = draw.stream(train, 0.5, 4, seed=1, name="rater", full=True, mixed_in=target)
    assert stream.examples.ids[-6:].tolist() == target.examples.ids.tolist()
    rows = np.concatenate([stream.indices(step) for step in range(64)])  # a block of 256
    assert (rows >= 20).sum() == 32
    if weights:
        assert (rows < 10).sum() == 168  # three quarters of the rest
    budget = data_budget(stream, 64, draw.read_a_step(stream, 40, target), 40, mixed_in=6)
    assert budget.tokens_seen == 256 * 8 and budget.target_tokens_seen == 32 * 8
    assert budget.target_epochs == 32 / 6 and budget.epochs == 224 / 20
    assert budget.pool_examples == 20 and budget.passes == pytest.approx(224 / 20)
    assert budget.unique_tokens == 20 * 8


def test_what_is_mixed_in_has_a_name_of_its_own():
    train = dataclasses.replace(of_lengths([9, 9], ["target", "x"]), weights={"target": 1, "x": 1})
    both = MixedIn(of_lengths([9]), 0.5).into(train)
    assert both.weights == {"target": 0.25, "x": 0.25, "target'": 0.5}
    assert both.corpora.tolist() == ["target", "x", "target'"]


def test_windows_chosen_in_oversized_batches_are_joined_in_their_order():
    lengths = np.tile([9, 2, 5, 3], 50)
    train = of_lengths(lengths, ["a", "b"] * 100)
    scores = -lengths + np.linspace(0, 0.5, 200)  # short ones first
    draw = Draw(0.5, online=True, scores=scores)
    stream = draw.stream(train, 0.5, 4, seed=2, name="rater", full=True, steps=6)
    assert isinstance(stream, FullTopKStream) and len(stream.examples) == 24
    seen = np.concatenate([stream.examples.features["tokens"][stream.indices(k)] for k in range(6)])
    assert (seen > 0).all()
    padded = TopKStream(train, scores, 0.5, 4, seed=2)
    rows = np.concatenate([padded.indices(step) for step in range(50)])
    assert lengths[rows].max() < 9  # so that the order is simply that of the choice
    texts = [[*train.features["tokens"][row, : lengths[row]], 1] for row in rows]
    np.testing.assert_array_equal(seen.reshape(-1), np.concatenate(texts)[: 24 * 9])
    needed = np.cumsum(lengths[rows]) // 9 < 24  # tokens alone; the marks are more yet
    batches = int(needed.sum()) // 4 + 1
    assert draw.read_a_step(stream, 200) == pytest.approx(batches * 8 / 6)
    budget = data_budget(stream, 6, draw.read_a_step(stream, 200), 200)
    assert budget.tokens_seen == 24 * 8 and budget.pool_examples == 200
    assert budget.epochs == batches * 4 / 200 and budget.passes == pytest.approx(batches * 8 / 200)
    taken = rows[: batches * 4]
    assert budget.unique_tokens == (lengths[np.unique(taken)] - 1).sum()


def test_full_windows_chosen_in_oversized_batches_are_what_they_were():
    train = of_lengths([9] * 40)
    draw = Draw(0.5, online=True, scores=np.arange(40.0))
    assert isinstance(draw.stream(train, 0.5, 4, 0, "rater", full=True, steps=3), TopKStream)
