"""Folders that somebody else made: whatever is in them, a plain ArtefactError or the rater."""

import hashlib
import json
import os
import shutil
import socket
import sys

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest
import tensorflow as tf

from dr_keras.config.gin_files import packaged_folder
from dr_keras.data.formats import reading
from dr_keras.errors import ArtefactError, DataError
from dr_keras.serving import folder, loading
from dr_keras.serving.loading import load_rater

INDEX = "variables/variables.index"
TEXT = "The keys of the dictionary are strings, and its values are lists of numbers."


@pytest.fixture(scope="module")
def shipped():
    return load_rater("damaged_prose")


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(packaged_folder("savedmodels") / "damaged_prose" / "1", tmp_path / "1")


@pytest.fixture
def no_graph(monkeypatch):
    """Fails where a graph is loaded although something was wrong before."""
    monkeypatch.setattr(tf.saved_model, "load", lambda _: pytest.fail("the graph was loaded"))


def stored(copy):
    return json.loads((copy / "rater.json").read_text())


def store(copy, **changes):
    (copy / "rater.json").write_text(json.dumps(stored(copy) | changes))


def refused(path):
    with pytest.raises(ArtefactError) as raised:
        load_rater(path)
    text = str(raised.value)
    text.encode("utf-8")  # can be printed
    return text


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"[" * 200_000, "cannot be read .its brackets nest too deeply"),
        (b'{"a":' * 200_000, "cannot be read .its brackets nest too deeply"),
        (b'{"a": 1, "a": 1}', "the key 'a' is there twice"),
        (b'{"a": ' + b"1" * 5000 + b"}", "cannot be read"),
        (b'{"a": "\xff"}', "cannot be read .'utf-8' codec can't decode byte"),
        (b"", "cannot be read"),
        (b"null", "does not describe a dr_keras rater"),
        (b"[1]", "does not describe a dr_keras rater"),
        (b'{"format": null}', "does not describe a dr_keras rater"),
    ],
)
def test_a_file_that_is_no_json_object_of_a_rater(copy, no_graph, content, reason):
    (copy / "rater.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=reason):
        load_rater(copy)


WHOLE = "a whole number of at least 0"
PATH = "a path below the folder"


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"kind": None}, "has null as kind, which should be a string that is not empty"),
        ({"kind": ["text"]}, "has a list of 1 as kind, which should be a string"),
        ({"schema_version": [2]}, "has schema version a list of 1, and this dr_keras"),
        ({"fingerprint": "x"}, 'has "x" as fingerprint, which should be a SHA-256'),
        ({"requires": "os"}, 'has "os" as requires, which should be a list of which each'),
        ({"requires": [None]}, "has null as requires[0], which should be a string"),
        ({"parameters": True}, f"has true as parameters, which should be {WHOLE}"),
        ({"training": []}, "has a list of 0 as training, which should be an object"),
        ({"versions": {"keras": 3}}, "has 3 as versions['keras'], which should be a string"),
        ({"reference": None}, "has null as reference, which should be an object"),
        ({"reference": {"quantiles": [0, 1]}}, "lacks reference.sample_size"),
        (
            {"reference": {"quantiles": [0, float("nan")], "sample_size": 1}},
            "has NaN as reference.quantiles[1], which should be a finite number",
        ),
        (
            {"document_reference": {"quantiles": [0, 10**400], "sample_size": 1}},
            "as document_reference.quantiles[1], which should be a finite number",
        ),
        ({"files": None}, "has null as files, which should be an object of at least 1"),
        ({"files": {"saved_model.pb": -1}}, f"files['saved_model.pb'], which should be {WHOLE}"),
        ({"files": {"../x": 1}}, f"\"../x\" as files['../x'] (the name), which should be {PATH}"),
        ({"files": {"/dev/zero": 1}}, f"(the name), which should be {PATH}"),
        ({"files": {"\ud800": 1}}, f"(the name), which should be {PATH}"),
        ({"files": {"saved_model.pb\0": 1}}, f"(the name), which should be {PATH}"),
        ({"sha256": {"a//b": "0" * 64}}, f"(the name), which should be {PATH}"),
        ({"sequence_length": 0}, "has 0 as sequence_length, which should be a whole number from 1"),
        ({"sequence_length": 128.0}, "has 128.0 as sequence_length"),
        ({"sequence_length": 2**80}, "has 1208925819614629174706176 as sequence_length"),
        ({"variable_length": 1}, "has 1 as variable_length, which should be true or false"),
        ({"tokenizer": "byte"}, 'has "byte" as tokenizer, which should be an object'),
        ({"tokenizer": {}}, "lacks tokenizer.kind"),
        ({"tokenizer": {"kind": "byte", "x": 1}}, "tokenizer['x'], which should be left out"),
        (
            {"tokenizer": {"kind": "sentencepiece", "proto": {"file": "../a", "sha256": "0" * 64}}},
            "has \"../a\" as tokenizer.proto.file, which should be the name of a file",
        ),
        ({"requires": ["antigravity"]}, "needs the module antigravity, and a rater may need tens"),
        ({"kind": "examples", "inputs": {}}, "as inputs, which should be an object of at least 1"),
        (
            {"kind": "examples", "inputs": {"x": {"dtype": "py", "shape": []}}},
            "has \"py\" as inputs['x'].dtype, which should be one of 'bool', 'uint8'",
        ),
        (
            {"kind": "images", "inputs": {"image": {"dtype": "uint8", "shape": [-1]}}},
            "has -1 as inputs.image.shape[0], which should be a whole number of at least 0, or nul",
        ),
        ({"kind": "images", "inputs": {}}, "lacks inputs.image"),
        ({"kind": "images", "inputs": {"image": {"dtype": "uint8", "shape": []}}}, "image_dtype"),
    ],
)  # fmt: skip
def test_a_key_of_another_form_is_named_with_what_it_should_be(copy, no_graph, changes, said):
    store(copy, **changes)
    message = refused(copy)
    assert message.startswith(f"{copy}")
    assert said in message


def test_no_module_is_imported_but_those_that_raters_need(copy, monkeypatch):
    (copy.parent / "surprise.py").write_text("raise SystemExit('was imported')")
    monkeypatch.syspath_prepend(str(copy.parent))
    store(copy, requires=["surprise"])
    assert "needs the module surprise, and a rater may need tensorflow_text" in refused(copy)
    assert "surprise" not in sys.modules
    with pytest.raises(SystemExit, match="was imported"):
        load_rater(copy, trusted=True)


NODES = [
    None, True, 0, -1, 1.5, 2**70, 10**400, float("nan"), float("inf"), "", "..", "/etc/passwd",
    "\ud800", "0001", "x" * 5000, [], {}, [[]], {"": None}, [None] * 3, {"kind": "byte"},
]  # fmt: skip


def nodes(tree, path=()):
    """Paths of a tree's nodes; of a list the first two."""
    yield path
    if isinstance(tree, dict):
        for key in tree:
            yield from nodes(tree[key], (*path, key))
    if isinstance(tree, list):
        for place in range(min(2, len(tree))):
            yield from nodes(tree[place], (*path, place))


def changed(tree, path, change):
    """A copy of the tree in which the node was changed; a change of None leaves it out."""
    if not path:
        return change(tree)
    first, *rest = path
    parts = dict(tree) if isinstance(tree, dict) else list(tree)
    if rest or change is not None:
        parts[first] = changed(parts[first], rest, change)
    else:
        del parts[first]
    return parts


ORIGINAL = json.loads(
    (packaged_folder("savedmodels") / "damaged_prose" / "1" / "rater.json").read_text()
)
PATHS = [path for path in nodes(ORIGINAL) if path]


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.sampled_from(PATHS),
    how=st.one_of(
        st.sampled_from(["left out", "twice", "nested"]),
        st.sampled_from(NODES).map(lambda node: [node]),
        st.sampled_from(PATHS),
    ),
)
def test_any_change_of_the_metadata_gives_an_error_or_the_same_rater(
    shipped, tmp_path_factory, path, how
):
    tree, fresh = ORIGINAL, "a key that nothing else has"
    if how == "twice":
        path = [part for part in path if isinstance(part, str)][:1]
        text = json.dumps({**tree, fresh: tree[path[0]]}).replace(fresh, path[0])
    elif how == "left out":
        text = json.dumps(changed(tree, path, None))
    elif how == "nested":
        text = json.dumps(changed(tree, path, lambda node: [{"a": node}]))
    elif isinstance(how, list):
        text = json.dumps(changed(tree, path, lambda _: how[0]))
    else:
        other = tree
        for part in how:
            other = other[part]
        text = json.dumps(changed(tree, path, lambda _: other))
    place = tmp_path_factory.getbasetemp() / "fuzzed"
    if not place.exists():
        shutil.copytree(shipped.path, place)
    (place / "rater.json").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.saved_model, "load", lambda _: shipped._saved_model)
        try:
            found = load_rater(place)
        except ArtefactError as error:
            str(error).encode("utf-8")
            assert text != json.dumps(ORIGINAL)
        else:
            assert found.metadata["fingerprint"] == shipped.fingerprint
            assert found(TEXT) == shipped(TEXT)


def test_a_graph_that_says_something_else_or_nothing_is_refused(copy, shipped, monkeypatch):
    class Other:
        signatures = {**shipped.signatures}

    monkeypatch.setattr(tf.saved_model, "load", lambda _: Other)
    for given_text in (b"[" * 200_000, b"\xff", b"null", b"{}"):
        Other.signatures["get_metadata"] = lambda: {"metadata": tf.constant(given_text)}
        assert "does not belong to its graph" in refused(copy)
    for odd in (dict, lambda: {"metadata": tf.constant(1.0)}, lambda: 1 / 0):
        Other.signatures["get_metadata"] = odd
        assert "does not belong to its graph" in refused(copy)


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def unix_socket(path):
    before = os.getcwd()
    os.chdir(path.parent)  # the path of a socket must be short
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(before)


def loose(path):
    path.symlink_to("nowhere")


def loop(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [pipe, device, unix_socket, loose, loop, os.mkdir])
@pytest.mark.parametrize("name", ["rater.json", "saved_model.pb", INDEX])
def test_a_file_that_is_no_file_is_not_opened(copy, no_graph, name, make):
    (copy / name).unlink()
    make(copy / name)
    is_one = r"is a (pipe|device|socket|link to nothing|folder), and should be a file"
    with pytest.raises(ArtefactError, match=is_one):
        load_rater(copy)


@pytest.mark.parametrize("make", [pipe, device])
@pytest.mark.parametrize("name", ["x", "saved_model.cpb", "variables/x", "debug/saved_model_debug"])
def test_what_is_no_file_is_refused_though_it_is_not_listed(copy, no_graph, name, make):
    (copy / name).parent.mkdir(exist_ok=True)
    make(copy / name)
    assert f"named '{name}' that its rater.json does not list" in refused(copy)


@pytest.mark.parametrize(
    "name", ["saved_model.pbtxt", "saved_model.cpb", "variables/variables.data-00001-of-00002"]
)
def test_what_tensorflow_reads_is_listed(copy, no_graph, name):
    (copy / name).write_bytes(b"")
    assert f"has a file named '{name}' that its rater.json does not list" in refused(copy)
    everything = stored(copy)
    for part in ("files", "sha256"):
        everything[part].pop("saved_model.pb")
    (copy / name).unlink()
    (copy / "rater.json").write_text(json.dumps(everything))
    assert "the file saved_model.pb is missing" in refused(copy)


def test_files_have_their_checksums(copy, no_graph):
    sums = stored(copy)["sha256"]
    sums.pop("saved_model.pb")
    store(copy, sha256=sums)
    assert "has of saved_model.pb only the size or only the checksum" in refused(copy)


def test_other_files_and_links_to_files_elsewhere_do_no_harm(copy, shipped):
    """Caches of downloads are folders of links to files that lie elsewhere."""
    blobs = copy.parent / "blobs"
    blobs.mkdir()
    for name in [*shipped.metadata["files"], "rater.json"]:
        blob = blobs / hashlib.sha256(name.encode()).hexdigest()
        (copy / name).rename(blob)
        (copy / name).symlink_to(blob)
    (copy / "README.md").write_text("Mine.")
    (copy / ".#README.md").symlink_to("nobody@nowhere")
    (copy / "again").symlink_to(copy)
    (copy / "and again").symlink_to(copy)
    assert load_rater(copy)(TEXT) == shipped(TEXT)


def test_a_huge_file_is_not_read(copy, no_graph, monkeypatch):
    os.truncate(copy / "rater.json", 1 << 30)
    monkeypatch.setattr(tf.io.gfile, "GFile", lambda *_: pytest.fail("the file was read"))
    assert "rater.json has 1,073,741,824 bytes, and 16,777,216 are the most" in refused(copy)


def test_metadata_that_could_not_be_read_again_is_not_exported():
    with pytest.raises(DataError, match="is an object with 1 keys of 9,437,197 characters"):
        folder.describe(None, None, None, {"a b c": "x" * (9 << 20)})
    with pytest.raises(DataError, match="give a dict"):
        folder.describe(None, None, None, [1])


def test_checksums_are_taken_in_pieces(tmp_path, monkeypatch):
    content = os.urandom(5000)
    (tmp_path / "a").write_bytes(content)
    monkeypatch.setattr(reading, "_CHUNK", 64)
    assert folder.checksums(str(tmp_path), ["a", "variables/b"]) == {
        "a": hashlib.sha256(content).hexdigest()
    }


def test_what_may_not_be_read_says_so(copy, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(folder.os, "stat", denied)
    assert "cannot be read ([Errno 13] Permission denied" in refused(copy)
    assert "cannot be read" in refused(str(copy) + "\udcff")


def tiny(path):
    path.mkdir(parents=True)
    (path / "rater.json").write_text("{}")


@pytest.mark.parametrize(
    "names, highest",
    [
        (["0001"], "0001"),
        (["1", "0002"], "0002"),
        (["0002", "2", "02"], "2"),
        (["3", "2"], "3"),
        (["2", "２"], "2"),
        (["2", "³"], "2"),
        (["2", "9" * 30], "2"),
        (["2", "0" * 30 + "3"], "0" * 30 + "3"),
        (["2", "-3", "+3", "3.0", "1_0"], "2"),
    ],
)
def test_versions_are_found_by_the_names_they_have(tmp_path, names, highest):
    for name in names:
        tiny(tmp_path / name)
    (tmp_path / "7").touch()  # a file, and a link to nothing
    (tmp_path / "8").symlink_to("nowhere")
    assert loading.find_version(str(tmp_path)) == str(tmp_path / highest)
    assert max(folder.versions(tmp_path)) == 8  # not to be taken by the next export


def test_numbers_of_thousands_of_digits_are_no_versions(tmp_path, monkeypatch):
    names = ["9" * 5000, "2"]
    monkeypatch.setattr(folder, "names_in", lambda _: names)
    assert folder.versions(tmp_path) == [2]


def test_names_that_are_not_utf8_beside_a_rater(copy):
    odd = os.fsencode(copy) + b"/caf\xe9"
    open(odd, "wb").close()
    load_rater(copy)
    os.rename(odd, os.fsencode(copy) + b"/variables/variables.caf\xe9")
    assert "that its rater.json does not list" in refused(copy)
    open(os.fsencode(copy.parent) + b"/caf\xe9", "wb").close()
    assert folder.versions(copy.parent) == [int(copy.name)]
