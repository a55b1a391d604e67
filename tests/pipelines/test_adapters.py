"""Raters in datatrove and datasets; without these libraries, what the adapters do by themselves."""

import json
import pickle
import sys

import numpy as np
import pytest

from dr_keras.errors import ArtefactError, ConfigurationError, DataError
from dr_keras.pipelines import text_filter
from dr_keras.pipelines.datasets_functions import KeepTexts, MapScores
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import decide
from dr_keras.serving.loaded_text import LoadedTextRater

TEXTS = [f"{n} of some texts" for n in range(60)]
IDS = [f"d{n}" for n in range(60)]


class NumberRater(LoadedTextRater):
    """Scores a text by the number that it begins with; made at no cost."""

    def __init__(self, fingerprint="a" * 64):
        self.fingerprint = fingerprint
        self.document_reference = ReferenceDistribution(np.array([0.0, 59.0]))

    def score_texts(self, texts, scoring=None, progress=None):
        score = np.array([float(text.split()[0]) for text in texts], np.float32)
        percentile = self.document_reference.percentile(score)
        return {"score": score, "percentile": percentile, "windows": np.ones(len(texts), np.int32)}


@pytest.fixture
def numbers(monkeypatch):
    raters = {"numbers": NumberRater()}
    text_filter.loaded.cache_clear()
    monkeypatch.setattr(text_filter, "load_rater", lambda path, trusted: raters[path])
    yield raters
    text_filter.loaded.cache_clear()


def expected(ids, **settings):
    reference = NumberRater().document_reference
    return decide(ids, np.arange(60), 0.5, 16, reference=reference, **settings).keep


def test_batches_of_columns_are_scored_and_decided_as_a_filtered_corpus_is(numbers):
    batch = {"text": TEXTS, "id": IDS}
    scored = MapScores("numbers", prefix="rater_")(batch)
    assert sorted(scored) == ["rater_percentile", "rater_score", "rater_windows"]
    assert scored["rater_score"].tolist() == list(range(60))
    keep = KeepTexts("numbers", 0.5, id="id", batch_size=16)
    assert keep(batch) == expected(IDS).tolist()
    assert KeepTexts("numbers", 0.5, batch_size=16)(batch) == expected(TEXTS).tolist()
    again = pickle.loads(pickle.dumps(keep))
    assert again({name: rows[7:9] for name, rows in batch.items()}) == expected(IDS)[7:9].tolist()
    assert pickle.dumps(again) == pickle.dumps(keep)  # the key of what was computed


def test_what_the_adapters_cannot_read_is_said(numbers):
    with pytest.raises(DataError, match="no column 'content', only text: name the right one"):
        MapScores("numbers", text="content")({"text": TEXTS})
    with pytest.raises(DataError, match="one by one: call map and filter with batched=True"):
        MapScores("numbers")({"text": "3 texts"})
    with pytest.raises(DataError, match="holds a NoneType"):
        KeepTexts("numbers", 0.5)({"text": [None]})
    with pytest.raises(ConfigurationError, match="discard_fraction is 2"):
        KeepTexts("nothing", 2)
    keep = KeepTexts("numbers", 0.5)
    text_filter.loaded.cache_clear()
    numbers["numbers"] = NumberRater("b" * 64)
    with pytest.raises(ConfigurationError, match="has another rater now .fingerprint bbbbbbbbbbbb"):
        keep({"text": TEXTS})
    numbers["numbers"] = len
    text_filter.loaded.cache_clear()
    with pytest.raises(ConfigurationError, match="is no rater of text"):
        MapScores("numbers")


def test_a_missing_datatrove_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "dr_keras.pipelines.datatrove_filter", raising=False)
    monkeypatch.setitem(sys.modules, "datatrove", None)
    monkeypatch.setitem(sys.modules, "datatrove.data", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dr_keras\[datatrove\]'"):
        import dr_keras.pipelines.datatrove_filter  # noqa: F401


@pytest.mark.long
def test_a_datatrove_pipeline_keeps_what_a_filtered_corpus_keeps(numbers, tmp_path):
    pytest.importorskip(
        "datatrove", reason="datatrove is absent: pip install 'dr_keras[datatrove]'"
    )
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    from dr_keras.pipelines.datatrove_filter import RaterFilter

    (tmp_path / "in").mkdir()
    rows = [{"id": i, "text": t} for i, t in zip(IDS, TEXTS)]
    (tmp_path / "in" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dropped = JsonlWriter(str(tmp_path / "dropped"), compression=None)
    steps = [
        JsonlReader(str(tmp_path / "in")),
        RaterFilter("numbers", 0.5, 7, batch_size=16, exclusion_writer=dropped),
        JsonlWriter(str(tmp_path / "kept"), compression=None),
    ]
    LocalPipelineExecutor(steps, logging_dir=str(tmp_path / "logs")).run()

    def records(name):
        paths = sorted((tmp_path / name).glob("*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]

    kept = records("kept")
    assert [row["id"] for row in kept] == [i for i, keep in zip(IDS, expected(IDS)) if keep]
    assert kept[0]["metadata"]["score"] == float(kept[0]["text"].split()[0])
    gone = records("dropped")
    assert [row["id"] for row in gone] == [i for i, keep in zip(IDS, expected(IDS)) if not keep]
    assert {row["metadata"]["filter_reason"] for row in gone} == {"not_drawn", "percentile_too_low"}


@pytest.mark.long
def test_datasets_map_and_filter_and_remember(numbers, tmp_path):
    datasets = pytest.importorskip(
        "datasets", reason="datasets is absent: pip install 'dr_keras[datasets]'"
    )
    datasets.Dataset.from_dict({"text": TEXTS, "id": IDS}).save_to_disk(str(tmp_path / "d"))
    dataset = datasets.load_from_disk(str(tmp_path / "d"))
    scored = dataset.map(MapScores("numbers"), batched=True, batch_size=7)
    assert scored["score"][:] == list(range(60)) and scored.features["score"].dtype == "float32"
    keep = KeepTexts("numbers", 0.5, id="id", batch_size=16)
    kept = dataset.filter(keep, batched=True, batch_size=7)
    assert kept["id"][:] == [i for i, stays in zip(IDS, expected(IDS)) if stays]
    # the same rater and settings are known again, others are not
    same = dataset.filter(
        KeepTexts("numbers", 0.5, id="id", batch_size=16), batched=True, batch_size=7
    )
    assert same._fingerprint == kept._fingerprint
    other = dataset.filter(KeepTexts("numbers", 0.5, id="id", seed=1), batched=True, batch_size=7)
    assert other._fingerprint != kept._fingerprint


def test_the_rater_that_ships_is_found_by_its_name():
    found = MapScores("damaged_prose")({"text": ["A sentence of prose.", "|==||==|"]})
    assert found["score"][0] > found["score"][1]
    assert not text_filter.loaded("damaged_prose", False).light  # it has matrix products
    with pytest.raises(ArtefactError, match="is not a directory"):
        MapScores("no_such_rater")
