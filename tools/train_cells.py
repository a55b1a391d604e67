#!/usr/bin/env python3
"""Trains the cells of a study that `--elsewhere DIR` has written, on any device that JAX knows.

    tools/train_cells.py DIR
    tools/train_cells.py DIR --minutes 9 --only 1M/

Needs JAX, NumPy, the folder, and run_programs.py and compare_runs.py beside it: carry these to the
machine. What comes of a cell is a file in DIR/found, written whole; cells that have one are left
alone, so that a stopped call goes on where it was, and several machines may each take a part by
--only. Bring DIR/found back, and call the study's own command again.
"""

import argparse
from collections.abc import Iterator
import json
from pathlib import Path
import sys
import time

import numpy as np
import run_programs

FORMAT = 1


def read_manifest(folder: Path) -> dict:
    """The folder's manifest; SystemExit where there is none that this program reads."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(
            f"{folder} has no readable manifest.json ({error}): a study writes it with --elsewhere"
            f" {folder}."
        )
    if manifest.get("format") != FORMAT or "cells" not in manifest:
        sys.exit(
            f"{folder} has format {manifest.get('format')} or no cells, this program reads"
            f" {FORMAT}: take tools/train_cells.py of the dr_keras that made it."
        )
    return manifest


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


class Size:
    """The programs of one size of model, compiled, and what its models are measured on."""

    def __init__(self, folder: Path, manifest: dict, number: int, measured: dict, device):
        import jax

        self.known, self._folder, self._device = manifest["sizes"][number], folder, device
        described, precision = self.known["programs"], manifest["precision"]
        self.step, self.evaluation = (
            run_programs.Compiled(folder, described[name], precision, device)
            for name in ("train_step", "evaluation")
        )
        self._arguments = described["train_step"]["arguments"]
        self.measured = Measured(
            measured,
            manifest["measured"],
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


def path_of(folder: Path, cell: dict) -> Path:
    """Where what comes of a cell is written."""
    return folder / "found" / f"{cell['name'].replace('/', '__')}.json"


def is_done(folder: Path, cell: dict) -> bool:
    """Whether the cell was trained, as it is now."""
    path = path_of(folder, cell)
    try:
        return json.loads(path.read_text(encoding="utf-8"))["fingerprint"] == cell["fingerprint"]
    except (OSError, ValueError, KeyError):
        return False


def run(folder: Path, only: str, minutes: float | None) -> int:
    """Trains what is left; how many cells are left then."""
    import jax

    jax.config.update("jax_enable_x64", True)  # Keras counts an optimizer's steps in int64
    began, manifest, device = time.monotonic(), read_manifest(folder), jax.devices()[0]
    run_programs.check_device(folder, manifest, device)
    cells = [cell for cell in manifest["cells"] if cell["name"].startswith(only)]
    if not cells:
        sys.exit(f"--only {only}: no cell's name begins so; they are such as"
                 f" {manifest['cells'][0]['name']}.")  # fmt: skip
    left = [cell for cell in cells if not is_done(folder, cell)]
    examples, measured = (dict(np.load(folder / f"{n}.npz")) for n in ("examples", "measured"))
    batches = np.load(folder / "batches.npz")
    (folder / "found").mkdir(exist_ok=True)
    size, number, started, trained = None, None, 0.0, 0
    while left:
        cell = left[0]
        if cell["size"] != number:
            size = None  # before the next one takes memory
            number = cell["size"]
            size = Size(folder, manifest, number, measured, device)
            started, trained = time.monotonic(), 0
        a_step = (time.monotonic() - started) / trained if trained else 0.0
        if minutes and time.monotonic() - began + a_step * cell["steps"] > 60 * minutes:
            break

        def tell(step: int, cell=cell) -> None:
            if sys.stderr.isatty():
                print(f"\r{cell['name']}: {step}/{cell['steps']}", end="", file=sys.stderr)

        found = train(size, cell, examples, batches[cell["name"]], tell)
        found |= {"device": device.device_kind, "precision": manifest["precision"]}
        path, part = path_of(folder, cell), folder / "found" / "part"
        part.write_text(json.dumps(found), encoding="utf-8")
        part.replace(path)
        left.pop(0)
        trained += cell["steps"]
        a_step = (time.monotonic() - started) / trained
        remaining = a_step * sum(other["steps"] for other in left)
        print(
            f"{len(cells) - len(left)}/{len(cells)} {cell['name']}: {cell['steps']} steps in"
            f" {found['seconds']:.1f} s, test loss {found['curve'][-1][1]:.4f},"
            f" {remaining / 60:.1f} minutes left",
            flush=True,
        )
    return len(left)


def main() -> None:
    """Trains until nothing is left or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--only", default="", metavar="START", help="cells whose names begin so")
    parser.add_argument("--minutes", type=float, help="begin no cell that would end after so many")
    options = parser.parse_args()
    if left := run(options.folder, options.only, options.minutes):
        print(f"{left} cells are left: run the same command again")


if __name__ == "__main__":
    main()
