"""Scores of a file, matched by the ids of windows or of their documents."""

import json

import numpy as np
import pytest

from dr_keras.baselines.candidates import joined_candidates, window_candidates
from dr_keras.baselines.score_file import score_file
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import DataError

IDS = ["a#0", "a#1", "b#0", "c#0"]


@pytest.fixture
def windows():
    ids = np.array(IDS, object)
    return ExampleSet({"tokens": np.ones((4, 3), np.int32)}, ids, ids, ids)


def written(path, scores):
    lines = [json.dumps({"id": id, "source": "s", "score": s}) for id, s in scores.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_a_window_has_its_own_score_or_that_of_its_document(windows, tmp_path):
    path = written(tmp_path / "s.jsonl", {"a": 1.5, "b": None, "a#1": -2.0, "z": 9.0, "c": 0.25})
    found = score_file(window_candidates(windows), path=path)
    np.testing.assert_array_equal(found.values, [1.5, -2.0, np.nan, 0.25])
    assert found.facts == {"path": path, "matched": 0.75, "rater": None}
    assert found.training_flops == found.forward_flops == 0
    of_documents = score_file(joined_candidates(windows), path=path).values
    np.testing.assert_array_equal(of_documents, [1.5, np.nan, 0.25])


def test_a_file_of_another_corpus_is_refused(windows, tmp_path):
    path = written(tmp_path / "s.jsonl", {"x": 1.0, "y": 2.0, "c": 3.0})
    with pytest.raises(DataError, match="for 25% of the examples: .* 'x', 'y', 'c', .* 'a', 'a'"):
        score_file(window_candidates(windows), path=path)
    with pytest.raises(DataError, match="none.jsonl does not exist"):
        score_file(window_candidates(windows), path=str(tmp_path / "none.jsonl"))
