"""Cells of a comparison: one training run of one arm from one seed, done once.

`<base_dir>/cells/<arm>-<seed>.json` holds the run's TrainingRecord and the fingerprint of what it
was trained on; a cell that is there with the same fingerprint is not run again.
"""

import dataclasses
import hashlib
import json
import pathlib

from dr_keras.data.examples import ExampleSet
from dr_keras.system import whole_files
from dr_keras.system.progress import Progress
from dr_keras.training.repeated_training import RepeatedTrainer, TrainingRecord


def run_cell(
    base_dir, trainer: RepeatedTrainer, arm: str, seed: int, data: ExampleSet, test: ExampleSet
) -> TrainingRecord:
    """The record of this arm and seed: read where it is done, else trained now, with progress.

    Interrupted training leaves no cell. Two processes that share `base_dir` may run different
    cells; a cell both run is written twice with the same content.
    """
    path = pathlib.Path(base_dir) / "cells" / f"{arm}-{seed}.json"
    parts = (trainer.fingerprint, data.fingerprint, test.fingerprint, str(seed))
    fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["fingerprint"] == fingerprint:
            return TrainingRecord(**stored["record"])
    shown = Progress(f"  {arm}, seed {seed}:", trainer.steps)
    note = ""

    def progress(step: int, steps: int, logs: dict[str, float]) -> None:
        nonlocal note
        if "test_loss" in logs:
            note = f"test loss {logs['test_loss']:.3f}"
        shown.update(step, note)

    record = trainer.train(data, test, seed, progress)
    shown.close(note)
    stored = {"fingerprint": fingerprint, "record": dataclasses.asdict(record)}
    whole_files.write_text(path, json.dumps(stored) + "\n")
    return record
