"""Cells that another machine trains: what is sent, what is taken, and the same figures."""

import contextlib
import functools
import importlib.util
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import rows_of
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.models.text_models import language_model
from dr_keras.studies.arm_streams import Draw
from dr_keras.studies.cells import Material, cell
from dr_keras.studies.elsewhere import CellsAwaited, Elsewhere
from dr_keras.studies.grid import Grid
from dr_keras.studies.workers import Workers
from dr_keras.training.trainers import LanguageModelTrainer

TOOL = Path(__file__).parents[2] / "tools" / "train_cells.py"
BUILD = functools.partial(
    LanguageModelTrainer,
    functools.partial(language_model, 300, 8, width=8, layer_count=1, heads=1),
    steps=4, batch_size=4, evaluate_every=2, evaluation_batch_size=3,
)  # fmt: skip
SHORT = cell("tiny", "rater", 0.5, 1, 0.5)
CELLS = [cell("tiny", "unfiltered", 0.5, 0), cell("tiny", "rater", 0.5, 1), SHORT]


def windows(count, seed):
    """Some of them the same."""
    tokens = np.random.default_rng(seed).integers(1, 300, (count, 8)).astype(np.int32)
    tokens[1] = tokens[0]
    names = np.array(["a", "b"] * (count // 2), object)
    ids = np.array([f"{seed}.{row}" for row in range(count)], object)
    return ExampleSet({"tokens": tokens}, ids, names, names)


MATERIAL = Material(windows(20, 0), windows(8, 1), windows(4, 2), {"other": windows(4, 3)})


def half(cell) -> Draw:
    return Draw() if cell.arm == "unfiltered" else Draw(0.5, np.arange(10))


@contextlib.contextmanager
def grid(base_dir, folder=None, material=MATERIAL, build=BUILD, chosen="scores", **settings):
    with Grid(
        base_dir, {"tiny": build}, lambda: material, half, lambda cell: [chosen], Workers(0),
        elsewhere=Elsewhere(folder and os.fspath(folder), **settings),
    ) as made:  # fmt: skip
        yield made


def send(base_dir, folder, **settings):
    """The manifest of all cells, sent."""
    with grid(base_dir, folder, device="cpu", **settings) as study:
        study.begin(CELLS[:1])  # which begins nothing
        study.run(CELLS)
        with pytest.raises(CellsAwaited, match=r"3 cells .* `python train_cells.py there`"):
            study.found(CELLS)
    return json.loads((folder / "manifest.json").read_text())


def answer(folder, one, loss=1.5):
    """Writes what another machine would."""
    counts = {"test": 8, "validation": 4, "corpora/other": 4}
    found = {
        "fingerprint": one["fingerprint"], "device": "a machine", "precision": "float32",
        "seconds": 2.0, "curve": [[0, 6.0], [2, loss]], "train_curve": [[2, 5.0]],
        "sets": {n: {"sums": [7 * loss] * c, "counts": [7.0] * c} for n, c in counts.items()},
    }  # fmt: skip
    path = folder / "found" / f"{one['name'].replace('/', '__')}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found))
    return path


def test_what_is_sent_is_what_is_trained_here_and_what_comes_back_is_a_cell(tmp_path, capsys):
    folder = tmp_path / "there"
    manifest = send(tmp_path / "study", folder)
    assert [(one["name"], one["steps"], one["pace"]) for one in manifest["cells"]] == [
        ("tiny/unfiltered-0-0", 4, 1.0),
        ("tiny/rater-50-1", 4, 1.0),
        ("tiny/rater-50-1-in_50", 2, 2.0),
    ]
    examples = np.load(folder / "examples.npz")["tokens"]
    assert examples.dtype == np.uint16 and len(np.unique(examples, axis=0)) == len(examples)
    batches = np.load(folder / "batches.npz")
    with grid(tmp_path / "other") as here:
        for one, known in zip(CELLS, manifest["cells"], strict=True):
            stream, steps = here._here.stream(one, half(one))
            wanted = stream.examples.features["tokens"][rows_of(stream, steps)]
            np.testing.assert_array_equal(examples[batches[known["name"]]], wanted)
            trainer = here.trainer("tiny")
            trainer.reset(one.seed)
            values = np.load(folder / manifest["sizes"][0]["values"][str(one.seed)])
            for number, variable in enumerate(trainer.model.variables):
                np.testing.assert_array_equal(values[f"model/{number}"], variable.numpy())
    send(tmp_path / "again", tmp_path / "more" / "there")
    file = "size0.evaluation.float32.hlo.gz"  # the same bytes, so compiled once for both folders
    assert (folder / file).read_bytes() == (tmp_path / "more" / "there" / file).read_bytes()
    assert manifest["measured"] == ["test", "validation", "corpora/other"]

    path = answer(folder, manifest["cells"][2])
    capsys.readouterr()
    with grid(tmp_path / "study", folder, device="cpu") as study:
        study.run([SHORT])
        found = study.found([SHORT])[1]
        assert study.threads("tiny") == [0]
    assert "seed 1: 2/2 steps in 2s  test loss 1.500" in capsys.readouterr().err
    assert found["record"]["final_by_source"] == {"a": 1.5, "b": 1.5}
    assert found["record"]["tokens_seen"] == found["budget"]["tokens_seen"] == 2 * 4 * 7
    assert (found["validation_loss"], found["corpora"]) == (1.5, {"other": 1.5})
    assert (found["device"], found["threads"]) == ("a machine, float32", 0)

    path.write_text('{"fingerprint"')
    with grid(tmp_path / "new", folder, device="cpu") as study:
        with pytest.raises(CheckpointError, match="is damaged .* train that cell again"):
            study.run([SHORT])
    answer(folder, manifest["cells"][2])
    with grid(tmp_path / "new", folder, device="cpu", chosen="other scores") as study:
        study.run([SHORT])  # what came of another choice is not taken
        with pytest.raises(CellsAwaited, match="1 cells"):
            study.found([SHORT])


def test_what_cannot_be_trained_elsewhere_is_said_and_small_models_may_stay(tmp_path):
    with pytest.raises(ConfigurationError, match="no device 'gpu': choose of cpu, cuda, tpu"):
        Elsewhere(device="gpu")
    with pytest.raises(ConfigurationError, match="language_model.dtype = 'mixed_bfloat16'"):
        Elsewhere(precision="bfloat16")
    plain = functools.partial(BUILD, jit_compile=False)
    measured = functools.partial(plain, metrics={"zero": lambda outputs, batch: 0.0})
    with grid(tmp_path, tmp_path / "there", build=measured) as study:
        with pytest.raises(ConfigurationError, match="judged by zero, and only losses"):
            study.run(CELLS[:1])
    with grid(tmp_path, tmp_path / "there", build=plain, above=10**6) as study:
        study.run(CELLS[:1])
        assert study.found(CELLS[:1])[0]["threads"] > 0


@pytest.mark.long
def test_another_machine_comes_to_the_same_figures(tmp_path):
    """Its stopped call goes on with the cells that are left."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed: pip install 'dr_keras[aot]' brings it")
    folder, tools = tmp_path / "there", tmp_path / "tools"
    send(tmp_path / "study", folder)
    tools.mkdir()
    for name in ("train_cells.py", "run_programs.py", "compare_runs.py"):
        shutil.copy(TOOL.with_name(name), tools)

    def train(*flags):
        command = [sys.executable, str(tools / "train_cells.py"), str(folder), *flags]
        return subprocess.run(command, capture_output=True, text=True)

    assert "2/2 there tiny/rater-50-1-in_50: 2 steps in" in train("--only", "tiny/rater").stdout
    done = train()
    assert "3/3 there tiny/unfiltered-0-0: 4 steps" in done.stdout, done.stderr
    assert "no cell's name begins so" in train("--only", "huge").stderr
    assert not train().stdout
    with grid(tmp_path / "study", folder, device="cpu") as there, grid(tmp_path / "here") as here:
        for study in (there, here):
            study.run(CELLS)
        for one in CELLS:
            found, wanted = (study.files.read(one) for study in (there, here))
            for name in ("curve", "train_curve"):
                np.testing.assert_allclose(found["record"][name], wanted["record"][name], rtol=1e-4)
            assert found["validation_loss"] == pytest.approx(wanted["validation_loss"], rel=1e-4)
            assert found["corpora"] == pytest.approx(wanted["corpora"], rel=1e-4)
            assert found["budget"] == wanted["budget"]
