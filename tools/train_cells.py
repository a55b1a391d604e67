#!/usr/bin/env python3
"""Trains the cells of a study that `--elsewhere DIR` has written, on any device that JAX knows.

    tools/train_cells.py DIR
    tools/train_cells.py DIR --minutes 9 --only 1M/
    tools/train_cells.py DIR DIR2 DIR3

Needs JAX, NumPy, the folder, and run_programs.py and compare_runs.py beside it: carry these to the
machine. Of several folders, programs that are the same are compiled once. What comes of a cell is a
file in DIR/found, written whole; cells that have one are left alone, so that a stopped call goes on
where it was, and several machines may each take a part by --only. Bring DIR/found back, and call
the study's own command again.
"""

import argparse
from collections.abc import Iterator
import functools
import hashlib
import json
from pathlib import Path
import sys
import time

import numpy as np
import run_programs


class Measured:
    """Sets that losses are measured on, in batches of the evaluation program.

    Args:
      arrays: "<set>/<feature>" -> [N, ...].
      names: of the sets.
      program: the evaluation's entry of the manifest.
      put: brings an array to the device.
    """

    def __init__(self, arrays: dict, names: list[str], program: dict, put):
        features = {
            name.removeprefix("batches/"): (shape, dtype)
            for name, shape, dtype in program["arguments"]
            if name.startswith("batches/")
        }
        size = next(iter(features.values()))[0][0]
        self.counts = {name: len(arrays[f"{name}/{next(iter(features))}"]) for name in names}
        self._batches = {}
        for name, count in self.counts.items():
            self._batches[name] = []
            for start in range(0, count, size):
                rows = np.arange(start, start + size)
                rows[rows >= count] = 0
                batch = {
                    f"batches/{feature}": put(arrays[f"{name}/{feature}"][rows].astype(dtype))
                    for feature, (_, dtype) in features.items()
                }
                self._batches[name].append(batch)

    def ask(self, name: str, program, store: dict) -> list[dict]:
        """Losses of a set, still on the device."""
        return [program(store, batch) for batch in self._batches[name]]

    def read(self, name: str, asked: list[dict]) -> tuple[np.ndarray, np.ndarray]:
        """(sums, counts) by example, float64."""
        count = self.counts[name]
        sums, counts = (
            np.concatenate([np.asarray(one[part], np.float64) for one in asked])[:count]
            for part in ("sums", "counts")
        )
        return sums, counts


class Folder:
    """What a study has written."""

    def __init__(self, path: Path):
        self.path = path
        self.manifest = run_programs.read_manifest(path, "a study's --elsewhere")
        if "cells" not in self.manifest:
            sys.exit(f"{path} holds programs and no models to train: run run_programs.py on it.")
        self.cells = self.manifest["cells"]

    @functools.cached_property
    def examples(self) -> dict:
        """Feature -> rows."""
        return dict(np.load(self.path / "examples.npz"))

    @functools.cached_property
    def batches(self):
        """Cell -> rows of the examples, [steps, B]."""
        return np.load(self.path / "batches.npz")

    @functools.cached_property
    def measured(self) -> dict:
        """ "<set>/<feature>" -> rows."""
        return dict(np.load(self.path / "measured.npz"))

    def programs(self, cell: dict) -> str:
        """A digest of the programs that a cell takes."""
        described = self.manifest["sizes"][cell["size"]]["programs"]
        found = hashlib.sha256(self.manifest["precision"].encode())
        for name in ("train_step", "evaluation"):
            file = described[name]["files"][self.manifest["precision"]]
            found.update((self.path / file).read_bytes())
        return found.hexdigest()

    def place(self, cell: dict) -> Path:
        """Where what comes of a cell is written."""
        return self.path / "found" / f"{cell['name'].replace('/', '__')}.json"

    def has(self, cell: dict) -> bool:
        """Whether the cell was trained, as it is now."""
        try:
            found = json.loads(self.place(cell).read_text(encoding="utf-8"))
            return found["fingerprint"] == cell["fingerprint"]
        except (OSError, ValueError, KeyError):
            return False

    def keep(self, cell: dict, found: dict) -> None:
        """Writes what came of a cell, whole."""
        part = self.path / "found" / "part"
        part.parent.mkdir(exist_ok=True)
        part.write_text(json.dumps(found), encoding="utf-8")
        part.replace(self.place(cell))


class Programs:
    """The two programs of a size, compiled."""

    def __init__(self, folder: Folder, cell: dict, device):
        described = folder.manifest["sizes"][cell["size"]]["programs"]
        self.step, self.evaluation = (
            run_programs.Compiled(
                folder.path, described[name], folder.manifest["precision"], device
            )
            for name in ("train_step", "evaluation")
        )


class Size:
    """One size of model in one folder: its programs, and what its models are measured on."""

    def __init__(self, folder: Folder, number: int, programs: Programs, device):
        import jax

        self.known, self._folder = folder.manifest["sizes"][number], folder.path
        self.step, self.evaluation, self._device = programs.step, programs.evaluation, device
        described = self.known["programs"]
        self._arguments = described["train_step"]["arguments"]
        self.measured = Measured(
            folder.measured,
            folder.manifest["measured"],
            described["evaluation"],
            lambda array: jax.device_put(array, device),
        )
        self._values: dict[int, dict] = {}

    def store(self, seed: int, pace: float) -> dict:
        """Name -> array on the device, as before a run's first step."""
        import jax

        if seed not in self._values:
            self._values[seed] = dict(np.load(self._folder / self.known["values"][str(seed)]))
        found = {}
        for name, shape, dtype in self._arguments:
            if not name.startswith("batches/"):
                value = self._values[seed].get(name)
                if value is None:
                    value = np.full(shape, pace if name.startswith("schedule") else 0, dtype)
                found[name] = jax.device_put(value, self._device)
        return found

    def batches(self, examples: dict, rows: np.ndarray) -> Iterator[dict]:
        """The batches of a run, one after the other."""
        import jax

        features = [
            (name, name.removeprefix("batches/"), dtype)
            for name, _, dtype in self._arguments
            if name.startswith("batches/")
        ]
        for chosen in rows:
            yield {
                name: jax.device_put(examples[feature][chosen].astype(dtype), self._device)
                for name, feature, dtype in features
            }


def train(size: Size, cell: dict, examples: dict, rows: np.ndarray, tell) -> dict:
    """Trains one cell; what came of it.

    Args:
      tell: called with the steps that are done, now and then.
    """
    import jax

    started, every = time.perf_counter(), size.known["evaluate_every"]
    store, first = size.store(cell["seed"], cell["pace"]), next(iter(size.measured.counts))
    metrics = [name for name in store if name.startswith("metrics/")]
    zeros = {name: np.zeros(store[name].shape, store[name].dtype) for name in metrics}
    asked, losses = [(0, size.measured.ask(first, size.evaluation, store))], []
    for step, batch in enumerate(size.batches(examples, rows), start=1):
        found = size.step(store, batch)
        if step % every == 0:
            losses.append((step, found["logs/loss"]))
            store |= {name: jax.device_put(zero) for name, zero in zeros.items()}
            asked.append((step, size.measured.ask(first, size.evaluation, store)))
            jax.block_until_ready(losses[-1][1])
            tell(step)
    curve, sets = [], {}
    for step, answers in asked:
        sums, counts = size.measured.read(first, answers)
        curve.append([step, float(sums.sum() / counts.sum())])
    if not np.isfinite([loss for _, loss in curve]).all():
        sys.exit(f"{cell['name']}: the test loss is not finite; lower its learning rate.")
    for name in size.measured.counts:
        answers = asked[-1][1] if name == first else size.measured.ask(name, size.evaluation, store)
        sums, counts = size.measured.read(name, answers)
        sets[name] = {"sums": sums.tolist(), "counts": counts.tolist()}
    return {
        "fingerprint": cell["fingerprint"],
        "curve": curve,
        "train_curve": [[step, float(np.asarray(loss))] for step, loss in losses],
        "sets": sets,
        "seconds": time.perf_counter() - started,
    }


def run(folders: list[Folder], only: str, minutes: float | None) -> int:
    """Trains what is left, cells of the same programs one after the other.

    Returns:
      How many cells are left then.
    """
    import jax

    jax.config.update("jax_enable_x64", True)  # Keras counts an optimizer's steps in int64
    began, device = time.monotonic(), jax.devices()[0]
    for folder in folders:
        run_programs.check_device(folder.path, folder.manifest, device)
    cells = [(f, cell) for f in folders for cell in f.cells if cell["name"].startswith(only)]
    if not cells:
        sys.exit(f"--only {only}: no cell's name begins so; they are such as"
                 f" {folders[0].cells[0]['name']}.")  # fmt: skip
    by_programs: dict[str, list] = {}
    for folder, cell in cells:
        if not folder.has(cell):
            by_programs.setdefault(folder.programs(cell), []).append((folder, cell))
    left = [pair for pairs in by_programs.values() for pair in pairs]
    for pairs in by_programs.values():
        programs = Programs(*pairs[0], device)
        size, started, trained = None, time.monotonic(), 0
        for folder, cell in pairs:
            a_step = (time.monotonic() - started) / trained if trained else 0.0
            if minutes and time.monotonic() - began + a_step * cell["steps"] > 60 * minutes:
                return len(left)
            if size is None or size.known is not folder.manifest["sizes"][cell["size"]]:
                size = Size(folder, cell["size"], programs, device)

            def tell(step: int, cell=cell) -> None:
                if sys.stderr.isatty():
                    print(f"\r{cell['name']}: {step}/{cell['steps']}", end="", file=sys.stderr)

            found = train(size, cell, folder.examples, folder.batches[cell["name"]], tell)
            found |= {"device": device.device_kind, "precision": folder.manifest["precision"]}
            folder.keep(cell, found)
            left.pop(0)
            trained += cell["steps"]
            a_step = (time.monotonic() - started) / trained
            remaining = a_step * sum(other["steps"] for _, other in left)
            print(
                f"{len(cells) - len(left)}/{len(cells)} {folder.path.name} {cell['name']}:"
                f" {cell['steps']} steps in {found['seconds']:.1f} s, test loss"
                f" {found['curve'][-1][1]:.4f}, {remaining / 60:.1f} minutes left",
                flush=True,
            )
        del programs, size  # before the next ones take memory
    return len(left)


def main() -> None:
    """Trains until nothing is left or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--only", default="", metavar="START", help="cells whose names begin so")
    parser.add_argument("--minutes", type=float, help="begin no cell that would end after so many")
    options = parser.parse_args()
    if left := run([Folder(path) for path in options.folders], options.only, options.minutes):
        print(f"{left} cells are left: run the same command again")


if __name__ == "__main__":
    main()
