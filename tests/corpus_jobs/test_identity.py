"""By what a corpus is known: not by its path as typed."""

import dataclasses
import hashlib
import os
import shutil

import pytest

from dr_keras.corpus_jobs import identity
from dr_keras.corpus_jobs.identity import Fingerprint, changes, input_files, relative_names
from dr_keras.data.documents import make_document
from dr_keras.errors import ConfigurationError, DataError


@pytest.mark.parametrize(
    "paths, names",
    [
        (["/a/b/c.jsonl"], ["c.jsonl"]),
        (["/a/b/c.jsonl", "/a/d/c.jsonl"], ["b/c.jsonl", "d/c.jsonl"]),
        (["/a/b/c.jsonl", "/a/d.jsonl"], ["b/c.jsonl", "d.jsonl"]),
        (["file:///a/b/c.jsonl", "/a/./d/../d.jsonl"], ["b/c.jsonl", "d.jsonl"]),
        (["gs://x/b/c.jsonl", "gs://x/d.jsonl"], ["b/c.jsonl", "d.jsonl"]),
        (["/a/bc/x", "/a/bd/x"], ["bc/x", "bd/x"]),
    ],
)
def test_names_begin_where_paths_part(paths, names):
    assert relative_names(paths) == names


@pytest.fixture
def corpus(tmp_path):
    """A folder of two files, one below the other, and what is recorded of them."""
    for name in ("a.jsonl", "deep/b.jsonl"):
        path = tmp_path / "first" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"of {name}")
    return tmp_path / "first", described(tmp_path / "first")


def found(folder):
    return input_files([os.path.join(folder, name) for name in ("a.jsonl", "deep/b.jsonl")])


def described(folder):
    return [{**file.to_dict(), "sha256": identity.digest(file)} for file in found(folder)]


@pytest.fixture
def no_digests(monkeypatch):
    monkeypatch.setattr(identity, "digest", lambda file: pytest.fail(f"{file.path} was read"))


def test_the_digest_is_that_of_the_bytes(corpus):
    folder, recorded = corpus
    assert recorded[0]["sha256"] == hashlib.sha256(b"of a.jsonl").hexdigest()
    assert [file["name"] for file in recorded] == ["a.jsonl", "deep/b.jsonl"]


def test_places_and_spellings_do_not_matter(corpus, tmp_path, monkeypatch, no_digests):
    folder, recorded = corpus
    monkeypatch.chdir(folder)
    assert changes(recorded, found("")) == changes(recorded, found(f"file://{folder}")) == []
    moved = folder.rename(tmp_path / "second")
    assert changes(recorded, found(moved)) == []
    nameless = [{k: v for k, v in file.items() if k not in ("name", "sha256")} for file in recorded]
    assert changes(nameless, found(moved)) == []  # as an earlier version recorded it


def test_times_in_whole_seconds_are_those_of_an_earlier_version(corpus, no_digests):
    folder, recorded = corpus
    for file in recorded:
        os.utime(folder / file["name"], ns=(7_000_000_005, 7_000_000_005))
        file.update(modified=7_000_000_000)
    assert changes(recorded, found(folder)) == []


def test_a_copy_is_known_by_its_bytes(corpus, tmp_path):
    folder, recorded = corpus
    shutil.copytree(folder, tmp_path / "copy")
    for file in recorded:
        os.utime(tmp_path / "copy" / file["name"], (1, 1))
    assert changes(recorded, found(tmp_path / "copy")) == []
    (tmp_path / "copy" / "a.jsonl").write_text("of A.jsonl")
    (what,) = changes(recorded, found(tmp_path / "copy"))
    assert what == f"input {tmp_path}/copy/a.jsonl (was written to since)"
    del recorded[1]["sha256"]  # nobody knows
    assert len(changes(recorded, found(tmp_path / "copy"))) == 2


def test_all_differences_are_told(corpus):
    folder, recorded = corpus
    files = found(folder)
    assert changes(recorded, files[::-1]) == ["the order of the input files"]
    new = dataclasses.replace(files[0], name="new.jsonl", path="/x/new.jsonl")
    larger = dataclasses.replace(files[0], size=99)
    assert changes(recorded, [larger, new]) == [
        "input /x/new.jsonl (is new)",
        f"input {folder}/deep/b.jsonl (is missing)",
        f"input {folder}/a.jsonl (has changed: 10 bytes then, 99 now)",
    ]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="gone.jsonl: cannot be read .No such file"):
        input_files([str(tmp_path / "gone.jsonl")])


def test_fingerprints_know_texts_and_sources_but_no_order():
    documents = [make_document(f"text {n}", "s", f"d{n}") for n in range(3)]
    first, second, third = Fingerprint(), Fingerprint(), Fingerprint()
    for document in documents:
        first.add(document)
    for document in documents[:0:-1]:
        second.add(document)
    third.add(documents[0])
    third.merge(second)
    assert third.to_dict() == first.to_dict() == Fingerprint(first.to_dict()).to_dict()
    for change, same in (({"source": "t"}, "text_fingerprint"), ({"text": "other"}, None)):
        other = Fingerprint(second.to_dict())
        other.add(dataclasses.replace(documents[0], **change))
        agree = [name for name, value in other.to_dict().items() if value == first.to_dict()[name]]
        assert agree == ([same] if same else [])


# No flag overwrites an input, by whatever name it is called.


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
            identity.refuse_overwriting([output], ["d.jsonl", read])


def test_what_is_made_beside_an_output_counts_too(c):
    os.rename(c, "s.jsonl.errors.jsonl")
    with pytest.raises(ConfigurationError, match="s.jsonl.errors.jsonl would be written over"):
        identity.refuse_overwriting(identity.of_scores("s.jsonl"), ["s.jsonl.errors.jsonl"])
    os.makedirs("out/_work/deep")
    os.rename("s.jsonl.errors.jsonl", "out/_work/deep/c.jsonl")
    with pytest.raises(ConfigurationError, match="out/_work would be written over"):
        identity.refuse_overwriting(identity.of_filter("out"), ["out/_work/deep/c.jsonl"])


def test_other_files_are_no_concern(c):
    outputs = [*identity.of_scores("new.jsonl"), *identity.of_filter("c")]
    identity.refuse_overwriting(outputs, ["c.jsonl", "gs://bucket/new.jsonl"])
    with pytest.raises(ConfigurationError, match="over the input gs://b/c"):
        identity.refuse_overwriting(["gs://b/c"], ["gs://b/c"])


@pytest.mark.parametrize("empty", ["", "  ", "\t"])
def test_an_empty_name_names_nothing(empty):
    with pytest.raises(ConfigurationError, match="output_dir is empty: name the folder to write"):
        identity.require_name(empty, "output_dir", "folder")
    identity.require_name(None, "output")


def test_outputs_are_found_beside_names_that_are_not_utf8(tmp_path):
    for name in (b"kept-1.jsonl", b"dropped-\xe9.jsonl", b"caf\xe9"):
        open(os.fsencode(tmp_path) + b"/" + name, "wb").close()
    found = identity.shard_outputs(str(tmp_path))
    assert [os.fsencode(name) for name in found] == [b"dropped-\xe9.jsonl", b"kept-1.jsonl"]
