"""Checkpoints: whole or not there, damaged ones named, the newest few kept."""

import errno
import os
import pathlib
import resource

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import CheckpointError
from dr_keras.meta.checkpoints import Checkpoints, load_rater_weights, rater_path, rater_steps
from dr_keras.meta.optimizers import adam


@pytest.fixture
def saved(regression_trainer, tmp_path):
    """A trainer whose state of meta-step 4 and 6 is in tmp_path, and its Checkpoints."""
    trainer = regression_trainer()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_trainer(trainer)
    for step in (4, 6):
        trainer.meta_step.assign(step)
        checkpoints.save()
    return trainer, checkpoints


def restore_in_new(regression_trainer, folder, **arguments):
    checkpoints = Checkpoints(folder)
    checkpoints.set_trainer(regression_trainer(**arguments))
    return checkpoints.restore()


def files(folder, pattern="*") -> list[str]:
    return sorted(path.name for path in (pathlib.Path(folder) / "checkpoints").glob(pattern))


def test_an_empty_folder_has_nothing_to_restore(regression_trainer, tmp_path):
    assert restore_in_new(regression_trainer, tmp_path) is None
    assert rater_steps(tmp_path) == []


def test_the_newest_state_is_restored(saved, regression_trainer, tmp_path):
    trainer, _ = saved
    other = regression_trainer(rater_seed=9, seed=9)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_trainer(other)
    assert checkpoints.restore() == 6 and int(other.meta_step) == 6
    for a, b in zip(*(tf.nest.flatten(t.variables()) for t in (trainer, other))):
        np.testing.assert_array_equal(a, b)


def test_names_on_disk(saved, tmp_path):
    assert files(tmp_path) == [
        "rater-4.sha256",
        "rater-4.weights.h5",
        "rater-6.sha256",
        "rater-6.weights.h5",
        "state-4.data-00000-of-00001",
        "state-4.index",
        "state-6.data-00000-of-00001",
        "state-6.index",
    ]
    assert rater_steps(tmp_path) == [4, 6]


def test_old_states_go_and_all_raters_stay(regression_trainer, tmp_path):
    trainer = regression_trainer()
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.set_trainer(trainer)
    for step in (1, 2, 9, 10, 11):  # 9 before 10: by number, not by name
        trainer.meta_step.assign(step)
        checkpoints.save()
    assert files(tmp_path, "state-*.index") == ["state-10.index", "state-11.index"]
    assert len(files(tmp_path, "state-*.data*")) == 2
    assert rater_steps(tmp_path) == [1, 2, 9, 10, 11]


# --------------------------------------------------------------------------------------- damage


REMEDY = r"state-6\.\* to resume from meta-step 4"


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_state_is_named_with_the_way_out(
    suffix, share, saved, regression_trainer, tmp_path
):
    path = tmp_path / "checkpoints" / f"state-6.{suffix}"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=REMEDY):
        restore_in_new(regression_trainer, tmp_path)


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
def test_a_flipped_byte_anywhere_is_noticed(suffix, saved, regression_trainer, tmp_path):
    trainer, checkpoints = saved
    path = tmp_path / "checkpoints" / f"state-6.{suffix}"
    content = path.read_bytes()
    expected = [v.numpy() for v in tf.nest.flatten(trainer.variables())]
    noticed = 0
    for place in np.linspace(0, len(content) - 1, 12).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            checkpoints.restore()
        except CheckpointError as error:
            assert "state-6" in str(error) and "damaged" in str(error)
            noticed += 1
        else:  # a byte of padding: it must not matter
            for a, b in zip(expected, tf.nest.flatten(trainer.variables())):
                np.testing.assert_array_equal(a, b)
    assert noticed >= 9


def test_a_missing_data_file_is_named(saved, regression_trainer, tmp_path):
    (tmp_path / "checkpoints" / "state-6.data-00000-of-00001").unlink()
    with pytest.raises(CheckpointError, match=REMEDY):
        restore_in_new(regression_trainer, tmp_path)


def test_the_way_out_works(saved, regression_trainer, tmp_path):
    for path in (tmp_path / "checkpoints").glob("state-6.*"):
        path.unlink()
    assert restore_in_new(regression_trainer, tmp_path) == 4


def test_the_only_state_damaged_means_starting_again(saved, regression_trainer, tmp_path):
    for path in (tmp_path / "checkpoints").glob("state-4.*"):
        path.unlink()
    (tmp_path / "checkpoints" / "state-6.index").write_bytes(b"")
    with pytest.raises(CheckpointError, match="start again in an empty base_dir"):
        restore_in_new(regression_trainer, tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"population_size": 3},
        {"population_size": 1},
        {"inner_optimizer": adam()},
        {"inner_model": lambda: wider_model()},
        {"rater": lambda: wider_model()},
    ],
    ids=["larger", "smaller", "optimizer", "inner_model", "rater"],
)
def test_another_configuration_is_refused(arguments, saved, regression_trainer, tmp_path):
    with pytest.raises(CheckpointError, match="state-6 cannot be restored .*another configuration"):
        restore_in_new(regression_trainer, tmp_path, **arguments)


def wider_model() -> keras.Model:
    x = keras.Input((3,), name="x")
    return keras.Model({"x": x}, keras.layers.Dense(1)(keras.layers.Dense(7)(x)))


# ------------------------------------------------------------------------------------ atomicity


def test_a_save_that_breaks_off_leaves_the_older_checkpoint(
    saved, regression_trainer, tmp_path, monkeypatch
):
    trainer, checkpoints = saved
    trainer.meta_step.assign(8)

    def broken(path, **arguments):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(trainer.rater, "save_weights", broken)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save()
    assert rater_steps(tmp_path) == [4, 6]
    assert restore_in_new(regression_trainer, tmp_path) == 6


def test_half_a_state_without_its_index_is_not_looked_at(saved, regression_trainer, tmp_path):
    (tmp_path / "checkpoints" / "state-8.data-00000-of-00001").write_bytes(b"half")
    (tmp_path / "checkpoints" / "unfinished-rater-8.weights.h5").write_bytes(b"half")
    assert rater_steps(tmp_path) == [4, 6]
    assert restore_in_new(regression_trainer, tmp_path) == 6


def test_what_a_kill_left_is_removed_and_what_is_whole_stays(saved, tmp_path):
    folder, before = tmp_path / "checkpoints", files(tmp_path)
    (tmp_path / "unfinished-1a2b-metrics.jsonl").write_bytes(b"half")
    for name in (
        "unfinished-rater-8.weights.h5", "unfinished-1a2b-rater-8.sha256",
        "state-8.data-00000-of-00001", "state-2.data-00000-of-00001",
        "state-8.index.tempstate123", "state-6.index.tempstate123",
    ):  # fmt: skip
        (folder / name).write_bytes(b"half")
    (folder / "state-8_temp").mkdir()
    (folder / "state-8_temp" / "part-00000-of-00001.index").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    saved[1].remove_leftovers()
    assert files(tmp_path) == ["notes.txt", *before]
    assert sorted(os.listdir(tmp_path)) == ["checkpoints"]
    assert saved[1].restore() == 6


@pytest.mark.parametrize("place", range(6))
def test_a_kill_between_any_two_steps_of_a_save(
    saved, regression_trainer, tmp_path, monkeypatch, place
):
    """What is there afterwards is whole, and the same save done again gives the same files."""
    trainer, checkpoints = saved
    trainer.meta_step.assign(8)
    left = place

    def killed_after(real):
        def call(*arguments, **named):
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return real(*arguments, **named)

        return call

    monkeypatch.setattr(os, "replace", killed_after(os.replace))
    monkeypatch.setattr(trainer.rater, "save_weights", killed_after(trainer.rater.save_weights))
    monkeypatch.setattr(tf.train.Checkpoint, "write", killed_after(tf.train.Checkpoint.write))
    monkeypatch.setattr(pathlib.Path, "unlink", killed_after(pathlib.Path.unlink))
    checkpoints.keep = 2
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save()
    monkeypatch.undo()
    for step in rater_steps(tmp_path):
        load_rater_weights(trainer.rater, tmp_path, step)
    whole = files(tmp_path, "state-8.index")
    assert restore_in_new(regression_trainer, tmp_path) == (8 if whole else 6)
    checkpoints.remove_leftovers()
    checkpoints.save()
    assert files(tmp_path, "state-*") == [
        f"state-{step}.{suffix}" for step in (6, 8)
        for suffix in ("data-00000-of-00001", "index")
    ]  # fmt: skip
    assert rater_steps(tmp_path) == [4, 6, 8] and not files(tmp_path, "unfinished*")


# --------------------------------------------------------------------------------- rater weights


def test_rater_weights_come_back(saved, regression_trainer, tmp_path):
    trainer, _ = saved
    other = regression_trainer(rater_seed=5).rater
    load_rater_weights(other, tmp_path, 4)
    for a, b in zip(trainer.rater.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_an_unknown_step_lists_those_that_exist(saved, tmp_path):
    with pytest.raises(CheckpointError, match=r"no rater of meta-step 5; it has \[4, 6\]"):
        load_rater_weights(saved[0].rater, tmp_path, 5)
    with pytest.raises(CheckpointError, match="no rater of meta-step 5; it has none"):
        load_rater_weights(saved[0].rater, tmp_path / "elsewhere", 5)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
def test_truncated_rater_weights_are_named(share, saved, tmp_path):
    path = rater_path(tmp_path, 4)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="rater-4.weights.h5 is damaged.*another step: 6"):
        load_rater_weights(saved[0].rater, tmp_path, 4)


def test_any_flipped_byte_in_rater_weights_is_noticed(saved, tmp_path):
    """HDF5 has no checksum over its data: it would load most of these without a word."""
    trainer, _ = saved
    path = rater_path(tmp_path, 4)
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 60)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        with pytest.raises(CheckpointError, match="is damaged"):
            load_rater_weights(trainer.rater, tmp_path, 4)


def test_weights_of_another_architecture_are_refused(saved, tmp_path):
    with pytest.raises(CheckpointError, match="damaged or belongs to another rater"):
        load_rater_weights(wider_model(), tmp_path, 4)


def _raise_in_mid_write(monkeypatch, trainer, what):
    """The disk is full once half of a file is written."""
    full = OSError(errno.ENOSPC, "No space left on device")

    def save_weights(path, overwrite):
        pathlib.Path(path).write_bytes(b"half")
        raise full

    def write(self, path):
        pathlib.Path(f"{path}_temp").mkdir()
        pathlib.Path(f"{path}_temp", "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
        raise full

    if what == "rater":
        monkeypatch.setattr(trainer.rater, "save_weights", save_weights)
    elif what == "checksum":
        monkeypatch.setattr("dr_keras.meta.checkpoints.file_checksum", lambda path: 1 / 0)
    else:
        monkeypatch.setattr(tf.train.Checkpoint, "write", write)


@pytest.mark.parametrize("what", ["rater", "checksum", "state"])
def test_a_disk_that_fills_up_leaves_no_half_of_a_checkpoint(saved, tmp_path, monkeypatch, what):
    trainer, checkpoints = saved
    before = files(tmp_path)
    trainer.meta_step.assign(8)
    _raise_in_mid_write(monkeypatch, trainer, what)
    with pytest.raises((OSError, ZeroDivisionError)) as caught:
        checkpoints.save()
    if what == "rater":
        assert caught.value.filename == str(rater_path(tmp_path, 8))
    new = [] if what != "state" else ["rater-8.sha256", "rater-8.weights.h5"]
    assert files(tmp_path) == sorted([*before, *new])


def test_a_limit_on_the_size_of_files_ends_in_an_error_and_not_in_hdf5(saved, tmp_path):
    trainer, checkpoints = saved
    before = files(tmp_path)
    trainer.meta_step.assign(8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OSError) as caught:
            checkpoints.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (caught.value.errno, caught.value.filename) == (
        errno.EFBIG, str(rater_path(tmp_path, 8))
    )  # fmt: skip
    assert files(tmp_path) == before


def test_weights_have_their_name_only_whole_and_with_their_checksum(
    saved, regression_trainer, tmp_path, monkeypatch
):
    trainer, checkpoints = saved
    trainer.meta_step.assign(8)
    real, final = os.replace, str(rater_path(tmp_path, 8))

    def replace(source, target):
        assert rater_steps(tmp_path) == [4, 6]
        real(source, target)
        if os.fspath(target) == final:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save()
    other = regression_trainer(rater_seed=5).rater
    load_rater_weights(other, tmp_path, 8)
    for a, b in zip(trainer.rater.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)
    # the state was still to come: the run goes on from the one before
    assert restore_in_new(regression_trainer, tmp_path) == 6


def test_a_full_disk_leaves_the_older_checkpoint(
    saved, regression_trainer, tmp_path, no_room_beyond
):
    trainer, checkpoints = saved
    trainer.meta_step.assign(8)
    folder = tmp_path / "checkpoints"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    # without room for the weights, and with room for all but a few of their bytes
    for room in (500, rater_path(tmp_path, 6).stat().st_size - 10):
        with pytest.raises(OSError, match="rater-8"), no_room_beyond(room):
            checkpoints.save()
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert restore_in_new(regression_trainer, tmp_path) == 6
