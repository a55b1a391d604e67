"""Two exports into one folder at a time: both get a version of their own, or the second is told."""

import os

import pytest

from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ArtefactError
from dr_keras.serving import folder
from dr_keras.serving.export import export_rater
from dr_keras.serving.loading import load_rater


@pytest.fixture
def beside(monkeypatch):
    """`beside(work)`: `work` is done while the next export is, just before that gets its name."""

    def arrange(work):
        real = folder.write

        def write(*arguments):
            monkeypatch.setattr(folder, "write", real)
            work()
            real(*arguments)

        monkeypatch.setattr(folder, "write", write)

    return arrange


def test_the_next_version_is_taken_when_the_export_is_done(
    live_rater, new_rater, references, tmp_path, beside
):
    def export(rater):
        return export_rater(rater, byte_tokenizer(), 16, str(tmp_path), references[0])

    paths = []
    beside(lambda: paths.append(export(new_rater(3))))
    paths.append(export(live_rater))
    assert [os.path.basename(path) for path in paths] == ["1", "2"]
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]
    assert load_rater(paths[0]).fingerprint != load_rater(paths[1]).fingerprint


def test_a_version_that_another_took_meanwhile_is_refused(live_rater, references, tmp_path, beside):
    beside(lambda: (tmp_path / "7").mkdir())
    with pytest.raises(ArtefactError, match="7 exists already: choose another version"):
        export_rater(live_rater, byte_tokenizer(), 16, str(tmp_path), references[0], version=7)
    assert os.listdir(tmp_path) == ["7"] and os.listdir(tmp_path / "7") == []
