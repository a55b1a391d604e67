"""Cells that are trained on another machine, by programs that need no TensorFlow there.

What a study has not trained goes into a folder; `tools/train_cells.py FOLDER` trains it wherever
JAX runs, a GPU for instance; the study's next call takes what came of it, and goes on.

    <folder>/manifest.json               what follows
    <folder>/size<n>.<program>.<precision>.hlo.gz   "train_step" and "evaluation" of each size
    <folder>/size<n>.seed<s>.npz         initial values, those that `RepeatedTrainer.reset` gives
    <folder>/examples.npz                feature -> every example that a cell trains on, once
    <folder>/batches.npz                 cell -> rows of it, int32 [steps, B]
    <folder>/measured.npz                "<set>/<feature>" of the sets that losses are measured on
    <folder>/found/<cell>.json           what came of a cell, written there

The manifest (JSON) has

    format      1
    device, precision   what the programs were made for
    sizes       [{"name", "programs": as in `precompile.saved`, "evaluate_every", "values": {seed:
                file}}, ...]
    measured    names of the sets, the test part first
    cells       [{"name", "fingerprint", "size": number, "seed", "steps", "pace"}, ...], in the
                order in which they are to be trained

and what came of a cell

    fingerprint, device, precision, seconds
    curve       [[step, loss per target of the test part], ...] from step 0
    train_curve [[step, mean training loss since the one before], ...]
    sets        set -> {"sums": [...], "counts": [...]} by example, at the end

A cell that is trained there differs from one that is trained here by rounding.
"""

from collections.abc import Mapping
import dataclasses
import json
from pathlib import Path

import numpy as np

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import CheckpointError, ConfigurationError, DrKerasError
from dr_keras.precompile import programs, saved
from dr_keras.precompile.setup import features_in
from dr_keras.studies.cells import Cell, Material
from dr_keras.system import whole_files
from dr_keras.training.records import Losses
from dr_keras.training.trainers import RepeatedTrainer
import gin

FORMAT = 1


class CellsAwaited(DrKerasError):
    """A study cannot go on before cells have been trained elsewhere."""


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """Which cells are trained on another machine, and what that machine is.

    Args:
      folder: what goes there and comes from there; None trains all cells here.
      device: "cpu", "cuda" or "tpu".
      precision: "float32", or "tf32" on a GPU. bfloat16 is a setting of the model.
      above: models of at most so many parameters are trained here all the same.

    Raises:
      ConfigurationError: there is no such device or precision.
    """

    folder: str | None = None
    device: str = "cuda"
    precision: str = "float32"
    above: int = 0

    def __post_init__(self):
        if self.precision == "bfloat16":
            raise ConfigurationError(
                "Elsewhere.precision: bfloat16 is a setting of the model, which knows what must"
                " stay float32: language_model.dtype = 'mixed_bfloat16'."
            )
        saved.Contents(self.device, [self.precision], 0, None, True)  # which checks both

    def takes(self, parameters: int) -> bool:
        """Whether cells of models of this size are trained elsewhere."""
        return self.folder is not None and parameters > self.above


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a cell elsewhere.

    Attributes:
      curve, train_curve: as of a `TrainingRecord`.
      losses: set -> at the end; see `Material.measured`.
      seconds: that it took.
      device: that it was trained on, in words.
    """

    curve: list[list[float]]
    train_curve: list[list[float]]
    losses: Mapping[str, Losses]
    seconds: float
    device: str


class Exchange:
    """A folder for cells that are trained elsewhere.

    Args:
      settings: with a folder.
      material: what cells are measured on.

    Raises:
      ConfigurationError: there are tasks, which only TensorFlow asks.
    """

    def __init__(self, settings: Elsewhere, material: Material):
        if material.tasks:
            raise ConfigurationError(
                "Elsewhere.folder: multiple-choice tasks cannot be asked where models are trained"
                " without TensorFlow: train these cells here, or leave evidence.tasks out."
            )
        self._settings, self._folder = settings, Path(settings.folder or "")
        self._sets = material.measured()
        self._sizes: dict[str, dict] = {}
        self._cells: dict[str, dict] = {}
        self._batches: dict[str, np.ndarray] = {}
        self._examples = _Distinct()

    @property
    def awaited(self) -> list[str]:
        """Cells that were added, by name."""
        return list(self._cells)

    def outcome(self, cell: Cell, fingerprint: str) -> Outcome | None:
        """What came of a cell; None where it has not been trained, or on something else.

        Raises:
          CheckpointError: the file is damaged.
        """
        path = self._folder / "found" / f"{_file(cell.name)}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["fingerprint"] != fingerprint:
                return None
            losses = {
                name: Losses(np.array(values["sums"]), np.array(values["counts"]))
                for name, values in found["sets"].items()
            }
            return Outcome(
                found["curve"],
                found["train_curve"],
                {name: losses[name] for name in self._sets},
                found["seconds"],
                f"{found['device']}, {found['precision']}",
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} is damaged ({error!r}): copy it once more, or remove it and train that"
                " cell again."
            ) from error

    def add(
        self,
        cell: Cell,
        fingerprint: str,
        size: str,
        trainer: RepeatedTrainer,
        examples: ExampleSet,
        rows: np.ndarray,
    ) -> None:
        """A cell that is to be trained.

        Args:
          size: whose trainer it has; its values for the cell's seed are kept as well.
          examples, rows: its batches, int [steps, B].

        Raises:
          ConfigurationError: the trainer has metrics beside the loss.
        """
        if trainer.metrics:
            raise ConfigurationError(
                f"Elsewhere.folder: models of size {size} are judged by"
                f" {', '.join(trainer.metrics)}, and only losses are measured elsewhere: train"
                " these cells here."
            )
        if size not in self._sizes:
            self._sizes[size] = self._new_size(len(self._sizes), size, trainer, examples)
        number = list(self._sizes).index(size)
        values = self._sizes[size]["values"]
        if str(cell.seed) not in values:
            values[str(cell.seed)] = self._values(number, cell.seed, trainer)
        self._cells[cell.name] = {
            "name": cell.name,
            "fingerprint": fingerprint,
            "size": number,
            "seed": cell.seed,
            "steps": len(rows),
            "pace": trainer.steps / len(rows),
        }
        self._batches[cell.name] = self._examples.add(examples, rows)

    def _new_size(
        self, number: int, size: str, trainer: RepeatedTrainer, examples: ExampleSet
    ) -> dict:
        features, precision = features_in(examples), self._settings.precision
        made = [programs.train_step(trainer, features), programs.evaluation(trainer, features)]
        return {
            "name": size,
            "evaluate_every": trainer.evaluate_every,
            "values": {},
            "programs": {
                program.name: saved.save_program(
                    self._folder, f"size{number}.{program.name}", program, precision
                )
                for program in made
            },
        }

    def _values(self, number: int, seed: int, trainer: RepeatedTrainer) -> str:
        trainer.reset(seed)
        variables = list(trainer.model.variables)
        leaves = programs.named(variables, "model")
        values = {leaf.name: v.numpy() for leaf, v in zip(leaves, variables, strict=True)}
        file = f"size{number}.seed{seed}.npz"
        # Random numbers do not shrink.
        whole_files.write_arrays(self._folder / file, values, compressed=False)
        return file

    def send(self) -> None:
        """Writes all that was added, the manifest last.

        Raises:
          CellsAwaited: always: the study goes on once they have been trained.
        """
        folder = self._folder
        whole_files.write_arrays(folder / "examples.npz", self._examples.arrays())
        whole_files.write_arrays(folder / "batches.npz", self._batches)
        measured = {
            f"{name}/{feature}": _small(values[:])
            for name, examples in self._sets.items()
            for feature, values in examples.features.items()
        }
        whole_files.write_arrays(folder / "measured.npz", measured)
        manifest = {
            "format": FORMAT,
            "device": self._settings.device,
            "precision": self._settings.precision,
            "sizes": list(self._sizes.values()),
            "measured": list(self._sets),
            "cells": list(self._cells.values()),
        }
        whole_files.write_text(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        raise CellsAwaited(
            f"{len(self._cells)} cells of this study are to be trained elsewhere, and lie in"
            f" {folder}. Carry it to a machine with JAX for {self._settings.device}, with"
            " tools/train_cells.py, run_programs.py and compare_runs.py, run `python train_cells.py"
            f" {folder.name}` there, bring {folder.name}/found back, and call this command again."
        )


class _Distinct:
    """Examples by their content, each once."""

    def __init__(self):
        self._places: dict[bytes, int] = {}
        self._kept: dict[str, list[np.ndarray]] = {}

    def add(self, examples: ExampleSet, rows: np.ndarray) -> np.ndarray:
        """Where the rows of a set are to be found; int32, of the shape of `rows`."""
        wanted, inverse = np.unique(rows, return_inverse=True)
        features = {name: values[wanted] for name, values in sorted(examples.features.items())}
        columns = [np.ascontiguousarray(values) for values in features.values()]
        places, fresh = np.empty(len(wanted), np.int32), []
        for n in range(len(wanted)):
            content = b"".join(column[n].tobytes() for column in columns)
            if content not in self._places:
                self._places[content] = len(self._places)
                fresh.append(n)
            places[n] = self._places[content]
        for name, values in features.items():
            self._kept.setdefault(name, []).append(values[fresh])
        return places[inverse.reshape(rows.shape)]

    def arrays(self) -> dict[str, np.ndarray]:
        """Feature -> all of them."""
        return {name: _small(np.concatenate(parts)) for name, parts in self._kept.items()}


def _small(values: np.ndarray) -> np.ndarray:
    """Integers in the smallest type that holds them; the programs say what they are."""
    if not np.issubdtype(values.dtype, np.integer) or not values.size:
        return values
    bounds = values.min(), values.max()
    return values.astype(np.promote_types(*map(np.min_scalar_type, bounds)))


def _file(name: str) -> str:
    return name.replace("/", "__")
