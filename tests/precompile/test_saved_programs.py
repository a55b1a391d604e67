"""Programs that were saved, and run without TensorFlow, against the trainer that they came from."""

import importlib.util
import json
from pathlib import Path
import subprocess
import sys

import keras
import numpy as np
import pytest
import tiny_quickstart

from dr_keras.config import configuration
from dr_keras.errors import ConfigurationError
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.precompile import saved, setup
from dr_keras.runs.experiment import experiment

RUNNER = Path(__file__).parents[2] / "tools" / "run_programs.py"
TINY = [
    *tiny_quickstart.MODELS,
    "MetaTrainer.advance_updates = 1",
    "MetaTrainer.lifetime = 21",  # members start again on the way
    "MetaTrainer.inner_batch_size = 8",
    "MetaTrainer.outer_batch_size = 8",
    "adam.learning_rate = 3e-3",
    "OuterAdam.warmup = 2",
]
MEMBER_STEPS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("saved")
    configuration.parse("experiments/quickstart.gin", TINY)
    parts = setup.configured_parts()
    contents = saved.Contents("cpu", ["float32"], MEMBER_STEPS, parts, exact=True)
    built = {"float32": setup.from_gin(setup.features_in(parts))}
    saved.save(found, built, ["meta_step", "advance", "score", "train_step"], contents)
    return found


def run(folder, *flags):
    return subprocess.run(
        [sys.executable, str(RUNNER), str(folder), *flags], capture_output=True, text=True
    )


def lines_of(folder, kind):
    lines = (folder / "lines.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


class Records(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.found = []

    def set_trainer(self, trainer):
        self.trainer = trainer

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(self.trainer.last_record)


@pytest.mark.long
def test_saved_programs_meta_train_as_the_trainer_does(folder):
    pytest.importorskip("jax", reason="JAX is not installed: pip install 'dr_keras[aot]' brings it")
    done = run(folder, "--out", str(folder / "lines.jsonl"))
    assert done.returncode == 0, done.stderr
    configuration.parse("experiments/quickstart.gin", TINY)
    made, records = experiment(), Records()
    trainer = MetaTrainer(made.rater, made.inner_model, made.per_example_loss)
    trainer.fit(made.parts.train, made.parts.outer, MEMBER_STEPS, callbacks=[records])
    lines = lines_of(folder, "meta_step")
    assert len(lines) == len(records.found) == MEMBER_STEPS
    assert any(record.reinitialised for record in records.found)
    for line, record in zip(lines, records.found):
        for name, values in record.members.items():
            np.testing.assert_allclose(line[name], values, rtol=2e-4, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(line["scores"], record.scores, rtol=1e-3, atol=2e-5)
    assert np.ptp(lines[-1]["scores"]) > 1e-2  # the rater has moved
    (scores,) = lines_of(folder, "scores")
    rows = {name: v[: len(scores["scores"])] for name, v in made.parts.validation.features.items()}
    expected = keras.ops.convert_to_numpy(made.rater(rows))
    np.testing.assert_allclose(scores["scores"], expected, rtol=1e-3, atol=2e-5)


def test_a_folder_says_what_enters_and_leaves(folder):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    programs = manifest["programs"]
    assert set(programs) == {
        "meta_step", "advance", "score", "train_step", "collect", "rater_update"
    }  # fmt: skip
    entering = {name: shape for name, shape, _ in programs["meta_step"]["arguments"]}
    leaving = {name: shape for name, shape, _ in programs["meta_step"]["results"]}
    assert entering["batches/inner/tokens"] == [2, 8, 8]
    assert leaving["report/scores"] == [2, 8]
    # A member's state and slots come back under the names by which they went in.
    fed_back = {name for name in entering if name.startswith(("member/", "outer_adam/slots/"))}
    assert fed_back <= set(leaving) and all(entering[n] == leaving[n] for n in fed_back)
    assert [0, 0, 0] in manifest["beginnings"] and [0, 1, 0] in manifest["beginnings"]
    values = np.load(folder / "values.npz")
    assert {name.split("/")[0] for name in values} >= {"0.0", "1.0", "rater", "model"}
    rows = np.load(folder / "windows.npz")
    assert rows["rows/inner"].shape == (MEMBER_STEPS, 2, 3, 8)


def test_a_folder_for_another_device_is_refused(folder, tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed: pip install 'dr_keras[aot]' brings it")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"device": "cuda"}))
    done = run(tmp_path, "--out", str(tmp_path / "lines.jsonl"))
    assert done.returncode == 1
    assert "was made for cuda, and JAX runs on cpu here" in done.stderr
    done = run(tmp_path, "--precision", "tf32")
    assert "--precision tf32" in done.stderr and "has float32" in done.stderr


def test_ranks_and_what_is_compared():
    spec = importlib.util.spec_from_file_location("run_programs", RUNNER)
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    assert runner.ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    assert runner.rank_correlation([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    assert np.isnan(runner.rank_correlation([1, 1, 1], [1, 2, 3]))
    assert runner.peaks("495") == dict.fromkeys(("float32", "tf32", "bfloat16"), 495.0)
    assert runner.peaks("tf32=495,bfloat16=989") == {"tf32": 495.0, "bfloat16": 989.0}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"device": "gpu"}, "no device 'gpu': choose of cpu, cuda, tpu"),
        ({"precisions": ["tf32"]}, "no precision 'tf32' on cpu: choose of float32, bfloat16"),
    ],
)
def test_a_device_or_precision_that_is_none(changes, message):
    settings = dict(device="cpu", precisions=["float32"], meta_steps=1, parts=None, exact=True)
    with pytest.raises(ConfigurationError, match=message):
        saved.Contents(**(settings | changes))
