"""A run folder of a model beside which a rater learned."""

import json
import pathlib

import keras
import numpy as np
import pytest

from dr_keras.commands import train_curated as command
from dr_keras.config import configuration
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.report.curated_plots import source_weights
from dr_keras.runs import curated_run
import gin

LENGTH = 12


@gin.configurable
def two_kinds() -> Parts:
    """Windows that count upwards, and in the train part as many of noise."""

    def part(name, count, seed, noisy=False):
        random = np.random.default_rng(seed)
        tokens = (random.integers(0, 16, (count, 1)) + np.arange(LENGTH)) % 16 + 1
        is_noise = np.zeros(count, bool)
        if noisy:
            is_noise = np.arange(count) % 2 == 1
            tokens[is_noise] = random.integers(1, 17, (is_noise.sum(), LENGTH))
        ids = np.array([f"{name}{k}" for k in range(count)], object)
        sources = np.where(is_noise, "noise", "counting").astype(object)
        corpora = np.array(["all"] * count, object)
        return ExampleSet({"tokens": tokens.astype(np.int32)}, ids, sources, corpora, name=name)

    return Parts(
        part("train", 64, 0, noisy=True),
        *(part(name, 8, seed) for seed, name in enumerate(("outer", "validation", "test"), 1)),
        disjoint=True,
    )


@gin.configurable
def noting_exporter(rater, examples, scores, directory, metadata) -> str:
    """Writes what an artefact is made of."""
    assert rater.name == "text_rater" and len(scores) == len(examples)
    pathlib.Path(directory).mkdir()
    (pathlib.Path(directory) / "noted.json").write_text(json.dumps(metadata))
    return directory


BINDINGS = {
    "experiment.data": "@two_kinds",
    "experiment.rater": "@text_rater",
    "experiment.inner_model": "@language_model",
    "experiment.exporter": "@noting_exporter",
    "language_model.vocabulary_size": "17",
    "language_model.sequence_length": str(LENGTH),
    "language_model.width": "8",
    "language_model.layer_count": "1",
    "language_model.heads": "1",
    "text_rater.vocabulary_size": "17",
    "text_rater.sequence_length": str(LENGTH),
    "text_rater.width": "8",
    "text_rater.layer_count": "1",
    "text_rater.heads": "1",
    "CuratedModel.batch_size": "4",
    "CuratedModel.meta_every": "2",
    "CuratedModel.unroll_length": "1",
    "CuratedModel.outer_batch_size": "4",
    "train_curated.steps_per_epoch": "4",
    "train_curated.steps": "8",
    "train_curated.jit_compile": "False",
}


def call(base_dir, **changes):
    bindings = BINDINGS | changes
    arguments = [f"--gin_param={name} = {value}" for name, value in bindings.items()]
    return command.main([f"--base_dir={base_dir}", *arguments])


class Stopped(Exception):
    pass


def test_a_run_is_resumed_exports_its_rater_and_is_not_repeated(tmp_path, capsys):
    assert call(tmp_path / "whole") == 0
    out = capsys.readouterr().out
    assert "8 steps on 4 of 8 examples, 4 meta-steps" in out
    whole = curated_run.read_record(tmp_path / "whole")
    assert whole.flops["total"] == sum(whole.flops[n] for n in ("training", "scoring", "meta"))
    noted = json.loads((pathlib.Path(whole.rater) / "noted.json").read_text())
    assert noted["meta_step"] == 4 and noted["chosen"].endswith("training of 8 steps")

    # stopped by an error after the first epoch, and begun again in what looks like another process
    def stop(epoch, logs=None):
        raise Stopped

    stopping = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    gin.clear_config()
    configuration.parse([], [f"{name} = {value}" for name, value in BINDINGS.items()])
    with pytest.raises(Stopped):
        curated_run.train_curated(tmp_path / "stopped", callbacks=[stopping])
    assert len(curated_run.read_lines(tmp_path / "stopped")) == 1
    gin.clear_config()
    assert call(tmp_path / "stopped") == 0
    lines = [curated_run.read_lines(tmp_path / name) for name in ("whole", "stopped")]
    assert lines[0] == lines[1] and [line["step"] for line in lines[0]] == [4, 8]
    resumed = curated_run.read_record(tmp_path / "stopped")
    assert resumed.test_loss == whole.test_loss and resumed.flops == whole.flops
    assert source_weights(lines[0]).axes[0].get_xlim() == (2.0, 6.0)

    gin.clear_config()
    seen = (tmp_path / "whole" / "record.json").stat()
    assert call(tmp_path / "whole") == 0
    assert (tmp_path / "whole" / "record.json").stat() == seen
    gin.clear_config()
    assert call(tmp_path / "whole", **{"train_curated.learning_rate": "1.0"}) == 2
    assert "learning_rate" in capsys.readouterr().err
    record = json.loads((tmp_path / "whole" / "record.json").read_text())
    (tmp_path / "whole" / "record.json").write_text(json.dumps(record | {"more": 1}))
    gin.clear_config()
    assert call(tmp_path / "whole") == 2
    assert "delete it to train again" in capsys.readouterr().err


def test_a_budget_in_operations_buys_whole_epochs(tmp_path, capsys):
    flops = {"train_curated.flops": "1", "train_curated.steps_per_epoch": "4"}
    assert call(tmp_path, **flops) == 2
    assert "makes 0 epochs of 4 steps" in capsys.readouterr().err
