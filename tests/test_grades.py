"""tools/grades.py: what agrees with grades, by hand."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from dr_keras.data.conversations import conversation
from dr_keras.errors import DataError

PATH = pathlib.Path(__file__).resolve().parents[1] / "tools" / "grades.py"


@pytest.fixture(scope="module")
def grades():
    spec = importlib.util.spec_from_file_location("grades", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pairs_of_one_prompt(grades):
    # a: three pairs, two of them in order; b: a tie of scores; c: equal grades, which say nothing
    scores, marks = np.array([1, 3, 2, 5, 5, 1, 2.0]), np.array([1, 2, 3, 1, 2, 4, 4.0])
    share, error, count = grades.agreement(scores, marks, list("aaabbcc"))
    assert count == 2 and share == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert error == pytest.approx(np.std([2 / 3, 1 / 2], ddof=1) / 2**0.5)


def test_records_without_a_grade_are_passed_over(grades, tmp_path):
    records = [{"prompt": "p", "response": str(k), "grade": k if k else None} for k in range(3)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    texts, marks, prompts = grades.graded(str(path), "grade", conversation())
    assert marks.tolist() == [1, 2] and prompts == ["User: p\n\nAssistant: "] * 2
    assert texts[0].endswith("1")
    with pytest.raises(DataError, match="0 records have a number under 'level'"):
        grades.graded(str(path), "level", conversation())


def test_the_command(grades, tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    record = {"prompt": "p", "response": "All is well.", "grade": 1}
    path.write_text(
        "\n".join(map(json.dumps, (record, {**record, "response": "x" * 50, "grade": 0})))
    )
    command = ["--rater", "damaged_prose", "--input", str(path), "--field", "grade"]
    assert grades.main([*command, "--less_is_better"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 records") and lines[2] == "length: rank correlation +1.000"
    assert grades.main([*command[:-1], "none"]) == 2
    assert "0 records" in capsys.readouterr().err
