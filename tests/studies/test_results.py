import copy
import dataclasses
import json

import pytest
import study

from dr_keras.errors import DataError
from dr_keras.studies.results import Results, to_json
from dr_keras.studies.sizes import Summary, percent


@pytest.fixture(scope="module")
def made():
    return study.results()


@pytest.fixture(scope="module")
def evidence():
    return study.evidence()


def test_what_is_written_is_read_back(made, evidence, tmp_path):
    for results in (made, evidence):
        path = results.write(tmp_path / "deep" / "results.json")
        assert Results.load(path) == results
        assert to_json(Results.load(path)) == json.loads(path.read_text(encoding="utf-8"))
        assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_what_a_study_lacks_is_left_out(made):
    document = to_json(made)
    assert "compute" not in document and "account" not in document["sizes"][0]["arms"]["rater"]
    assert document["sizes"][0]["arms"]["rater"]["final"]["spread"] > 0
    # a figure that is not defined is there, as null
    assert document["sizes"][0]["arms"]["random"]["match"]["steps"] is None


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("schema_version",), 1, "schema_version is 1, this dr_keras reads 4: use the version"),
        (("titel",), "x", "unknown key 'titel'"),
        (("rater", "quality", "auc"), float("nan"), "results.rater.quality.auc must be a finite"),
        (("rater", "quality", "auc"), None, "rater.quality.auc is null and no 'reason'"),
        (("rater", "quality", "auc"), True, "results.rater.quality.auc must be"),
        (("rater", "meta_step"), 1.5, "results.rater.meta_step must be a whole number"),
        (("corpus", "parts", "test", "examples"), -1, r"parts.test.examples must be a whole"),
        (("sizes", 0, "arms", "rater", "mean", 1), [10, "x"], r"rater.mean\[1\]\[1\] must"),
        (("sizes", 0, "arms", "rater", "mean", 1), [10], r"mean\[1\] must hold 2 values"),
        (("sizes", 0, "arms", "rater", "final", "spread"), None, "spread is null and no 'reason'"),
        (("sizes", 0, "verdict", "text"), None, "verdict.text must be a text"),
        (("protocol", "candidate"), "oracle", r"'oracle', which is not among the arms of sizes\[0"),
        (("protocol", "higher_is_better"), 1, "must be true or false"),
        (("sizes",), {}, "results.sizes must be a list"),
        (("sizes",), [], "results.sizes is empty"),
        (("stages",), {1: {}}, "keys must be texts"),
        (("stages",), [], "results.stages must be an object"),
    ],
)
def test_what_does_not_fit_is_named(place, value, message, made):
    broken = copy.deepcopy(to_json(made))
    inner = broken
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(DataError, match=message):
        Results.of(broken)


def test_a_missing_section_is_named(made):
    broken = copy.deepcopy(to_json(made))
    del broken["corpus"]["fingerprint"]
    with pytest.raises(DataError, match="results.corpus lacks 'fingerprint'"):
        Results.of(broken)
    with pytest.raises(DataError, match="must be an object"):
        Results.of([])


def test_nothing_unfit_is_written(made, tmp_path):
    wrong = dataclasses.replace(made, title=3)
    with pytest.raises(DataError, match="results.title must be a text, not 3"):
        wrong.write(tmp_path / "results.json")
    for value in ({1, 2}, float("inf")):
        with pytest.raises(DataError, match="cannot be written as JSON"):
            dataclasses.replace(made, settings={"x": value}).write(tmp_path / "results.json")
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_results(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(DataError, match="does not exist"):
        Results.load(path)
    path.write_text('{"schema_version": 1, "stu')
    with pytest.raises(DataError, match="is not JSON"):
        Results.load(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="results.json: results: schema_version is None"):
        Results.load(path)


def test_figures_are_shown_with_their_spread():
    both = Summary(0.5, 0.25, {"0": 0.25, "1": 0.75})
    assert both.shown() == "0.500 ± 0.250" and both.shown(1, 100) == "50.0 ± 25.0"
    assert Summary(0.5, None, {"0": 0.5}, "one seed").shown(2) == "0.50"
    assert both.outcome("other") == "–"
    assert percent(0.256, 1) == "25.6%" and percent(None) == "not reached"
