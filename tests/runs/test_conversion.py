"""Files of an exported rater: what is written, compared, refused. tests/serving has the formats."""

import json
from pathlib import Path
import shutil

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.commands import export_rater
from dr_keras.config.gin_files import packaged_folder
from dr_keras.data.documents import make_document
from dr_keras.errors import ArtefactError, ConfigurationError, DataError
from dr_keras.runs import conversion
from dr_keras.runs.conversion import convert_rater
from dr_keras.serving import portable
from dr_keras.serving.loading import load_rater

TEXTS = [f"Document {i} says {i * i} in so many words. " * (i + 1) for i in range(20)]


class Toy(portable.PortableFormat):
    """A file that names a function of this process; int8 are scores of two digits."""

    name, suffix, libraries = "toy", ".toy", {}
    made: list = []
    offset = 0.0
    fails: Exception | None = None

    def write(self, scores, path, int8):
        Path(path).write_text(f"{len(self.made)} {int(int8)} {self.offset}")
        self.made.append(scores.serve_scores)
        if self.fails:
            raise self.fails

    def load(self, path, threads=1):
        number, int8, offset = Path(path).read_text().split()

        def score(tokens):
            found = self.made[int(number)](tf.constant(tokens))["score"].numpy() + float(offset)
            return found.round(1) if int(int8) else found

        return score


@pytest.fixture(scope="module")
def rater(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rater")
    shipped = packaged_folder("savedmodels") / "damaged_prose" / "1"
    return load_rater(shutil.copytree(shipped, folder / "1"))


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(portable.FORMATS, "toy", (__name__, "Toy"))
    monkeypatch.setattr(conversion, "WINDOWS", 40)
    return monkeypatch


def documents(texts=TEXTS):
    return [make_document(text, "s", str(i)) for i, text in enumerate(texts)]


def files(folder):
    return sorted(p.name for p in Path(folder).iterdir() if "toy" in p.name or "lock" in p.name)


def test_files_and_what_they_are_lie_beside_the_saved_model(rater):
    plain, small = convert_rater(rater, ["toy"], int8=True, documents=documents())
    names = ["rater-int8.toy", "rater-int8.toy.json", "rater.toy", "rater.toy.json"]
    assert files(rater.path) == names
    record = json.loads(Path(f"{plain.path}.json").read_text())
    assert record == plain.record
    assert record["input"] == {"name": "tokens", "dtype": "int32", "shape": [None, 128]}
    assert record["reference"]["quantiles"] == rater.metadata["reference"]["quantiles"]
    assert record["tokenizer"] == {"kind": "byte"} and record["fingerprint"] == rater.fingerprint
    assert record["bytes"] == Path(plain.path).stat().st_size
    assert record["check"]["largest_difference"] < 1e-5 and record["check"]["windows"] == 40
    assert record["check"]["rank_correlation"] > 0.999
    assert 0.01 < small.record["check"]["largest_difference"] < 0.06 and small.record["int8"]
    assert f"rank correlation {small.record['check']['rank_correlation']:.6f}" in str(small)
    load_rater(rater.path)  # they are no reason to refuse it


def test_windows_are_spread_over_the_documents(rater):
    tokens = conversion.sample_windows(rater, documents())
    every, _ = rater._cut([text.encode() for text in TEXTS])
    assert tokens.shape == (40, 128) and len(every) > 70
    rows = [every.tolist().index(window) for window in tokens.tolist()]
    assert rows == sorted(rows) and rows[0] == 0 and rows[-1] == len(every) - 1


def test_what_scores_otherwise_or_not_at_all_is_not_kept(rater, tmp_path, toy):
    once = conversion.serve_scores(rater)
    toy.setattr(conversion, "serve_scores", lambda *_: once)
    for offset, said in ((0.01, "scores otherwise than its SavedModel: by up to 0.01"),
                         (np.nan, "scores otherwise")):  # fmt: skip
        toy.setattr(Toy, "offset", offset)
        with pytest.raises(ArtefactError, match=said):
            convert_rater(rater, ["toy"], tmp_path, int8=True, documents=documents())
        assert files(tmp_path) == []
    toy.setattr(Toy, "offset", 0.0)
    convert_rater(rater, ["toy"], tmp_path, documents=documents())
    before = (tmp_path / "rater.toy").read_text()
    for error, said in (
        (portable.OperationsLacking("Betainc", "Lgamma"), "it has Betainc, Lgamma, for"),
        (RuntimeError("Broken.\nat line 3"), "to toy: Broken. Use its SavedModel, another"),
        (KeyError(), "to toy: KeyError. Use its"),
    ):
        toy.setattr(Toy, "fails", error)
        with pytest.raises(ArtefactError, match=said):
            convert_rater(rater, ["toy"], tmp_path, documents=documents())
        assert (tmp_path / "rater.toy").read_text() == before
    assert files(tmp_path) == ["rater.toy", "rater.toy.json"]


def test_places_and_documents_that_will_not_do(rater, toy):
    toy.setattr(conversion, "packaged_folder", lambda _: Path(rater.path).parent)
    with pytest.raises(ArtefactError, match="comes with dr_keras.*--output_dir"):
        convert_rater(rater, ["toy"], documents=documents())
    with pytest.raises(ConfigurationError, match="gs://b/f is no local folder"):
        convert_rater(rater, ["toy"], "gs://b/f")
    with pytest.raises(DataError, match="no document on whose windows"):
        conversion.sample_windows(rater, [])


def test_the_command(rater, tmp_path, capsys):
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"body": t}) + "\n" for t in TEXTS))
    given = ["--rater", rater.path, "--format", "toy", "--output_dir", str(tmp_path / "files")]
    given += ["--text", str(tmp_path / "t.jsonl"), "--gin_param", "jsonl_corpus.text_field='body'"]
    assert export_rater.main([*given, "--int8", "--batch", "4"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path}/files/rater.toy: ") and "on 40 windows" in second
    assert len(files(tmp_path / "files")) == 4
    record = json.loads((tmp_path / "files/rater.toy.json").read_text())
    assert record["input"]["shape"] == [4, 128] and record["output"]["shape"] == [4]


WRONG = {
    "--rater R": "--rater is exported already: say what else",
    "--rater R --format toy --checkpoint 3 --input x": "--checkpoint, --input goes with --base_dir",
    "--base_dir B --int8 --batch 3": "--int8, --batch goes with --format alone",
    "--rater R --format tflite": "There is no format 'tflite'",
    "--rater R --format toy": "R is not a directory",
}


@pytest.mark.parametrize("given", WRONG)
def test_flags_that_do_not_go_together(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert export_rater.main(given.split()) == 2
    assert WRONG[given] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
