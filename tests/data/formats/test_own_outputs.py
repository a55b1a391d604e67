"""What dr_keras wrote is told from data by its marks, wherever a folder or a glob finds it."""

import json
import os

import pytest

from dr_keras.data.formats.listing import find_files
from dr_keras.data.formats.own_outputs import without_outputs
from dr_keras.errors import DataError

FINISHED = {
    "format": "dr_keras filtered files",
    "input": [{"path": "/elsewhere/c.jsonl", "size": 3, "modified": 1}],
    "files": {
        "kept-00000-of-00001.jsonl": {}, "dropped-00000-of-00001.jsonl": {}, "errors.jsonl": {}
    },
}  # fmt: skip
OUTPUTS = [*FINISHED["files"], "manifest.json"]


def make(folder, *names, **contents):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = contents.get(name.split("/")[-1].split(".")[0], "{}")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return [str(folder / name) for name in names]


def names_left(paths):
    return [os.path.basename(path) for path in without_outputs(paths)[0]]


def test_a_filtered_folder_is_its_kept_records(tmp_path):
    paths = make(tmp_path, *OUTPUTS, "README.jsonl", manifest=FINISHED)
    left, passed = without_outputs(paths)
    assert [os.path.basename(path) for path in left] == [OUTPUTS[0], "README.jsonl"]
    assert list(passed.values()) == [
        "what filter_corpus dropped or could not read",
        "what filter_corpus dropped or could not read",
        "the manifest of a filtered corpus",
    ]
    assert names_left(paths[:1]) == OUTPUTS[:1]  # named by a glob


@pytest.mark.parametrize("corpus", [{"paths": ["x/c.jsonl"]}, {"of": [{"paths": ["c.jsonl"]}]}])
@pytest.mark.parametrize("below", ["", "out/"])
def test_beside_its_own_input_nothing_of_a_filtered_corpus_is_data(tmp_path, below, corpus):
    outputs = [below + name for name in OUTPUTS]
    paths = make(tmp_path, "c.jsonl", *outputs, manifest=FINISHED)
    assert names_left(paths) == ["c.jsonl"]
    described = {**FINISHED, "format": "dr_keras filtered corpus", "corpus": corpus, "input": None}
    make(tmp_path, below + "manifest.json", manifest=described)
    assert names_left(paths) == ["c.jsonl"]


def test_an_unfinished_output_is_no_data(tmp_path):
    mine = ["c.jsonl", "kept-2020.jsonl", "dropped-by-hand.jsonl"]
    outputs = ["kept-00003-of-00012.jsonl", "dropped-00000.jsonl", "errors.jsonl"]
    paths = make(tmp_path, *mine, *outputs)
    assert names_left(paths) == [os.path.basename(path) for path in paths]  # nothing marks them
    make(tmp_path, "_work/job.json")
    assert names_left(paths) == mine
    assert set(without_outputs(paths)[1].values()) == {"the output of an unfinished filter_corpus"}


def test_score_files_are_no_data(tmp_path):
    paths = make(
        tmp_path, "c.jsonl", "s.jsonl", "s.jsonl.manifest.json", "s.jsonl.errors.jsonl", "u.jsonl",
        "x.jsonl", "x.jsonl.manifest.json", "c.errors.jsonl", "c.jsonl.tmp-0123abcd",
        s={"format": "dr_keras scores"}, x={"format": "another tool's"},
    )  # fmt: skip
    (tmp_path / "u.jsonl.unfinished").mkdir()
    paths += make(tmp_path / "v.unfinished", "job.json", "scores/00000-of-00001.parquet")
    assert names_left(paths) == ["c.jsonl", "x.jsonl", "x.jsonl.manifest.json", "c.errors.jsonl"]
    assert names_left(make(tmp_path / "mine.unfinished" / "deep", "d.jsonl")) == ["d.jsonl"]


@pytest.mark.parametrize(
    "content", ["[]", "null", "{", '{"format": 3, "files": 4}', "[" * 100_000, "\udcff"]
)
def test_marks_of_other_shapes_mark_nothing(tmp_path, content):
    paths = make(tmp_path, "c.jsonl", "c.jsonl.manifest.json", "manifest.json", "kept-00000.jsonl")
    for name in ("manifest.json", "c.jsonl.manifest.json"):
        (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    assert without_outputs(paths) == (paths, {})
    (tmp_path / "manifest.json").write_text('{"format": "dr_keras filtered files", "files": 4}')
    assert names_left(paths) == ["c.jsonl", "c.jsonl.manifest.json", "kept-00000.jsonl"]


def test_folder_and_glob_find_the_same(tmp_path):
    make(tmp_path, "c.jsonl", *OUTPUTS, "d.jsonl", "d.jsonl.manifest.json", manifest=FINISHED,
         d={"format": "dr_keras scores"})  # fmt: skip
    expected = [str(tmp_path / "c.jsonl")]
    assert find_files(str(tmp_path), "jsonl") == expected
    assert find_files(str(tmp_path / "*.jsonl"), "jsonl") == expected
    kept = str(tmp_path / "kept-00000-of-00001.jsonl")
    assert find_files(str(tmp_path / "kept-*"), "jsonl") == [kept]
    assert find_files(kept, "jsonl") == [kept]
    os.remove(tmp_path / "c.jsonl")
    for path in (str(tmp_path / "d*.jsonl"), str(tmp_path / "dropped-*")):
        with pytest.raises(DataError, match=r"nothing but what dr_keras wrote, .*d[.r].*jsonl \("):
            find_files(path, "jsonl")
