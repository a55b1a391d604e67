"""Sizes as people write them."""

import hypothesis
import hypothesis.strategies as st
import pytest

from dr_keras.config.byte_sizes import parse_bytes


@pytest.mark.parametrize(
    "text, size",
    [
        ("64MB", 64_000_000),
        ("64 mb", 64_000_000),
        ("64MiB", 64 << 20),
        ("1.5 GiB", 3 << 29),
        ("0.1kB", 100),
        ("2T", 2 * 10**12),
        ("3 Ki", 3072),
        ("12B", 12),
        (" 12 ", 12),
    ],
)
def test_units_are_of_a_thousand_or_of_1024(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "64 apples", "1e3", "6iB", "1,5 GB", "1 MB 2"])
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="write a number and a unit, such as '64MB'"):
        parse_bytes(text)


def test_a_part_of_a_byte_is_refused():
    with pytest.raises(ValueError, match=r"'0.1 KiB' is 102.4 bytes, which is no whole number"):
        parse_bytes("0.1 KiB")


@hypothesis.given(st.integers(0, 10**6), st.sampled_from(["", "k", "M", "G", "T"]), st.booleans())
def test_whole_numbers_of_any_unit(number, unit, binary):
    binary = binary and bool(unit)
    power = " kMGT".index(unit) if unit else 0
    text = f"{number}{unit}{'i' if binary else ''}B"
    assert parse_bytes(text) == number * (1024 if binary else 1000) ** power
