"""tools/young_and_old.py: what members of different ages are good for."""

import re

import numpy as np
import pytest
import young_and_old  # of tools/


def test_the_rows_are_what_the_page_says():
    examples, kinds = young_and_old.rows(400, True, "train")
    x, target = examples.features["x"], examples.features["target"]
    off = np.abs(target - x @ np.array([[1.0], [-2.0], [0.5]], np.float32))[:, 0]
    assert (x[kinds == "empty"] == 0).all() and (target[kinds == "empty"] == 0).all()
    assert off[kinds == "good"].max() < 1e-5
    assert off[kinds == "noisy"].mean() == pytest.approx(0.3 * np.sqrt(2 / np.pi), rel=0.2)
    assert [int((kinds == kind).sum()) for kind in ("good", "noisy", "empty")] == [200, 100, 100]
    assert set(young_and_old.rows(20, False, "outer")[1]) == {"good"}


@pytest.mark.long
def test_each_age_finds_what_the_other_does_not_and_both_find_both(capsys):
    assert young_and_old.main(["--seeds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    young, old, both = [np.array(re.findall(r"0\.\d\d", line), float) for line in lines]
    noisy, empty = slice(0, 2), slice(2, 4)
    assert (young[empty] > 0.65).all() and (young[noisy] < 0.55).all()
    assert (old[noisy] > 0.65).all() and (old[empty] < 0.55).all()
    assert (both > 0.55).all()
