"""Cells: not run twice, by whichever process; the same figures by one worker and by two."""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import threading
import time

import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import CheckpointError, ConfigurationError, DrKerasError, NonFiniteError
from dr_keras.models.text_models import language_model
from dr_keras.studies.arm_streams import Draw, MixedIn
from dr_keras.studies.cells import CellTrainer, Material, cell
from dr_keras.studies.grid import Grid
from dr_keras.studies.workers import SMALL, Pool, Workers, own_threads, sendable
from dr_keras.system.claims import Claims
from dr_keras.training.trainers import LanguageModelTrainer

SEEDS = (0, 1)


def windows(documents, each=2, seed=0):
    ids = [f"doc{d}#{k}" for d in range(documents) for k in range(each)]
    tokens = np.random.default_rng(seed).integers(1, 20, (len(ids), 8)).astype(np.int32)
    names = np.array(["a"] * len(ids), object)
    return ExampleSet({"tokens": tokens}, np.array(ids, object), names, names)


MODEL = functools.partial(language_model, 20, 8, width=8, layer_count=1, heads=1)
BUILD = functools.partial(
    LanguageModelTrainer, MODEL, steps=4, batch_size=4, evaluate_every=2, jit_compile=False
)


def half(cell) -> Draw:
    return Draw() if cell.arm == "unfiltered" else Draw(0.5, np.arange(10))


@contextlib.contextmanager
def grid(base_dir, count, documents=10, build=BUILD, draw=half, chosen="scores"):
    material = Material(windows(documents), windows(4, seed=1))
    with Grid(
        base_dir, {"tiny": build}, lambda: material, draw, lambda cell: [chosen],
        Workers(count, None),
    ) as made:  # fmt: skip
        yield made


def cells(arms=("unfiltered", "rater")):
    return [cell("tiny", arm, 0.5, seed) for seed in SEEDS for arm in arms]


def test_padded_windows_and_the_target_are_trained_on_as_the_budget_says():
    """With and without the target the same compiled step sees as many tokens of every arm."""
    train = windows(10)
    train.features["tokens"][::2, 3:] = 0
    target = MixedIn(windows(2, seed=2), 0.25)
    material = Material(train, windows(4, seed=1), equal_tokens=True, target=target)
    trainer = CellTrainer({"tiny": BUILD}, lambda: material)
    seen = []
    for size in ("tiny", "tiny + target"):
        for arm in ("unfiltered", "rater"):
            found = trainer.run(cell(size, arm, 0.5, 0), half(cell(size, arm, 0.5, 0)))
            seen.append((found["record"]["tokens_seen"], found["budget"]["tokens_seen"]))
            # Of 16 draws a quarter, to within one.
            drawn = found["budget"]["target_tokens_seen"] / 7
            assert abs(drawn - 4) <= 1 if "target" in size else drawn == 0
    assert seen == [(4 * 4 * 7,) * 2] * 4
    assert trainer.trainer("tiny").traces["train"] == 1
    bare = material.bare()
    assert bare.fingerprint == material.fingerprint
    assert bare.fingerprint != dataclasses.replace(material, equal_tokens=False).fingerprint


def test_a_cell_is_read_back_and_run_again_only_for_other_data_or_another_choice(tmp_path, capsys):
    wanted = cells(["rater"])[:1]
    with grid(tmp_path, 0) as study:
        study.run(wanted)
        first = study.files.read(wanted[0])
    assert (first["record"]["examples"], first["discard_fraction"]) == (10, 0.5)
    assert first["budget"]["passes"] == 4 * 8 / 20 and first["threads"] == own_threads()
    path = tmp_path / "cells" / "tiny" / "rater-50-0.json"
    stored = json.loads(path.read_text())
    stored["record"]["curve"][-1][1] = -1.0  # shows that the file is what comes back
    path.write_text(json.dumps(stored))
    with grid(tmp_path, 0) as study:
        study.run(wanted)
        assert study.found(wanted)[0]["record"]["curve"][-1][1] == -1.0
    assert "tiny rater 50%, seed 0: 4/4 steps" in capsys.readouterr().err
    for changes in ({"documents": 12}, {"chosen": "others"}):
        with grid(tmp_path, 0, **changes) as study:
            assert study.files.read(wanted[0]) is None
            study.run(wanted)
            assert study.found(wanted)[0]["record"]["curve"][-1][1] > 0
    path.write_text("{")
    with grid(tmp_path, 0) as study, pytest.raises(CheckpointError, match="is damaged"):
        study.run(wanted)


def test_one_worker_and_two_agree_to_the_digit(tmp_path, capsys):
    """Whether the cells were begun beside other work or not."""
    found = {}
    for count in (1, 2):
        base_dir = tmp_path / str(count)
        with grid(base_dir, count) as study:
            if count == 2:
                study.begin(cells(["unfiltered"]))
                assert len(study._pool._workers) == 2
            study.run(cells())
            found[count] = [study.files.read(cell) for cell in cells()]
            assert study.found(cells(["rater"])) and study.threads("tiny") == [1]
        assert not list((base_dir / "claims").rglob("*.claim"))
        assert len(list((base_dir / "summaries" / "cells" / "tiny").iterdir())) == 4
    assert "tiny unfiltered, seed 1: 4/4 steps" in capsys.readouterr().out  # said when waited for
    for one, two in zip(found[1], found[2], strict=True):
        for figures in (one, two):
            del figures["record"]["seconds"]
        assert one == two


def test_a_worker_that_dies_ends_the_study_and_names_the_cell(tmp_path):
    wanted = cells()

    def draw(cell):
        if cell == wanted[1]:  # the first is done, and its worker is given the second
            os.kill(study._pool._workers[0].process.pid, signal.SIGKILL)
        return half(cell)

    with (
        grid(tmp_path, 1, draw=draw) as study,
        pytest.raises(DrKerasError, match=r"trained tiny rater 50%, seed 0 ended .* status -9"),
    ):
        study.run(wanted)
    assert not study._pool
    assert [path.stem for path in (tmp_path / "cells" / "tiny").iterdir()] == ["unfiltered-0-0"]
    assert not list((tmp_path / "claims").rglob("*.claim"))


def test_what_a_training_raises_in_a_worker_is_raised_here(tmp_path):
    build = functools.partial(BUILD, learning_rate=1e30, clip_norm=None)
    with grid(tmp_path, 1, build=build) as study:
        study.begin(cells()[:1])
        with pytest.raises(NonFiniteError, match="test loss"):
            study.run(cells()[:1])
    assert not (tmp_path / "cells").exists()


def test_what_another_process_is_at_is_waited_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dr_keras.studies.grid._POLL", 0.05)
    wanted = cells()[:1]
    with grid(tmp_path / "there", 0) as other:
        other.run(wanted)
    done = other.files.path(wanted[0]).read_text()
    claims = Claims(str(tmp_path / "here" / "claims"))

    def finish():
        time.sleep(0.5)
        study.files.path(wanted[0]).parent.mkdir(parents=True)
        study.files.path(wanted[0]).write_text(done)

    with grid(tmp_path / "here", 1) as study, claims.taken(wanted[0].name):
        threading.Thread(target=finish).start()
        study.run(wanted)
        assert study._pool._workers == []
    assert "waiting for 1 in other processes" in capsys.readouterr().out


def test_who_trains_follows_from_the_size_of_the_model():
    cores = len(os.sched_getaffinity(0))
    assert Workers().for_model(SMALL, True) == (cores, 1)
    assert Workers().for_model(SMALL + 1, True) == (0, own_threads())
    assert Workers().for_model(SMALL, False) == (0, own_threads())
    assert Workers(3).for_model(SMALL, True) == (3, 1)
    assert Workers(1).for_model(SMALL + 1, True) == (1, cores)
    assert Workers(threads_a_model=1).for_model(SMALL + 1, True) == (cores, 1)
    with pytest.raises(ConfigurationError, match="this process trains the models itself"):
        Workers(0, own_threads() + 1).for_model(SMALL, True)
    for wrong in ({"count": -1}, {"threads_a_model": 0}):
        with pytest.raises(ConfigurationError, match="at least"):
            Workers(**wrong)


def test_models_that_cannot_be_sent_are_trained_here(tmp_path, capsys):
    build = lambda: BUILD()  # noqa: E731
    assert sendable({"tiny": build}) is None
    with grid(tmp_path, 1, build=build) as study:
        study.run(cells()[:1])
        assert study._pool is None
    assert "trained in this process" in capsys.readouterr().out


def test_ending_a_pool_ends_its_processes():
    material = Material(windows(10), windows(4, seed=1))
    with Pool({"tiny": BUILD}, lambda: material, "", 2, 1) as pool:
        for wanted in cells()[:2]:
            pool.begin(wanted, half(wanted))
        assert not pool.has_room
        processes = [worker.process for worker in pool._workers]
        assert all(process.is_alive() for process in processes)
    assert not any(process.is_alive() for process in processes)
