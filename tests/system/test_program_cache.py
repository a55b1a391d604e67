"""Compiled programs that are kept: where, for which machine, how many, and what is in the way."""

import os
import pathlib
import shlex
import subprocess
import sys
import time

from hypothesis import given
from hypothesis import strategies as st
import pytest

from dr_keras.errors import ConfigurationError
from dr_keras.system import program_cache

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = "--tf_xla_persistent_cache_directory="


def folder_of(environment):
    """The folder that the flags name, which are there once each."""
    flags = shlex.split(environment["TF_XLA_FLAGS"])
    assert len({flag.split("=")[0] for flag in flags}) == len(flags)
    (found,) = (flag.removeprefix(FOLDER) for flag in flags if flag.startswith(FOLDER))
    return pathlib.Path(found)


def program(*sizes):
    """A message as TensorFlow writes it: key, operations and machine code of so many bytes."""
    found = b""
    for field, size in enumerate(sizes, 1):
        length = bytes([size & 0x7F | 0x80, size >> 7]) if size > 0x7F else bytes([size])
        found += bytes([field << 3 | 2]) + length + bytes(size)
    return found


def test_the_folder_is_of_this_machine_and_its_settings(tmp_path, monkeypatch):
    given = {"XDG_CACHE_HOME": str(tmp_path), "TF_XLA_FLAGS": "--tf_xla_clustering_debug"}
    used = program_cache.use(environment=given)
    assert used == program_cache.Use(str(folder_of(given)))
    assert folder_of(given).parent == tmp_path / "dr_keras" / "programs"
    assert folder_of(given).stat().st_mode & 0o777 == 0o700
    assert given["TF_XLA_FLAGS"].startswith("--tf_xla_clustering_debug ")
    assert "device_types=CPU" in given["TF_XLA_FLAGS"]

    keys = {program_cache.key({})}
    for name in ("XLA_FLAGS", "TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        keys.add(program_cache.key({name: "1"}))
    facts = {"_processor": ["flags: avx2"], "_tensorflow": ["2.20.0"]}
    for name, known in facts.items():
        with monkeypatch.context() as patch:
            patch.setattr(program_cache, name, lambda known=known: known)
            keys.add(program_cache.key({}))
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(77))
        keys.add(program_cache.key({}))
        assert len(keys) == 7


@pytest.mark.parametrize(
    "given",
    [
        {"TF_XLA_FLAGS": f"{FOLDER}/own"},
        {"TF_XLA_FLAGS": "/a/file/of/flags"},
        {"XLA_FLAGS": "--xla_dump_to=/dumps"},  # what is loaded is not dumped
        {program_cache.VARIABLE: "off"},
    ],
)
def test_what_the_user_set_stays(given, tmp_path):
    environment = given | {"XDG_CACHE_HOME": str(tmp_path)}
    assert program_cache.use(environment=environment) == program_cache.Use(None)
    assert environment == given | {"XDG_CACHE_HOME": str(tmp_path)} and not os.listdir(tmp_path)


def test_a_process_started_with_other_settings_has_a_folder_of_its_own(tmp_path):
    environment = {"TF_XLA_FLAGS": "--other='x y'"}
    tmp_path = tmp_path / "a folder"
    program_cache.use(str(tmp_path), environment)
    ours = folder_of(environment)
    program_cache.use(environment=environment)
    assert folder_of(environment) == ours
    environment["TF_NUM_INTRAOP_THREADS"] = "7"
    program_cache.use(environment=environment)
    assert folder_of(environment) != ours and folder_of(environment).parent == tmp_path
    assert program_cache.use("off", environment) == program_cache.Use(None)
    assert environment["TF_XLA_FLAGS"] == "--other='x y'"


def test_what_is_in_the_way(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    environment = {"XDG_CACHE_HOME": str(file)}
    used = program_cache.use(environment=environment)
    assert used.folder is None and "cannot be made (Not a directory)" in used.reason
    assert "TF_XLA_FLAGS" not in environment
    with pytest.raises(ConfigurationError, match="file cannot keep compiled programs: .*'off'"):
        program_cache.use(str(file), {})
    with pytest.raises(ConfigurationError, match="takes no quotes"):
        program_cache.use(f"{tmp_path}/it's", {})
    folder = pathlib.Path(program_cache.use(str(tmp_path), {}).folder)
    folder.chmod(0o770)  # a group may put code there
    with pytest.raises(ConfigurationError, match="others than you may write to .*chmod go-w"):
        program_cache.use(str(tmp_path), {})


@pytest.mark.parametrize("full", [True, False])
def test_where_nothing_can_be_written_programs_are_read(tmp_path, monkeypatch, full):
    folder = pathlib.Path(program_cache.use(str(tmp_path), {}).folder)
    (folder / "xla_compile_cache__1.pb").write_bytes(b"damaged")
    if full:
        monkeypatch.setattr(program_cache, "LEAST_ROOM_BYTES", 1 << 62)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    environment = {}
    used = program_cache.use(str(tmp_path), environment)
    assert used.folder == str(folder) and "cannot be written, or its disk is full" in used.reason
    assert "--tf_xla_persistent_cache_read_only=true" in environment["TF_XLA_FLAGS"]
    assert bool(os.listdir(folder)) != full


@given(st.tuples(*[st.integers(0, 300)] * 3), st.integers(0, 600))
def test_a_program_cut_anywhere_is_no_program(tmp_path_factory, sizes, cut):
    path = tmp_path_factory.mktemp("cut") / "x.pb"
    whole = program(*sizes)
    path.write_bytes(whole)
    assert program_cache.is_whole(path)
    path.write_bytes(whole[: min(cut, len(whole) - 1)])
    assert not program_cache.is_whole(path)
    path.write_bytes(bytes(len(whole)))  # what some file systems leave where power was lost
    assert not program_cache.is_whole(path)


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    environment = {}
    folder = pathlib.Path(program_cache.use(str(tmp_path), environment).folder)
    other = tmp_path / "of-another-machine"
    other.mkdir()
    now = time.time()
    written = {}
    for hours, place in ((0, folder), (2, other), (3, folder), (4, other)):
        path = place / f"xla_compile_cache__{hours}.pb"
        path.write_bytes(program(9, 9, 76))  # 100 bytes
        os.utime(path, (now - 3600 * hours,) * 2)
        written[hours] = path
    stray = folder / "xla_compile_cache__5.pb0.tmp"  # of a process that was killed
    stray.write_bytes(bytes(100))
    os.utime(stray, (now - 3600 * 5,) * 2)
    mine = folder / "notes.txt"
    mine.write_bytes(bytes(1000))

    def left(largest_bytes):
        program_cache.use(str(tmp_path), environment, largest_bytes)
        return [hours for hours, path in written.items() if path.exists()]

    assert left(400) == [0, 2, 3, 4] and not stray.exists()
    assert left(350) == [0, 2, 3]
    assert left(0) == [0]  # used within the hour: a process may be about to read it
    assert mine.exists()


PROGRAM = """
import sys
from dr_keras.system import program_cache, program_names
program_cache.use(sys.argv[1])
import tensorflow as tf
program_names.install()
for _ in range(int(sys.argv[2])):  # what a process did before
    tf.function(lambda x: x + 1)(tf.ones(3))

def step(x, w):
    return tf.while_loop(lambda x: tf.reduce_max(x) < 9, lambda x: x * 2 + tf.tanh(x @ w), (x,))

def loss(x, w):
    return tf.reduce_sum(x @ w)

for function in step, loss:
    compiled = tf.function(function, jit_compile=True, autograph=False)
    found = compiled(tf.ones((4, 4)), tf.random.stateless_normal((4, 4), (1, 2)))
    print(tf.nest.flatten(found)[0].numpy().tobytes().hex())
"""


def test_a_process_with_another_past_finds_what_one_compiled(tmp_path):
    def run(before):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "a folder"), str(before)],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        files = sorted(tmp_path.glob("*/*/*.pb"))
        return done.stdout, files, [path.stat().st_mtime_ns for path in files]

    values, files, (written, other) = run(0)
    files[1].write_bytes(files[1].read_bytes()[:-9])  # TensorFlow would fail at it
    again = run(3)
    assert again[:2] == (values, files)
    assert again[2][0] == written and again[2][1] > other and program_cache.is_whole(files[1])
