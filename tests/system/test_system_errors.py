"""Errors of the operating system in words; and that errors of computations are told from them."""

import contextlib
import errno
import os
import resource

import h5py
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.system import system_errors
import gin


def raised(function, *arguments):
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return caught.value


@contextlib.contextmanager
def limit(kind, soft):
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def write(path, size=100_000):
    with tf.io.gfile.GFile(str(path), "wb") as file:
        file.write(b"x" * size)


def write_python(path):
    with open(path, "wb") as file:
        file.write(b"x")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.touch()
    return path


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "make room on that disk"),
        (errno.EDQUOT, "your quota is used up"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "mounted read-only"),
        (errno.EACCES, "change the permissions"),
        (errno.ENOENT, "check the name"),
        (errno.EISDIR, "name a file"),
        (errno.ENOTDIR, "a file stands where a folder is needed"),
        (errno.ENAMETOOLONG, "choose a shorter name"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_pythons_errors_have_a_remedy_by_number(number, words):
    found = system_errors.explained(OSError(number, "whatever", "a/b"))
    assert found.startswith(f"a/b: {os.strerror(number)}; ") and words in found
    assert "\n" not in found
    # the same words from TensorFlow have the same remedy
    error = tf.errors.UnknownError(None, None, f"a/b; {os.strerror(number)}")
    assert system_errors.explained(error) == found


def test_both_files_of_a_rename_are_named():
    found = system_errors.explained(OSError(errno.EACCES, "no", "a", None, b"b\xff"))
    assert found.startswith("a -> b\udcff: Permission denied; ")


@pytest.mark.parametrize("number", [None, errno.EBADF, errno.EINVAL, errno.EPIPE, errno.ECHILD])
def test_what_only_a_defect_brings_about_is_none(number):
    error = OSError("SavedModel file does not exist") if number is None else OSError(number, "x")
    assert system_errors.explained(error) is None


FILE_OPERATIONS = {
    "below a file": (lambda file: write(file / "x"), "{file}/x: Not a directory; "),
    "a folder": (lambda file: write(file.parent), "{folder}: Is a directory; "),
    "no folder": (lambda f: write(f.parent / "no/x"), "{folder}/no/x: No such file or directory; "),
    "long": (lambda f: write(f.parent / ("y" * 300)), "{folder}/" + "y" * 300 + ": File name"),
    "makedirs": (lambda file: tf.io.gfile.makedirs(str(file / "x")), "{file}: Not a directory; "),
    "records": (
        lambda file: tf.io.TFRecordWriter(str(file / "x")).write(b"x"),
        "{file}/x: Not a directory; ",
    ),
    "checkpoint": (
        lambda file: tf.train.Checkpoint(v=tf.Variable(0.0)).write(str(file / "x")),
        "{file}: Not a directory; ",
    ),
    "summaries": (
        lambda file: tf.summary.create_file_writer(str(file / "x")).init(),
        "{file}: Not a directory; ",
    ),
    "in a graph": (
        tf.function(lambda file: tf.io.read_file("/no/such/file")),
        "/no/such/file: No such file or directory; ",
    ),
    "in a dataset": (
        lambda file: list(tf.data.TFRecordDataset(["/no/such/file"])),
        "/no/such/file: No such file or directory; ",
    ),
    "unknown scheme": (
        lambda file: write("nowhere://x/y"),
        "nowhere://x/y: TensorFlow has no file system for nowhere:// here; ",
    ),
    "HDF5": (lambda file: h5py.File(file / "x", "w"), "{file}/x: Not a directory; "),
}


@pytest.mark.parametrize("case", FILE_OPERATIONS)
def test_file_operations_name_the_path(file, case):
    function, beginning = FILE_OPERATIONS[case]
    found = system_errors.explained(raised(function, file))
    assert found.startswith(beginning.format(file=file, folder=file.parent)), found


COMPUTATIONS = {
    "shapes": lambda: tf.constant([1.0, 2.0]) + tf.constant([1.0, 2.0, 3.0]),
    "assertion": lambda: tf.debugging.assert_equal(1, 2, "a/b; unequal"),
    "python": lambda: [][0],
}


@pytest.mark.parametrize("case", COMPUTATIONS)
def test_errors_of_computations_are_none(case):
    assert system_errors.explained(raised(COMPUTATIONS[case])) is None


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.NotFoundError(None, None, "Key a/kernel not found in checkpoint [Op:RestoreV2]"),
        tf.errors.ResourceExhaustedError(None, None, "Received message larger than max"),
        tf.errors.FailedPreconditionError(None, None, "Could not find variable v. [Op:Read]"),
        tf.errors.NotFoundError(None, None, "see https://www.tensorflow.org/guide for it"),
        tf.errors.InternalError(None, None, ""),
    ],
)
def test_classes_of_file_errors_may_be_of_computations(error):
    assert system_errors.explained(error) is None


def test_remote_files():
    error = tf.errors.PermissionDeniedError(
        None, None, "Error executing an HTTP request: HTTP response code 403 when reading gs://b/o"
    )
    found = system_errors.explained(error)
    assert found.startswith("gs://b/o: Error executing an HTTP request")
    assert found.endswith("; check your credentials for it")


def test_limits_of_the_machine(tmp_path):
    big = tmp_path / "big"
    with limit(resource.RLIMIT_FSIZE, 20_000):
        errors = [
            raised(write, big),
            raised(tf.train.Checkpoint(v=tf.Variable(tf.zeros([9000]))).write, str(big)),
            raised(lambda: h5py.File(big, "w").create_dataset("x", data=np.zeros(9000))),
        ]
    for error in errors:
        assert f"{big}" in system_errors.explained(error)
        assert ": File too large; a limit on the size of files" in system_errors.explained(error)
    with limit(resource.RLIMIT_NOFILE, 3):
        errors = [raised(write, tmp_path / "x"), raised(write_python, tmp_path / "x")]
    for error in errors:
        assert system_errors.explained(error).startswith(f"{tmp_path}/x: Too many open files; ")


def test_memory():
    for error in (
        raised(np.zeros, [1 << 30, 1 << 20]),
        MemoryError(),
        # as TensorFlow and XLA word it; TensorFlow waits ten seconds before it does
        tf.errors.ResourceExhaustedError(
            None, None, "{{function_node f}} OOM when allocating tensor with shape[4] [Op:Fill] n: "
        ),
        tf.errors.ResourceExhaustedError(
            None, None, "Out of memory while trying to allocate 9 bytes. [Op:__inference_f_8]"
        ),
    ):
        found = system_errors.explained(error)
        assert found.startswith("out of memory") and "use smaller batches" in found
        assert "function_node" not in found and "[Op:" not in found


@gin.configurable(module="test_system_errors")
def inner(path):
    return write_python(path)


@gin.configurable(module="test_system_errors")
def outer(path):
    return inner(path)


def test_gin_does_not_hide_the_number(tmp_path):
    error = raised(outer, tmp_path / "no" / "x")
    assert error.errno is None, "gin keeps it now: system_errors.original is not needed any more"
    assert system_errors.explained(error).startswith(f"{tmp_path}/no/x: No such file")


def test_the_name_of_a_file_that_is_being_written_is_not_the_users(tmp_path):
    with limit(resource.RLIMIT_FSIZE, 1000):
        error = raised(write, tmp_path / "unfinished-0123456789ab-s.jsonl")
    said = system_errors.explained(error)
    assert said.startswith(f"{tmp_path}/s.jsonl: File too large; ")
    kept = OSError(errno.ENOSPC, "", "my-unfinished-0123456789ab-s.jsonl")  # a name of the user's
    assert system_errors.explained(kept).startswith("my-unfinished-0123456789ab-s.jsonl: ")
