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


@gin.configurable
def two_kinds() -> Parts:
    """A line, and in the train part as many targets of noise."""

    def part(name, count, seed, noisy=False):
        random = np.random.default_rng(seed)
        inputs = random.normal(size=(count, 2))
        target = inputs @ [1.0, -1.0]
        is_noise = noisy & (np.arange(count) % 2 == 1)
        target[is_noise] = random.normal(size=is_noise.sum())
        features = {"x": np.column_stack([inputs, is_noise]), "target": target}
        features = {key: values.astype(np.float32) for key, values in features.items()}
        ids = np.array([f"{name}{k}" for k in range(count)], object)
        sources = np.where(is_noise, "noise", "line").astype(object)
        return ExampleSet(features, ids, sources, np.array(["all"] * count, object), name=name)

    return Parts(
        part("train", 64, 0, noisy=True),
        *(part(name, 8, seed) for seed, name in enumerate(("outer", "validation", "test"), 1)),
        disjoint=True,
    )


@gin.configurable
def line(kernel="zeros") -> keras.Model:
    inputs = keras.Input((3,), name="x")
    return keras.Model(inputs, keras.layers.Dense(1, kernel_initializer=kernel)(inputs))


@gin.configurable
def noting_exporter(rater, examples, scores, directory, metadata) -> str:
    """Writes what an artefact is made of."""
    assert len(scores) == len(examples) and len(rater.weights) == 2
    pathlib.Path(directory).mkdir()
    (pathlib.Path(directory) / "noted.json").write_text(json.dumps(metadata))
    return directory


BINDINGS = {
    "experiment.data": "@two_kinds",
    "experiment.rater": "@line",
    "experiment.inner_model": "@line",
    "experiment.per_example_loss": "@squared_error",
    "experiment.exporter": "@noting_exporter",
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
    # stopped by an error after the first epoch, and begun again in what looks like another process
    def stop(epoch, logs=None):
        raise Stopped

    stopping = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    configuration.parse([], [f"{name} = {value}" for name, value in BINDINGS.items()])
    with pytest.raises(Stopped):
        curated_run.train_curated(tmp_path, callbacks=[stopping])
    (first,) = curated_run.read_lines(tmp_path)
    gin.clear_config()
    assert call(tmp_path) == 0
    assert "8 steps on 4 of 8 examples, 4 meta-steps" in capsys.readouterr().out
    lines = curated_run.read_lines(tmp_path)
    assert [line["step"] for line in lines] == [4, 8] and lines[0] == first
    assert {"weight/line", "weight/noise", "kept/noise", "val_loss"} <= set(first)
    assert source_weights(lines).axes[0].get_xlim() == (2.0, 6.0)
    found = curated_run.read_record(tmp_path)
    assert found.flops["training"] == 8 * 3 * (2 * 3) * 4
    assert found.flops["total"] == sum(found.flops[n] for n in ("training", "scoring", "meta"))
    noted = json.loads((pathlib.Path(found.rater) / "noted.json").read_text())
    assert noted["meta_step"] == 4 and noted["chosen"].endswith("training of 8 steps")

    gin.clear_config()
    path = tmp_path / "record.json"
    seen = path.stat()
    assert call(tmp_path) == 0
    assert path.stat() == seen
    gin.clear_config()
    assert call(tmp_path, **{"train_curated.learning_rate": "1.0"}) == 2
    assert "learning_rate" in capsys.readouterr().err
    path.write_text(json.dumps(json.loads(path.read_text()) | {"more": 1}))
    gin.clear_config()
    assert call(tmp_path) == 2
    assert "delete it to train again" in capsys.readouterr().err


def test_a_budget_in_operations_buys_whole_epochs(tmp_path, capsys):
    flops = {"train_curated.flops": "1", "train_curated.steps_per_epoch": "4"}
    assert call(tmp_path, **flops) == 2
    assert "makes 0 epochs of 4 steps" in capsys.readouterr().err
