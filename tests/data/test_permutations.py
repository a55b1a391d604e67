"""Permutations without a table are bijections, look like chance, and never change."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.data import permutations
from dr_keras.data.permutations import LARGEST, permuted


def whole(size, *numbers):
    return permuted(np.arange(size), size, *numbers)


@hypothesis.given(
    # around squares and their halves the digits are full or hardly used
    size=st.integers(1, 3000) | st.sampled_from([255, 256, 257, 1023, 1024, 1025, 65536, 65537]),
    seed=st.integers(0, 2**64 - 1),
    number=st.integers(0, 2**64 - 1),
)
@hypothesis.settings(deadline=None, max_examples=40)
def test_every_number_is_met_once(size, seed, number):
    np.testing.assert_array_equal(np.sort(whole(size, seed, number)), np.arange(size))


@hypothesis.given(size=st.integers(257, LARGEST), data=st.data())
@hypothesis.settings(deadline=None, max_examples=40)
def test_the_network_of_any_size_can_be_run_backwards(size, data):
    """What is too large to be sorted: distinct numbers stay distinct, and inside."""
    indices = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=50, unique=True))
    found = permuted(np.array(indices), size, 3, 1)
    assert found.dtype == np.int64 and len(set(found.tolist())) == len(indices)
    assert found.min() >= 0 and found.max() < size
    # asked for one at a time or in another shape they go to the same places
    assert [int(permuted(np.array(i), size, 3, 1)) for i in indices[:3]] == found[:3].tolist()
    np.testing.assert_array_equal(permuted(np.array([indices]), size, 3, 1), [found])


def test_no_permutation_of_all_times_changes():
    # A resumed run must meet the same rows, whatever the versions of numpy and dr_keras.
    assert whole(10, 7, 0).tolist() == TEN
    assert permuted(np.array([0, 1, 999_999_999]), 10**9, 0, 1).tolist() == BILLION
    assert permuted(np.arange(3), LARGEST, 2**64 - 1, 3, 5).tolist() == HUGE


def test_every_choice_of_numbers_is_another_permutation():
    choices = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 1, 0), (0, 0, 1), (2**64 - 1,)]
    for size in (40, 4000):
        assert len({tuple(whole(size, *choice).tolist()) for choice in choices}) == len(choices)
    # numpy's integers are the same numbers
    assert (whole(300, np.int32(7), np.uint64(2)) == whole(300, 7, 2)).all()


def chi_square(counts, expected):
    """Standard deviations above what chance gives, nearly."""
    freedom = counts.size - 1
    found = ((counts - expected) ** 2 / expected).sum()
    # Wilson and Hilferty, Proceedings of the National Academy of Sciences 17 (1931)
    root = (found / freedom) ** (1 / 3)
    return (root - 1 + 2 / (9 * freedom)) / np.sqrt(2 / (9 * freedom))


@pytest.mark.parametrize("size", [3, 6, 16, 256, 257, 4096, 10**7])
def test_places_and_pairs_of_places_are_even(size):
    """Over 1,000 permutations, of a few places: neighbours, those of one digit, and far ones."""
    root = int(np.ceil(np.sqrt(size)))
    places = np.unique([0, 1, root - 1, root % size, 2 * root % size, size // 2, size - 1])
    found = np.stack([permuted(places, size, 11, number) for number in range(1000)])
    cells = min(size, 8)
    bounds = -(-np.arange(cells + 1) * size // cells)  # of equal cells, as far as they can be
    sizes = np.diff(bounds).astype(float)
    cell = np.searchsorted(bounds, found, side="right") - 1
    worst = 0.0
    for i in range(len(places)):
        counts = np.bincount(cell[:, i], minlength=cells)
        worst = max(worst, chi_square(counts, 1000 * sizes / size))
        for j in range(i):
            counts = np.bincount(cell[:, i] * cells + cell[:, j], minlength=cells**2)
            pairs = np.outer(sizes, sizes) - np.diag(sizes)  # two places never hold one number
            expected = 1000 * pairs.reshape(-1) / (size * (size - 1))
            worst = max(worst, chi_square(counts[expected > 0], expected[expected > 0]))
    assert worst < 4.5  # of at most 28 figures


def test_the_order_of_an_epoch_is_no_pattern():
    """As many rises as falls, and no number near its own place, or near the one before it."""
    order = whole(20_000, 5, 0)
    steps = np.diff(order)
    assert abs((steps > 0).sum() - 10_000) < 4 * np.sqrt(20_000 / 12)
    # the distance of two random numbers has the mean size / 3 and a deviation of size / root(18)
    for distance in (np.abs(steps), np.abs(order - np.arange(20_000))):
        assert abs(distance.mean() / 20_000 - 1 / 3) < 4 / np.sqrt(18 * 20_000)


def test_what_cannot_be_permuted_is_refused():
    for size in (0, LARGEST + 1):
        with pytest.raises(ValueError, match=f"a permutation of {size} things: from 1 to"):
            permuted(np.arange(0), size, 0)
    for indices in ([-1, 3], [0, 5]):
        with pytest.raises(IndexError, match="of 5 things"):
            permuted(np.array(indices), 5, 0)
    assert permuted(np.array([], int), 5, 0).tolist() == []


def test_few_numbers_of_a_large_size_take_microseconds_and_no_table(monkeypatch):
    """The network goes through what was asked for, and what fell outside, alone."""
    asked = []
    through = permutations._network
    monkeypatch.setattr(
        permutations,
        "_network",
        lambda numbers, *rest: asked.append(len(numbers)) or through(numbers, *rest),
    )
    permuted(np.arange(1000), 10**12 + 1, 0, 0)
    assert asked[0] == 1000 and sum(asked[1:]) < 10


TEN = [2, 0, 6, 7, 9, 1, 8, 3, 4, 5]
BILLION = [823013043, 861092850, 525139599]
HUGE = [2701439133819341410, 2242837107245181795, 2935746067209045806]
