from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.errors import ConfigurationError
from dr_keras.serving.windows import bucket_widths, length_buckets, score_by_length


def test_widths_are_few_and_alternate():
    assert bucket_widths(512) == (32, 48, 64, 96, 128, 192, 256, 384, 512)
    assert len(bucket_widths(2048)) == 13
    assert bucket_widths(100) == (32, 48, 64, 96, 100)
    assert bucket_widths(32) == bucket_widths(32, 64) == (32,)
    assert bucket_widths(5, 1) == (1, 2, 3, 4, 5)


@given(st.integers(1, 5000), st.integers(1, 100))
def test_a_window_fills_two_thirds_of_its_width(longest, shortest):
    widths = bucket_widths(longest, shortest)
    assert widths[-1] == longest and list(widths) == sorted(set(widths))
    assert len(widths) <= 2 + 2 * max(0, np.log2(longest / shortest) + 1)
    for smaller, larger in zip(widths, widths[1:]):
        assert smaller >= shortest and (smaller + 1) >= (larger - 1) / 1.5


@given(st.lists(st.integers(0, 70), max_size=60), st.integers(1, 9))
def test_every_window_is_in_one_batch_that_holds_it_and_is_hardly_wider(lengths, batch_size):
    widths = (8, 16, 70)
    buckets = list(length_buckets(lengths, batch_size, widths))
    rows = [row for bucket in buckets for row in bucket.rows.tolist()]
    assert rows == sorted(range(len(lengths)), key=lambda n: (-lengths[n], n))
    assert [len(b.rows) for b in buckets[:-1]] == [batch_size] * max(0, len(buckets) - 1)
    for bucket in buckets:
        longest = max(lengths[row] for row in bucket.rows)
        assert bucket.width == min(width for width in widths if width >= longest)


def test_scores_come_back_in_order_and_only_padding_is_cut_off():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 65, size=50)
    tokens = np.where(np.arange(64) < lengths[:, None], rng.integers(1, 99, (50, 64)), 0)
    tokens[7, :3] = [5, 0, 6]  # a hole is no end
    seen, done = [], []

    def score(batch):
        seen.append(batch.shape[1])
        return batch.sum(axis=1)

    scores = score_by_length(score, tokens, 8, progress=done.append)
    np.testing.assert_array_equal(scores, tokens.sum(axis=1))
    assert scores.dtype == np.float32 and sum(done) == 50
    assert set(seen) <= set(bucket_widths(64)) and len(set(seen)) > 2
    assert score_by_length(score, np.zeros((0, 64), np.int32), 8).shape == (0,)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigurationError, match="not longest 0"):
        bucket_widths(0)
    with pytest.raises(ConfigurationError, match="batch_size is 0"):
        list(length_buckets([1], 0, [4]))
    with pytest.raises(ConfigurationError, match=r"window of 9 tokens fits none of .*\[4, 8\]"):
        list(length_buckets([1, 9], 2, [4, 8]))
