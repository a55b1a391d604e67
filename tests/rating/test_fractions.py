from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.errors import ConfigurationError
from dr_keras.rating import fractions


@pytest.mark.parametrize(
    "batch_size, discard_fraction, expected",
    [
        (64, 0.5, 128),
        (64, 0.0, 64),
        (64, 0, 64),
        (10, 0.9, 100),  # floats: 10 / (1 - 0.9) = 100.00000000000001, ceil 101
        (1, 0.9, 10),
        (9, 0.1, 10),
        (7, 0.3, 10),  # floats: 7 / 0.7 = 10.000000000000002
        (128, 0.75, 512),
        (128, 0.1, 143),
        (3, "0.25", 4),
        (3, Decimal("0.25"), 4),
        (2, Fraction(1, 3), 3),
        (9, np.float32(0.1), 10),
        (np.int64(9), 0.1, 10),
        (1, 1e-5, 2),
    ],
)
def test_oversized_batch_is_the_exact_ceiling(batch_size, discard_fraction, expected):
    assert fractions.oversized_batch(batch_size, discard_fraction) == expected


@given(st.integers(1, 10_000), st.integers(0, 999))
def test_oversized_batch_brackets_the_fraction(batch_size, thousandths):
    oversized = fractions.oversized_batch(batch_size, thousandths / 1000)
    kept_per_mille = 1000 - thousandths
    assert oversized * kept_per_mille >= 1000 * batch_size
    assert (oversized - 1) * kept_per_mille < 1000 * batch_size


def test_achieved_fraction_is_what_the_batch_really_drops():
    assert fractions.achieved_fraction(128, 0.1) == pytest.approx(1 - 128 / 143, abs=1e-15)
    assert fractions.achieved_fraction(64, 0.5) == 0.5
    assert fractions.achieved_fraction(64, 0) == 0.0


@pytest.mark.parametrize(
    "bad", [1, 1.0, -0.1, 1.5, float("nan"), float("inf"), "half", None, True, "1/0"]
)
def test_a_fraction_outside_its_range_is_refused(bad):
    with pytest.raises(ConfigurationError, match="discard_fraction is .*from 0"):
        fractions.oversized_batch(64, bad)


@pytest.mark.parametrize("bad", [0, -3, 2.5, True])
def test_a_batch_size_that_is_no_count_is_refused(bad):
    with pytest.raises(ConfigurationError, match="batch_size is .*at least 1"):
        fractions.oversized_batch(bad, 0.5)
