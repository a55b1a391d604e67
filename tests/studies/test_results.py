import copy
import json

import pytest

from dr_keras.errors import ConfigurationError, DataError
from dr_keras.studies import results
from dr_keras.studies.comparison import compare
from dr_keras.studies.verdict import judge


def study(**changes):
    finals = {"unfiltered": (3.0, 3.1), "rater": (2.0, 2.1)}
    arms = compare(
        {
            name: {seed: [(0, 5.0), (10, v)] for seed, v in enumerate(values)}
            for name, values in finals.items()
        },
        {name: {"unique_tokens": 10, "tokens_seen": 100} for name in finals},
    )
    arguments = dict(
        study="test",
        title="a study",
        corpus={
            "name": "c",
            "fingerprint": "f",
            "parts": {"test": {"examples": 3, "unique_tokens": 9}},
        },
        rater={"auc": 0.9, "auc_all": 0.8, "spearman": -0.7},
        comparisons=[
            {
                "name": "small",
                "model": {"parameters": 5},
                "steps": 10,
                "batch_size": 2,
                "sequence_length": 4,
                "reference": "unfiltered",
                "candidate": "rater",
                "seeds": [0, 1],
                "arms": arms,
                "verdict": judge(arms),
            }
        ],
        stages={"filter": {"seconds": 1.5, "peak_memory_bytes": 10**9}},
        settings={"discard_fraction": 0.5},
    )
    return results.assemble(**(arguments | changes))


def test_what_is_written_is_read_back(tmp_path):
    made = study()
    path = results.write_results(made, tmp_path / "deep" / "results.json")
    assert results.read_results(path) == json.loads(json.dumps(made)) == made
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_headline_repeats_the_sections():
    head = study()["headline"]
    assert (head["auc"], head["auc_all"], head["spearman"]) == (0.9, 0.8, -0.7)
    assert head["final_loss"]["rater"] == pytest.approx(2.05)
    assert head["share"] == pytest.approx((5 - 3.05) / (5 - 2.05))
    assert head["outcome"] == "better"
    unknown = study(rater={"reason": "no damage is known in this corpus"})["headline"]
    assert unknown["auc"] is None and unknown["reason"] == "no damage is known in this corpus"


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("schema_version",), 2, "schema_version is 2"),
        (("titel",), "x", "unknown key 'titel'"),
        (("rater", "auc"), float("nan"), "results.rater.auc must be a finite number"),
        (("rater", "auc"), None, "results.rater.auc is null and no 'reason'"),
        (("rater", "auc"), True, "results.rater.auc must be"),
        (("corpus", "parts", "test", "examples"), -1, r"parts.test.examples must be a whole"),
        (("comparisons", 0, "arms", "rater", "mean", 1), [10, "x"], r"rater.mean\[1\]\[1\] must"),
        (("comparisons", 0, "candidate"), "oracle", "'oracle', which is not among the arms"),
        (("comparisons",), {}, "results.comparisons must be a list"),
        (("stages",), {1: {}}, "keys must be texts"),
        (("stages",), [], "results.stages must be an object"),
    ],
)
def test_what_does_not_fit_is_named(place, value, message, tmp_path):
    broken = copy.deepcopy(study())
    inner = broken
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(DataError, match=message):
        results.write_results(broken, tmp_path / "results.json")
    assert not list(tmp_path.iterdir())


def test_a_missing_section_is_named():
    broken = study()
    del broken["corpus"]["fingerprint"]
    with pytest.raises(DataError, match="results.corpus lacks 'fingerprint'"):
        results.validate(broken)
    with pytest.raises(ConfigurationError, match="at least one comparison"):
        study(comparisons=[])
    with pytest.raises(DataError, match="must be an object"):
        results.validate([])


def test_settings_must_be_json(tmp_path):
    for value in ({1, 2}, float("inf")):
        with pytest.raises(DataError, match="cannot be written as JSON"):
            results.write_results(study(settings={"x": value}), tmp_path / "results.json")


def test_files_that_are_not_results(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(DataError, match="does not exist"):
        results.read_results(path)
    path.write_text('{"schema_version": 1, "stu')
    with pytest.raises(DataError, match="is not JSON"):
        results.read_results(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="results.json: results: schema_version is None"):
        results.read_results(path)
