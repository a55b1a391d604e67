"""What an arm keeps is a bit an example, of the very examples it was chosen from."""

import os
import pickle

import numpy as np
import pytest

from dr_keras.baselines.candidates import window_candidates
from dr_keras.baselines.kept_files import kept_examples, write_kept
from dr_keras.baselines.selection import select_by_score
from dr_keras.data.examples import ExampleSet, objects
from dr_keras.errors import DataError
from dr_keras.studies.arm_streams import Draw


def examples(count, scale=1):
    ids = objects(f"{k}#0" for k in range(count))
    return ExampleSet({"x": scale * np.arange(count)}, ids, ids, ids)


def test_kept_rows_are_written_read_and_sent_as_bits(tmp_path):
    train = examples(1001)
    scores = np.random.default_rng(0).normal(size=1001)
    chosen = select_by_score("some", window_candidates(train), scores, "0.3")
    path = tmp_path / "kept" / "some.npz"
    write_kept(path, chosen)
    assert os.stat(path).st_size < 1001 / 8 + 1200
    assert kept_examples(path, train).ids.tolist() == chosen.examples().ids.tolist()
    with pytest.raises(DataError, match="is about 1,001 examples"):
        kept_examples(path, examples(1001, 2))
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="is no file of kept rows"):
        kept_examples(path, train)
    for draw in (Draw.of(chosen), Draw(), Draw(rows=np.zeros(0, int))):
        sent = pickle.loads(pickle.dumps(draw))
        assert np.array_equal(sent.rows, draw.rows) and sent.discard_fraction == (
            draw.discard_fraction
        )
    assert len(pickle.dumps(Draw.of(chosen))) < 1000
