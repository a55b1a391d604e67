"""No flag overwrites an input, by whatever name it is called."""

import os

import pytest

from dr_keras.corpus_jobs import overwriting
from dr_keras.errors import ConfigurationError


@pytest.fixture
def c(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.jsonl").write_text("mine")
    os.symlink("c.jsonl", "link.jsonl")
    os.link("c.jsonl", "hard.jsonl")
    os.symlink(tmp_path, "folder")
    return tmp_path / "c.jsonl"


NAMES = ["c.jsonl", "./c.jsonl", "file://{}/c.jsonl", "{}/c.jsonl", "link.jsonl", "hard.jsonl",
         "folder/c.jsonl", "folder/folder/link.jsonl"]  # fmt: skip


@pytest.mark.parametrize("output", NAMES)
def test_one_file_by_all_its_names(c, output):
    output = output.format(c.parent)
    for read in NAMES:
        read = read.format(c.parent)
        with pytest.raises(ConfigurationError, match=f"over the input {read}.*No flag overwrites"):
            overwriting.refuse_overwriting([output], ["d.jsonl", read])


def test_what_is_made_beside_an_output_counts_too(c):
    os.rename(c, "s.jsonl.errors.jsonl")
    with pytest.raises(ConfigurationError, match="s.jsonl.errors.jsonl would be written over"):
        overwriting.refuse_overwriting(overwriting.of_scores("s.jsonl"), ["s.jsonl.errors.jsonl"])
    os.makedirs("out/_work/deep")
    os.rename("s.jsonl.errors.jsonl", "out/_work/deep/c.jsonl")
    with pytest.raises(ConfigurationError, match="out/_work would be written over"):
        overwriting.refuse_overwriting(overwriting.of_filter("out"), ["out/_work/deep/c.jsonl"])


def test_other_files_are_no_concern(c):
    outputs = [*overwriting.of_scores("new.jsonl"), *overwriting.of_filter("c")]
    overwriting.refuse_overwriting(outputs, ["c.jsonl", "gs://bucket/new.jsonl"])
    with pytest.raises(ConfigurationError, match="over the input gs://b/c"):
        overwriting.refuse_overwriting(["gs://b/c"], ["gs://b/c"])


@pytest.mark.parametrize("empty", ["", "  ", "\t"])
def test_an_empty_name_names_nothing(empty):
    with pytest.raises(ConfigurationError, match="output_dir is empty: name the folder to write"):
        overwriting.require_name(empty, "output_dir", "folder")
    overwriting.require_name(None, "output")


def test_outputs_are_found_beside_names_that_are_not_utf8(tmp_path):
    for name in (b"kept-1.jsonl", b"dropped-\xe9.jsonl", b"caf\xe9"):
        open(os.fsencode(tmp_path) + b"/" + name, "wb").close()
    found = overwriting.shard_outputs(str(tmp_path))
    assert [os.fsencode(name) for name in found] == [b"dropped-\xe9.jsonl", b"kept-1.jsonl"]
