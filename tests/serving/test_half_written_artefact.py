"""An export that breaks off leaves no version, and a version that can be seen is whole."""

import pytest
import tensorflow as tf

from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.serving import export
from dr_keras.serving.export import write_artefact
from dr_keras.serving.folder import versions
from dr_keras.serving.loading import load_rater
from dr_keras.serving.text import TextKind

WINDOW = 16  # of the rater in conftest.py


@pytest.fixture
def kind(live_rater):
    return TextKind(live_rater, byte_tokenizer(), WINDOW, "text", 2)


def test_a_version_is_not_there_while_it_is_written(kind, references, tmp_path, monkeypatch):
    seen = []

    def breaks_off(*arguments):  # the graph has been saved by then
        seen.append((versions(tmp_path), len(list(tmp_path.rglob("saved_model.pb")))))
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "_write_warmup", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        write_artefact(kind, tmp_path, references[0])
    assert seen == [([], 1)] and not list(tmp_path.rglob("saved_model.pb"))
    assert versions(tmp_path) == []


def test_a_version_is_whole_from_the_moment_that_it_has_its_name(
    kind, references, tmp_path, monkeypatch, no_room_beyond
):
    with pytest.raises((OSError, tf.errors.OpError)), no_room_beyond(2_000):
        write_artefact(kind, tmp_path, references[0])
    assert versions(tmp_path) == []
    real = tf.io.gfile.rename

    def rename(source, target, overwrite=False):
        real(source, target, overwrite)
        if target == str(tmp_path / "1"):
            raise KeyboardInterrupt

    monkeypatch.setattr(tf.io.gfile, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        write_artefact(kind, tmp_path, references[0])
    assert versions(tmp_path) == [1]
    found = load_rater(tmp_path)
    assert found.score_texts(["some text"])["score"].shape == (1,)
    warm = tmp_path / "1" / export.WARMUP
    assert warm.exists() == export.can_warm_up()
