import json

import numpy as np
import pytest
import study

from dr_keras.data.documents import make_document
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.data.windows import window_documents
from dr_keras.studies import findings


def test_scores_are_counted_and_a_sample_of_them_kept():
    scores, levels, kinds = study.scored()
    levels[:5] = np.nan
    found = findings.scores_by_damage(scores, levels, kinds)
    assert {name: sum(counts) for name, counts in found["groups"].items()} == {
        "clean": int((levels == 0).sum()),
        "damaged": int((levels > 0).sum()),
        "level unknown": 5,
    }
    assert len(found["edges"]) == 51 and found["clean_median"] == np.median(scores[levels == 0])
    assert sum(kind["examples"] for kind in found["kinds"].values()) == (levels > 0).sum()
    for name, kind in found["kinds"].items():
        assert len(kind["dots"]) == min(400, kind["examples"]) and len(kind["median"]) == 8
        level, score = kind["dots"][0]
        nearest = np.abs(levels - level) + np.abs(scores - score)
        assert kinds[int(np.nanargmin(nearest))] == name and np.nanmin(nearest) < 1e-5
    json.dumps(found, allow_nan=False)


def test_scores_that_are_all_alike_or_unknown_have_bins():
    found = findings.scores_by_damage(np.zeros(5), [0, 0, 0, np.nan, 0.5], [None] * 5)
    assert {name: sum(counts) for name, counts in found["groups"].items()} == {
        "clean": 3, "damaged": 1, "level unknown": 1,
    }  # fmt: skip
    unknown = findings.scores_by_damage(np.arange(3.0), [np.nan] * 3, [None] * 3)
    assert unknown["clean_median"] is None and unknown["kinds"] == {}


def test_running_median_follows_the_points():
    x = np.linspace(0, 1, 80)
    middle, median = np.array(findings.running_median(x[::-1], -2 * x[::-1])).T
    np.testing.assert_allclose(median, -2 * middle, atol=1e-9)
    assert len(middle) == 8


def test_quality_or_the_reason_why_there_is_none():
    scores, levels, kinds = study.scored()
    found = findings.quality(scores, levels, kinds, "all of it")
    assert found.auc > 0.9 and found.measured_on == "all of it"
    assert set(found.by_damage) == set(study.KINDS)
    unknown = findings.quality(scores, levels * np.nan, kinds, "all of it")
    assert unknown.auc is None and unknown.reason == "no damage of known level in this corpus"


def test_curves_of_meta_training_are_those_that_were_recorded(tmp_path):
    lines = [{"kind": "step", "meta_step": k, "outer_loss": 1 / k} for k in range(1, 1001)]
    lines += [{"kind": "epoch", "meta_step": 500, "validation_loss": 2.0, "damage_auc": None}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = findings.meta_curves(tmp_path)
    assert list(found) == ["outer loss", "meta-evaluation: validation loss"]
    points = found["outer loss"]["mean over members"]
    assert 300 < len(points) <= 400 and points[1] == [4, pytest.approx(0.25)]
    assert found["meta-evaluation: validation loss"] == {"with the rater": [[500, 2.0]]}


def test_features_of_windows():
    documents = [make_document(text, "s", f"d{k}") for k, text in enumerate(["abcdef", "g", "h"])]
    plain = window_documents(documents, byte_tokenizer(), 4, minimum_tokens=1)
    assert {name: values.tolist() for name, values in findings.of_windows(plain).items()} == {
        "packing_density": [1, 0.5, 0.25, 0.25]
    }
    packed = findings.of_windows(window_documents(documents, byte_tokenizer(), 4, packing=True))
    assert packed["packing_density"].tolist() == [1, 1, 0.75]
    assert packed["documents_packed"].tolist() == [1, 2, 2]
