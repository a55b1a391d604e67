import collections
import os
import subprocess
import sys

import pytest

from dr_keras.data import splits
from dr_keras.data.documents import content_key
from dr_keras.errors import ConfigurationError
import gin

KEYS = [content_key(f"document {i}") for i in range(20_000)]


def test_parts_have_the_shares_asked_for():
    counts = collections.Counter(splits.part_of(key) for key in KEYS)
    for part, share in splits.split_fractions().items():
        assert counts[part] / len(KEYS) == pytest.approx(share, abs=0.01)


def test_the_part_is_the_same_in_another_process_and_for_ever():
    # Fixed values: a change here would move every user's split.
    parts = [splits.part_of(key) for key in KEYS[:40]]
    program = (
        "from dr_keras.data.splits import part_of\n"
        "from dr_keras.data.documents import content_key\n"
        "print(*[part_of(content_key(f'document {i}')) for i in range(40)])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == parts
    not_train = {i: part for i, part in enumerate(parts) if part != "train"}
    assert not_train == FIXED


# The documents of KEYS[:40] that do not lie in train.
FIXED = {
    4: "test",
    11: "outer",
    15: "validation",
    18: "test",
    21: "validation",
    25: "test",
    27: "validation",
    36: "test",
}


def test_a_larger_outer_set_moves_documents_only_out_of_train():
    larger = splits.split_fractions(train=0.7, outer=0.2)
    moved = 0
    for key in KEYS[:3000]:
        before, after = splits.part_of(key), splits.part_of(key, larger)
        assert before == after or (before, after) == ("train", "outer")
        moved += before != after
    assert moved / 3000 == pytest.approx(0.15, abs=0.03)


def test_fractions_follow_gin():
    gin.parse_config("split_fractions.train = 0.0\nsplit_fractions.test = 0.9")
    try:
        assert collections.Counter(map(splits.part_of, KEYS[:500]))["train"] == 0
    finally:
        gin.clear_config()


@pytest.mark.parametrize(
    "shares, message",
    [
        ({"train": 0.9}, "must add up to 1, not 1.05"),
        ({"train": 1.0, "outer": -0.1}, "at least 0"),
        ({"train": float("nan")}, "at least 0"),
    ],
)
def test_shares_that_are_not_a_split_are_refused(shares, message):
    with pytest.raises(ConfigurationError, match=message):
        splits.split_fractions(**shares)


def test_a_missing_part_is_refused():
    with pytest.raises(ConfigurationError, match="exactly the shares train, outer"):
        splits.part_of(KEYS[0], {"train": 1.0})


def test_choices_by_hash_are_even_and_independent():
    first = [splits.unit_hash("a", key) for key in KEYS]
    second = [splits.unit_hash("b", key) for key in KEYS]
    assert all(0 <= u < 1 for u in first)
    both = sum(u < 0.5 and v < 0.5 for u, v in zip(first, second))
    assert both / len(KEYS) == pytest.approx(0.25, abs=0.015)


def test_shares_may_be_off_by_no_more_than_rounding():
    for off in (-9e-7, 9e-7):
        assert splits.split_fractions(train=0.85 + off)["train"] == 0.85 + off
    for off in (-1.1e-6, 1.1e-6):
        with pytest.raises(ConfigurationError, match="must add up to 1"):
            splits.split_fractions(train=0.85 + off)


def test_a_border_belongs_to_the_part_after_it(monkeypatch):
    shares = {"train": 0.25, "outer": 0.25, "validation": 0.25, "test": 0.25}
    for position, part in ((0.0, "test"), (0.25, "validation"), (0.5, "outer"), (0.75, "train")):
        monkeypatch.setattr(splits, "unit_hash", lambda *names, position=position: position)
        assert splits.part_of("any", shares) == part
