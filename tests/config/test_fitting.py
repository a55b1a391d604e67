"""Which values fit which annotations: surely wrong ones are refused, and no others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import decimal
import enum
import fractions
import os
import pathlib
import typing
from typing import Any, Literal, Protocol

import hypothesis
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.config.fitting import Fitting, Misfit, described, hints_of, may_be, parse_bytes

Decimal = float | int | str | decimal.Decimal | fractions.Fraction


class Named(Protocol):
    name: str

    def speak(self) -> str: ...


class Speaks:
    def speak(self):
        return "x"


class Colour(enum.Enum):
    RED = 1


class Whole(enum.IntEnum):
    ONE = 1


T = typing.TypeVar("T")

FITS = [
    (3, int),
    (np.int64(3), int),
    (3, float),
    (2.5, float),
    (True, bool),
    (0, bool),
    ("a", str),
    ("a", str | None),
    (None, str | None),
    (None, None),
    ("a", os.PathLike),
    ("a", pathlib.Path),
    ("a", str | os.PathLike | Sequence[str | os.PathLike]),
    (["a", "b"], str | os.PathLike | Sequence[str | os.PathLike]),
    ((1, 2), list[int]),
    ([1, 2], tuple[int, ...]),
    ([1, "a"], tuple[int, str]),
    (["a"], set[str]),
    ((), Sequence[int]),
    ("text", Sequence),
    ("text", Iterable[str]),
    ([1], Iterable),
    ({"a": 1.5}, Mapping[str, float]),
    ({"a": 1}, dict),
    ("stop", Literal["stop", "reinit"]),
    (print, Callable),
    (None, keras.Model),
    (None, Callable[[], keras.Model]),
    (Speaks(), Speaks),
    (Speaks(), Named),
    (Speaks(), Speaks | None),
    ([[1.0]], np.ndarray),
    (0.5, tf.Tensor),
    (Colour.RED, Colour),
    ("RED", Colour),
    (1, Whole),
    (0.1, Decimal),
    ("0.1", Decimal),
    ("anything", Any),
    ("anything", T),
    ("anything", object),
    ("anything", "a name that nobody resolved"),
    (3, typing.Optional[int]),
    (3, typing.Union[int, str]),
    (3, typing.NewType("Steps", int)),
]  # fmt: skip


def _named(value) -> str:
    """The same in every process, without addresses."""
    return repr(value).split(" at 0x")[0]


@pytest.mark.parametrize("value, wanted", FITS, ids=_named)
def test_what_may_be_right_stays_as_it_is(value, wanted):
    found = Fitting().fit(value, wanted)
    assert repr(found) == repr(value) and type(found) is type(value)


@pytest.mark.parametrize(
    "value, wanted, words",
    [
        ("a", int, "a whole number"),
        (64.5, int, "a whole number"),
        (True, int, "a whole number"),
        ("64MB", int, "a whole number"),
        (None, int, "a whole number"),
        (True, float, "a number"),
        ("0.1", float, "a number"),
        (2, bool, "True or False"),
        ("True", bool, "True or False"),
        (3, str, "text in quotes"),
        (["a"], str, "text in quotes"),
        (None, str, "text in quotes"),
        (3, os.PathLike, "a path in quotes"),
        (3, str | os.PathLike, "a path in quotes"),
        ("numpy", Sequence[str], "a list [...], each text in quotes"),
        ({"a": 1}, Sequence[str], "a list [...], each text in quotes"),
        ([1, 2, 3], tuple[int, int], "a list [...], each a whole number"),
        (3, Sequence, "a list"),
        (3, Iterable, "Iterable (@name(), with brackets)"),
        ([1], Mapping[str, float], "a dict {name: value}"),
        ("go", Literal["stop", "reinit"], "'stop' or 'reinit'"),
        (1, Literal[True], "True"),
        ("mse", Callable, "a function (@name, without brackets)"),
        ("adam", Named, "Named (@name(), with brackets)"),
        (3, Speaks | None, "Speaks (@name(), with brackets) or None"),
        ("a", float | int | None, "a number or None"),
    ],
    ids=_named,
)
def test_what_is_surely_wrong_is_refused_in_words(value, wanted, words):
    with pytest.raises(Misfit) as caught:
        Fitting().fit(value, wanted)
    assert described(caught.value.wanted) == words


@pytest.mark.parametrize(
    "value, wanted, path, part",
    [
        (["a", 3], Sequence[str], "[1]", 3),
        (["a", 3], Sequence[str] | None, "[1]", 3),
        ({"train": "a"}, Mapping[str, float], "['train']", "a"),
        ({"a": [1, [2, "x"]]}, dict[str, list[int | list[int]]], "['a'][1][1]", "x"),
    ],
)
def test_the_part_that_is_wrong_is_named(value, wanted, path, part):
    with pytest.raises(Misfit) as caught:
        Fitting().fit(value, wanted)
    assert (caught.value.path, caught.value.value) == (path, part)


@pytest.mark.parametrize(
    "value, wanted, expected",
    [
        (64.0, int, 64),
        (1e6, int | None, 1_000_000),
        ([1.0, 2], tuple[int, ...], [1, 2]),
        ({"a": (3.0,)}, Mapping[str, Sequence[int]], {"a": (3,)}),
        (64.0, int | float, 64.0),  # fits as it is
        (64.0, Decimal, 64.0),
    ],
)
def test_numbers_without_a_fraction_become_whole(value, wanted, expected):
    found = Fitting().fit(value, wanted)
    assert repr(found) == repr(expected)


def test_sizes_are_read_where_bytes_are_asked_for():
    fit = Fitting(byte_sizes=True).fit
    assert fit("64MB", int) == 64_000_000 and fit("1 KiB", int | None) == 1024
    assert fit("64MB", int | str) == "64MB"
    with pytest.raises(Misfit) as caught:
        fit("64 apples", int | None)
    assert "'64 apples' is no size" in caught.value.why


@pytest.mark.parametrize(
    "result, wanted, expected",
    [
        (keras.Sequential, keras.Model, True),
        (keras.layers.Layer, keras.Model, True),  # may be one
        (keras.Model, Callable[[], keras.Model], False),  # built already
        (keras.Model, Callable, True),
        (Speaks, Callable, False),
        (Speaks, Named, True),
        (keras.Model, Named, False),
        (str, Sequence[str], True),
        (int, float, True),
        (str, int, False),
        (None, int, False),
        (Any, int, True),
        (int | None, str | None, True),
        (list[int], Sequence[int], True),
        (tuple[int, str], Mapping, False),
        (Callable[[], int], Callable, True),
    ],
)
def test_what_a_function_returns_is_refused_only_where_it_surely_does_not_fit(
    result, wanted, expected
):
    assert may_be(result, wanted) is expected


def test_annotations_that_cannot_be_resolved_decide_nothing():
    def function(a: "NoSuchName", b: int):  # noqa: F821
        return a, b

    assert hints_of(function) == {}
    assert hints_of(len) == {}
    assert hints_of(Speaks) == {"return": Speaks}


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)
WANTED = st.sampled_from([wanted for _, wanted in FITS])


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(VALUES, WANTED, st.booleans())
def test_any_value_fits_equal_to_itself_or_is_a_misfit(value, wanted, byte_sizes):
    try:
        found = Fitting(byte_sizes).fit(value, wanted)
    except Misfit as error:
        assert described(error.wanted)
        return
    if not byte_sizes and "nan" not in repr(value):
        assert found == value
    assert repr(Fitting(byte_sizes).fit(found, wanted)) == repr(found)  # once is enough


# -------------------------------------------------------------------------- sizes in bytes


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
