import json

import numpy as np
import pytest

from dr_keras.commands import train_language_model as command
from dr_keras.config import configuration
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.training.trainers import LanguageModelTrainer
import gin


@gin.configurable
def counting_parts() -> Parts:
    """Parts whose rows count upwards: small and easy to learn."""

    def part(name, count, seed):
        rng = np.random.default_rng(seed)
        tokens = ((rng.integers(0, 16, (count, 1)) + np.arange(12)) % 16 + 1).astype(np.int32)
        ids = np.array([f"{name}{k}" for k in range(count)], object)
        sources = np.array(["s"] * count, object)
        return ExampleSet({"tokens": tokens}, ids, sources, sources, name=name)

    return Parts(
        part("train", 40, 0), part("outer", 8, 1), part("validation", 8, 2), part("test", 8, 3)
    )


BINDINGS = {
    "train_language_model.data": "@counting_parts",
    "LanguageModelTrainer.model_fn": "@language_model",
    "LanguageModelTrainer.steps": "20",
    "LanguageModelTrainer.batch_size": "8",
    "LanguageModelTrainer.jit_compile": "False",
    "language_model.vocabulary_size": "17",
    "language_model.sequence_length": "12",
    "language_model.width": "16",
    "language_model.layer_count": "1",
}


def call(base_dir, **changes):
    bindings = BINDINGS | {f"LanguageModelTrainer.{k}": repr(v) for k, v in changes.items()}
    arguments = [f"--gin_param={name} = {value}" for name, value in bindings.items()]
    return command.main([f"--base_dir={base_dir}", *arguments])


def test_a_run_leaves_its_files_and_is_not_repeated(tmp_path, capsys):
    assert call(tmp_path) == 0
    out = capsys.readouterr().out
    record = json.loads((tmp_path / "record.json").read_text())
    assert f"{record['curve'][-1][1]:.4f} nats per token" in out
    assert record["curve"][-1][0] == 20 and record["curve"][-1][1] < record["curve"][0][1]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert lines[-1]["validation_loss"] == record["curve"][-1][1]
    assert lines[-1]["loss"] == record["train_curve"][-1][1]
    assert list((tmp_path / "summaries" / "train").glob("events*"))
    assert "language_model.width = 16" in (tmp_path / "operative_config-0.gin").read_text()

    configuration.parse(gin_params=[f"{k} = {v}" for k, v in BINDINGS.items()])
    trainer = LanguageModelTrainer()
    trainer.model.load_weights(tmp_path / "final.weights.h5")
    sums, counts = trainer.losses(counting_parts().validation)
    assert sums.sum() / counts.sum() == pytest.approx(record["curve"][-1][1], rel=1e-5)

    before = (tmp_path / "record.json").stat().st_mtime_ns
    assert call(tmp_path) == 0
    assert (tmp_path / "record.json").stat().st_mtime_ns == before


def test_errors_are_one_plain_line(tmp_path, capsys):
    assert call(tmp_path / "a", batch_size=64) == 2
    assert "error: The set 'train' has 40 examples, fewer than one batch of 64" in (
        capsys.readouterr().err
    )
    assert call(tmp_path / "a", batch_size=8) == 2
    assert "holds a run with another configuration" in capsys.readouterr().err
    assert command.main([f"--base_dir={tmp_path / 'b'}"]) == 2
    assert "train_language_model" in capsys.readouterr().err


def test_a_damaged_record_is_named(tmp_path, capsys):
    assert call(tmp_path) == 0
    (tmp_path / "record.json").write_text('{"seed": 0')
    assert call(tmp_path) == 2
    assert "record.json is damaged" in capsys.readouterr().err
