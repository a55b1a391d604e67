"""Checkpoints of a run: the trainer's whole state, and the rater's weights by themselves.

    <base_dir>/checkpoints/state-<step>.*            everything resuming needs (the newest few)
    <base_dir>/checkpoints/rater-<step>.weights.h5   the rater alone (every checkpoint of the run)
    <base_dir>/checkpoints/rater-<step>.sha256       its checksum, which HDF5 does not have

The state is for resuming, the rater for exporting and for comparing raters along training. A
file has its final name only when it is whole. A state is kept by member, not by device, so that it
restores under any strategy with as many members.
"""

import errno
import hashlib
import os
import pathlib
import re
import shutil

import keras
import tensorflow as tf

from dr_keras.errors import CheckpointError
from dr_keras.system import whole_files
import gin

_STATE = re.compile(r"state-(\d+)\.index$")
# Of a bundle that is being written, or removed, and may have no index yet or any more.
_STATE_FILE = re.compile(r"(state-\d+)(_temp$|\.(index|data-).*)")
_RATER = re.compile(r"rater-(\d+)\.weights\.h5$")

_HDF5_OVERHEAD = 1 << 13  # bytes an object; it takes 1 to 2 KiB

# What h5py and TensorFlow's reader raise, depending on where a file was cut or overwritten.
_DAMAGE = (OSError, ValueError, LookupError, RuntimeError, TypeError)


def _steps(folder: pathlib.Path, pattern: re.Pattern) -> list[int]:
    if not folder.is_dir():
        return []
    found = (pattern.match(entry.name) for entry in folder.iterdir())
    return sorted(int(match.group(1)) for match in found if match)


def rater_steps(base_dir) -> list[int]:
    """Meta-steps whose rater weights are kept, ascending."""
    return _steps(pathlib.Path(base_dir) / "checkpoints", _RATER)


def rater_path(base_dir, step: int) -> pathlib.Path:
    return pathlib.Path(base_dir) / "checkpoints" / f"rater-{step}.weights.h5"


def _checksum_path(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(path.name.replace(".weights.h5", ".sha256"))


def file_checksum(path: str | os.PathLike) -> str:
    """Hex SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_weights(model: keras.Model, path: str) -> None:
    """Writes the weights; raises OSError where there is no room for them."""
    # HDF5 ends the process with a segmentation fault where the disk is full: room is asked for
    # first, for the values and what HDF5 keeps about each and about its groups.
    size = sum(variable.value.dtype.size * variable.value.shape.num_elements()
               for variable in model.variables)  # fmt: skip
    size += _HDF5_OVERHEAD * (1 + len(model.variables) + len(model._flatten_layers()))
    with open(path, "wb") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise
    model.save_weights(path, overwrite=True)


def load_rater_weights(rater: keras.Model, base_dir, step: int) -> None:
    """Loads the weights of meta-step `step` into `rater`.

    Raises:
      CheckpointError: no such step, a damaged file, or weights of another architecture.
    """
    path = rater_path(base_dir, step)
    if not path.exists():
        known = rater_steps(base_dir)
        raise CheckpointError(
            f"{base_dir} has no rater of meta-step {step}; it has {known or 'none'}."
        )
    checksum = _checksum_path(path)
    if not checksum.exists() or checksum.read_text(encoding="ascii").strip() != file_checksum(path):
        others = [str(other) for other in rater_steps(base_dir) if other != step]
        raise CheckpointError(
            f"{path} is damaged: it does not have the checksum in {checksum.name}. Choose another"
            f" step: {', '.join(others) or 'there is none'}."
        )
    try:
        rater.load_weights(path)
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path} cannot be loaded: it is damaged or belongs to another rater ({error}). Choose"
            " another step, or use the configuration that the run was made with."
        ) from error


@gin.configurable
class Checkpoints(keras.callbacks.Callback):
    """Saves at every epoch's end, on interruption and at the end of training.

    Args:
      base_dir: of the run.
      keep: how many trainer states are kept, the newest.
    """

    def __init__(self, base_dir, keep: int = 3):
        super().__init__()
        self.folder = pathlib.Path(base_dir) / "checkpoints"
        self.base_dir, self.keep = pathlib.Path(base_dir), max(1, keep)
        self._trainer = None

    def set_trainer(self, trainer) -> None:
        self._trainer = trainer

    def remove_leftovers(self) -> None:
        """Removes what a process that was killed had half written or half removed.

        Only the process that writes the run may call it, and only while it writes nothing.
        """
        whole_files.remove_unfinished(self.base_dir)
        whole_files.remove_unfinished(self.folder)
        whole = {f"state-{step}" for step in _steps(self.folder, _STATE)}
        for path in list(self.folder.iterdir()) if self.folder.is_dir() else []:
            found = _STATE_FILE.match(path.name)
            if not found or (found[1] in whole and ".tempstate" not in path.name):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def restore(self) -> int | None:
        """Restores the newest state into the trainer; its meta-step, or None without one.

        Raises:
          CheckpointError: the newest state is damaged or of another configuration.
        """
        steps = _steps(self.folder, _STATE)
        if not steps:
            return None
        path = self.folder / f"state-{steps[-1]}"
        try:
            self._read(str(path))
        except (*_DAMAGE, tf.errors.OpError, AssertionError) as error:
            remedy = (
                f"delete {path}.* to resume from meta-step {steps[-2]}"
                if len(steps) > 1
                else "start again in an empty base_dir"
            )
            reason = str(error).strip().splitlines()[0][:200]
            raise CheckpointError(
                f"The checkpoint {path} cannot be restored ({reason}): it is damaged or was made"
                f" by another configuration; {remedy}."
            ) from error
        return int(self._trainer.meta_step.numpy())

    def _read(self, path: str) -> None:
        status = tf.train.Checkpoint(**self._trainer.variables()).read(path)
        population = self._trainer.population
        if all(population.members):
            status.assert_consumed()
            return
        # This worker holds some of the members: all of its own are there, and no more than all.
        status.assert_existing_objects_matched().expect_partial()
        names = tf.train.load_checkpoint(path).get_variable_to_shape_map()
        members = {name.split("/")[1] for name in names if name.startswith("members/")}
        if len(members) != population.size:
            raise ValueError(f"it has {len(members)} members and not {population.size}")

    def save(self) -> None:
        """Writes rater and state of the present meta-step; of several workers the chief does."""
        state = self._trainer.gathered_variables()
        if not self._trainer.placement.is_chief:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        step = int(self._trainer.meta_step.numpy())
        final = rater_path(self.base_dir, step)
        with whole_files.replacing(final) as temporary:
            save_weights(self._trainer.rater, temporary)
            # First the checksum: weights with their final name always have it.
            whole_files.write_text(_checksum_path(final), file_checksum(temporary) + "\n")
        # The bundle's data file is written before its index, and only an index is looked for.
        path = str(self.folder / f"state-{step}")
        try:
            tf.train.Checkpoint(**state).write(path)
        except BaseException:
            shutil.rmtree(f"{path}_temp", ignore_errors=True)
            raise
        for old in _steps(self.folder, _STATE)[: -self.keep]:
            index = self.folder / f"state-{old}.index"
            index.unlink(missing_ok=True)
            for data in self.folder.glob(f"state-{old}.data-*"):
                data.unlink()

    def on_epoch_end(self, epoch, logs=None):
        self.save()

    def on_train_end(self, logs=None):
        step = int(self._trainer.meta_step.numpy())
        if step and step not in _steps(self.folder, _STATE):
            self.save()
