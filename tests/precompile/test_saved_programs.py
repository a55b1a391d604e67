"""Programs that were saved, and run without TensorFlow, against the trainer that they came from."""

import gzip
import importlib.util
import json
from pathlib import Path
import subprocess
import sys

import keras
import numpy as np
import pytest
from tensorflow.compiler.xla.service import hlo_pb2
import tiny_quickstart

from dr_keras.config import configuration
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.errors import ConfigurationError
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.losses import next_token_loss
from dr_keras.precompile import saved, setup

RUNNER = Path(__file__).parents[2] / "tools" / "run_programs.py"
TINY = [
    *tiny_quickstart.MODELS,
    "MetaTrainer.advance_updates = 1",
    "MetaTrainer.lifetime = 21",  # members start again on the way
    "MetaTrainer.inner_batch_size = 8",
    "MetaTrainer.outer_batch_size = 8",
    "adam.learning_rate = 3e-3",
    # Adam divides a gradient by its own size, also one that is nothing but rounding: not here.
    "adam.epsilon_root = 1e-6",
    "OuterAdam.epsilon = 1e-4",
]
META_STEPS = 20


WITHOUT_JAX = "JAX is not installed: pip install 'dr_keras[aot]' brings it"


def tokens(name, count, seed):
    """Windows of which half are one token over and over: something to learn to weigh."""
    drawn = np.random.default_rng(seed).integers(1, 258, (count, 8)).astype(np.int32)
    drawn[::2] = drawn[::2, :1]
    texts = np.array([f"{name}{row}" for row in range(count)], object)
    return ExampleSet({"tokens": drawn}, texts, texts, texts, name=name)


@pytest.fixture(scope="module")
def parts():
    sizes = {"train": 200, "outer": 60, "validation": 40, "test": 10}
    return Parts(*(tokens(name, size, n) for n, (name, size) in enumerate(sizes.items())))


def saved_in(found, names, precisions=("float32",), **contents):
    configuration.parse("experiments/quickstart.gin", TINY)
    built = {}
    for precision in precisions:
        with saved.computing_in(precision):
            built[precision] = setup.from_gin(parts=contents["parts"])
    saved.save(found, built, names, saved.Contents("cpu", precisions, META_STEPS, **contents))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory, parts):
    names = ["meta_step", "advance", "score", "train_step"]
    return saved_in(tmp_path_factory.mktemp("saved"), names, parts=parts, exact=True)


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """A folder of one program, whose values and windows a driver draws."""
    found = tmp_path_factory.mktemp("light")
    return saved_in(found, ["score"], ["float32", "bfloat16"], parts=None, exact=False)


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
def test_saved_programs_meta_train_as_the_trainer_does(folder, parts):
    pytest.importorskip("jax", reason=WITHOUT_JAX)
    done = run(folder, "--out", str(folder / "lines.jsonl"))
    assert done.returncode == 0, done.stderr
    configuration.parse("experiments/quickstart.gin", TINY)
    built, records = setup.from_gin(parts=parts), Records()
    rater = built.build_rater()
    trainer = MetaTrainer(rater, built.inner_model, next_token_loss)
    trainer.fit(parts.train, parts.outer, META_STEPS, callbacks=[records])
    lines = lines_of(folder, "meta_step")
    assert len(lines) == len(records.found) == META_STEPS
    assert any(record.reinitialised for record in records.found)
    for line, record in zip(lines, records.found):
        assert line["finite"] == record.members["finite"].tolist()
    apart = {}
    for name in (*records.found[0].members, "scores"):
        ours = np.array([line[name] for line in lines], np.float64)
        theirs = np.array([(r.members | {"scores": r.scores})[name] for r in records.found])
        apart[name] = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert {name: float(by) for name, by in apart.items() if by > 1e-4} == {}
    assert np.ptp(lines[-1]["scores"]) > 1e-2  # the rater has moved
    (scores,) = lines_of(folder, "scores")
    rows = parts.validation.features["tokens"][: len(scores["scores"])]
    expected = keras.ops.convert_to_numpy(rater({"tokens": rows}))
    np.testing.assert_allclose(scores["scores"], expected, atol=1e-4 * np.ptp(expected))


@pytest.mark.long
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
    batches = np.load(folder / "windows.npz")
    assert batches["inner/tokens"].shape == (META_STEPS, 2, 3, 8, 8)
    assert batches["outer/outer/tokens"].shape == (META_STEPS, 2, 8, 8)


def test_what_a_driver_draws_is_described(light):
    manifest = json.loads((light / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["windows"] == {"drawn": 258}
    assert sorted(path.name for path in light.iterdir()) == [
        "manifest.json", "score.bfloat16.hlo.gz", "score.float32.hlo.gz"
    ]  # fmt: skip
    initial = manifest["initial"]
    named = {name: shape for name, shape, _ in manifest["programs"]["score"]["arguments"]}
    embedding = next(name for name, shape in named.items() if shape == [258, 8])
    assert initial[embedding]["deviation"] == pytest.approx(0.02, rel=0.1)
    assert {"constant": 0.0} in initial.values() and {"constant": 1.0} in initial.values()


def test_precisions_are_in_the_programs(light):
    def products(precision):
        packed = (light / f"score.{precision}.hlo.gz").read_bytes()
        module = hlo_pb2.HloModuleProto.FromString(gzip.decompress(packed))
        return [i for c in module.computations for i in c.instructions if i.opcode == "dot"]

    exact, short = products("float32"), products("bfloat16")
    assert exact and all(list(i.precision_config.operand_precision) == [2, 2] for i in exact)
    assert short and all(2 not in i.precision_config.operand_precision for i in short)
    assert len([i for i in short if i.shape.element_type == 16]) > len(short) / 2  # BF16


def test_a_folder_for_another_device_is_refused(light, tmp_path):
    pytest.importorskip("jax", reason=WITHOUT_JAX)
    manifest = json.loads((light / "manifest.json").read_text(encoding="utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"device": "cuda"}))
    done = run(tmp_path, "--precision=float32", "--out", str(tmp_path / "lines.jsonl"))
    assert done.returncode == 1
    assert "was made for cuda, and JAX runs on cpu here" in done.stderr


def test_what_a_folder_lacks_is_said(light, tmp_path):
    for flags, message in (
        (["--precision=tf32"], "--precision tf32"),
        (["--steps=21"], "has 20; make it with a larger --meta_steps"),
    ):
        done = run(light, *flags)
        assert done.returncode == 1 and message in done.stderr
    assert "has no readable manifest.json" in run(tmp_path).stderr


def test_ranks_and_what_is_compared(capsys):
    spec = importlib.util.spec_from_file_location(
        "compare_runs", RUNNER.with_name("compare_runs.py")
    )
    comparison = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(comparison)
    assert comparison.ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    assert comparison.rank_correlation([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    assert np.isnan(comparison.rank_correlation([1, 1, 1], [1, 2, 3]))

    def lines(precision, loss, scores):
        step = {"kind": "meta_step", "outer_loss": [loss], "meta_gradient_norm": [1.0]}
        return [
            {"precision": precision, **line}
            for line in (step, {"kind": "scores", "scores": scores})
        ]

    comparison.show(lines("float32", 2.0, [1, 2, 3]) + lines("tf32", 2.2, [1, 3, 2]), [])
    said = capsys.readouterr().out
    assert "tf32 against float32: outer_loss differs by 0.1," in said
    assert "rank correlation 0.5000" in said


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
