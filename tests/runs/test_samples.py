"""Whole documents by hash, whatever is in memory at once."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.data.columns import Runs
from dr_keras.data.examples import ExampleSet, objects
from dr_keras.data.splits import unit_hash
from dr_keras.runs import samples


def expected(ids, size):
    """As the docstring says, of all documents at once."""
    owners = [id.rpartition("#")[0] for id in ids]
    chosen, rows = set(), 0
    for owner in sorted(set(owners), key=lambda each: unit_hash("reference", each)):
        rows += owners.count(owner)
        if chosen and rows > size:
            break
        chosen.add(owner)
        if rows > size:
            break
    return [id for id, owner in zip(ids, owners) if owner in chosen]


@pytest.mark.parametrize("lazy", [False, True])
@given(owners=st.lists(st.integers(0, 9), min_size=1, max_size=60), size=st.integers(1, 30))
def test_documents_stay_whole_and_come_first_by_hash(lazy, owners, size):
    ids = [f"{owner}#{k}" for k, owner in enumerate(owners)]
    column = Runs(ids, [1] * len(ids)) if lazy else objects(ids)
    examples = ExampleSet({"x": np.arange(len(ids))}, column, column, column)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "_ROWS", 3)
        found = samples.whole_documents(examples, size)
    assert found.ids[:].tolist() == (ids if len(ids) <= size else expected(ids, size))


def test_of_a_set_that_is_read_on_demand_some_pieces_are_looked_at(monkeypatch):
    ids = [f"{k // 7}#{k % 7}" for k in range(7 * 3000)]
    column, read = Runs(ids, [1] * len(ids)), []
    plain = Runs.read
    monkeypatch.setattr(
        Runs, "read", lambda self, rows: (read.append(len(rows)), plain(self, rows))[1]
    )
    monkeypatch.setattr(samples, "_LOOKED_AT", 2000)
    monkeypatch.setattr(samples, "_PIECE", 100)
    found = samples.whole_documents(
        ExampleSet({"x": np.arange(len(ids))}, column, column, column), 140
    )
    assert sum(read) == 2000 and len(found) == 140
    rows = found.features["x"].reshape(-1, 7)
    assert (np.diff(rows, axis=1) == 1).all() and (rows[:, 0] % 7 == 0).all()
    assert rows[0, 0] < 5000 and rows[-1, 0] > 16000  # from all over
    column = Runs(["0#0"], [5000])
    assert len(samples.whole_documents(ExampleSet({"x": column}, *[column] * 3), 140)) == 140
