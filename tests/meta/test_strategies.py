"""A run on two replicas is the run on one device: rater, rows, checkpoints, blown-up members.

Devices and workers are set up before TensorFlow starts, so the runs are programs of their own; see
strategy_program.py beside this file.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from dr_keras.errors import ConfigurationError
from dr_keras.meta.devices import strategies
from dr_keras.meta.devices.placement import OneDevice

PROGRAM = pathlib.Path(__file__).with_name("strategy_program.py")
CHECKOUT = PROGRAM.parents[2]


def start(*arguments) -> subprocess.Popen:
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"},
    )


def finish(process: subprocess.Popen, status: int = 0, seconds: float = 600) -> str:
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == status, output[-3000:]
    return output


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def both_workers(folder, *arguments) -> list[subprocess.Popen]:
    ports = free_ports(2)
    return [start("worker", folder, index, *ports, *arguments) for index in (0, 1)]


def read(path: pathlib.Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------ two logical CPUs


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("compare")
    finish(start("compare", folder))
    return folder


@pytest.fixture
def comparison(compared) -> dict:
    return read(compared / "report.json")


def test_two_replicas_learn_the_rater_of_one_device(comparison):
    """Float64, 20 meta-steps, four members with dropout, two a replica, restarts included."""
    assert comparison["moved"] > 0.05
    assert comparison["difference"] < 1e-6 and comparison["bias_difference"] < 1e-6
    assert comparison["losses"] < 1e-9
    assert comparison["ages_equal"] and comparison["copies_equal"]


def test_a_meta_step_sums_as_many_bytes_as_documented(comparison):
    """docs/distributed.md: b (E + 1) + 4 + P (b (7 + T B) + 8)."""
    assert comparison["bytes"] == 8 * 26 + 4 + 4 * (8 * (7 + 2 * 8) + 8) == 980


def test_a_process_has_one_strategy_for_its_devices(comparison):
    """Two of them mix up their reductions: meta-training's with those of an evaluation's models."""
    assert comparison["asked_again"]


def test_members_lie_where_they_should_and_read_what_they_read_on_one_device(comparison):
    assert comparison["devices"] == [["CPU:0"], ["CPU:0"], ["CPU:1"], ["CPU:1"]]
    assert comparison["rows_equal"]
    batches = [tuple(batch) for member in comparison["rows"][0] for batch in member]
    assert len(set(batches)) == len(batches) == 8  # four members, two updates: no batch twice


def test_checkpoints_restore_under_the_other_strategy(comparison):
    assert comparison["resumed_from_one"] < 1e-6
    assert comparison["resumed_from_two"] < 1e-6


def test_a_member_that_blows_up_on_the_second_replica_touches_nobody(comparison):
    assert comparison["blown_up"] == {
        "finite": [True, True, True, False],
        "count": 1,
        "rater_finite": True,
        "restarted": [0, 0, 0, 1],
    }


def test_populations_that_cannot_be_spread_are_refused(comparison):
    population, inner, outer, estimator, statistics = comparison["refused"]
    assert "multiple of it (2, 4, 6, ...) or to a divisor (1), or use 1 devices" in population
    assert (
        "inner_batch_size is 7, which 2 replicas cannot share equally: make it a multiple of 2,"
        in inner
    )
    assert "outer_batch_size is 6, which 2 replicas in 2 micro-batches each cannot" in outer
    assert "The estimator function cannot split a member's batch over replicas" in estimator
    assert "keeps statistics over its batches" in statistics


# ------------------------------------------------------------------- a member on several replicas

LONG_SPLITS = [
    ("MixedMode", 2, False),
    ("MixedMode", 1, True),
    ("Recompute", 2, False),
    ("NestedTape", 1, True),
    ("FirstOrder", 2, False),
    ("EvolutionStrategies", 1, True),
]


def test_a_member_split_over_two_replicas_is_the_undivided_one(compared):
    """Dropout's masks are those of two micro-batches."""
    found = read(compared / "split" / "split.json")
    undivided(found, 1)
    # docs/distributed.md, with T updates more for checkpoint_every: T = 3, B = 8, R = 2.
    inner, rater, batch = 21, 25, 8
    member = (2 * 3 + 3) * inner + rater + (4 * 3 + 1) * batch + 2
    report = 2 * (8 * (7 + 3 * batch) + 8)
    assert found["inner_parameters"] == inner
    assert found["bytes"] == 8 * member + 8 * (rater + 1) + 4 + report == 3284


@pytest.mark.long
@pytest.mark.parametrize("estimator, members, jit", LONG_SPLITS)
def test_members_each_on_two_replicas_are_the_undivided_ones(estimator, members, jit, tmp_path):
    arguments = ["--members", members, "--estimator", estimator, *(["--jit"] if jit else [])]
    finish(start("split", tmp_path, *arguments))
    undivided(read(tmp_path / "split.json"), members)


def undivided(found: dict, members: int) -> None:
    """Float64, 20 meta-steps, T = 3; checkpoints; the last member blows up and starts again."""
    assert found["moved"] > 0.05
    assert found["difference"] < 1e-9 and found["bias_difference"] < 1e-6
    assert found["losses"] < 1e-9
    assert found["rows_equal"] and found["ages_equal"] and found["copies_equal"]
    assert found["resumed_from_one"] < 1e-6 and found["resumed_from_two"] < 1e-6
    others = [True] * (members - 1)
    assert found["blown_up"] == {
        "finite": [[*others, False], [*others, True]],
        "count": 1,
        "rater_moved": True,
        "rater_finite": True,
        "copies_equal": True,
    }


# ---------------------------------------------------------- models of an evaluation, data parallel


def test_models_of_an_evaluation_are_trained_by_two_replicas_as_by_one(compared):
    # The schedule and sums of losses are float32 in any case.
    trained_alike(read(compared / "language_model.json"), 1e-8)


@pytest.mark.long
def test_so_are_compiled_models_in_float32(tmp_path):
    finish(start("language_model", tmp_path, "--dtype", "float32", "--jit"))
    trained_alike(read(tmp_path / "language_model.json"), 1e-3)


def trained_alike(found: dict, close: float) -> None:
    assert found["gain"] > 0.2
    assert found["difference"] < close and max(found["curves"]) < 1e-6
    assert found["devices"] == ["CPU:0", "CPU:1"] and found["copies_equal"]
    assert found["fingerprints"] == 1 and found["seeds_differ"]
    batch, statistics = found["refused"]
    assert "batch_size is 7, which 2 replicas cannot share equally: make it a multiple" in batch
    assert "keeps statistics over its batches" in statistics


@pytest.mark.long
def test_in_float32_all_but_the_bias_of_the_scores_agrees(tmp_path):
    """The bias has no gradient but rounding, which Adam makes as large as any other."""
    finish(start("noise", tmp_path))
    report = read(tmp_path / "noise.json")
    assert report["moved"] > 0.05
    assert report["difference"] < 1e-4
    assert report["bias_difference"] < 20 * 2 * 0.01  # never more than two Adams' way
    assert report["losses"] < 1e-4


# ------------------------------------------------------------------- two processes over loopback


@pytest.mark.long
@pytest.mark.parametrize("members", [4, 1])
def test_two_workers_learn_the_rater_of_one_device(members, tmp_path):
    """Two members each, or one between them."""
    for process in both_workers(tmp_path, "--members", members):
        finish(process)
    alone = tmp_path / "alone"
    alone.mkdir()
    finish(start("one_device", alone, "--members", members))
    expected = read(alone / "one_device.json")
    for index in (0, 1):
        found = read(tmp_path / f"worker-{index}.json")
        here = [2 * index, 2 * index + 1] if members == 4 else [0]
        assert found["members_here"] == here
        np.testing.assert_allclose(found["rater"], expected["rater"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(found["losses"], expected["losses"], rtol=0, atol=1e-6)
        assert found["rows"] == expected["rows"] and found["ages"] == expected["ages"]
        assert found["validation"] == [1.5] * 4  # the chief's, on both


@pytest.mark.long
@pytest.mark.kill
@pytest.mark.parametrize("resume_as", ["worker", "one_device"])
def test_a_killed_worker_ends_the_run_and_it_resumes(resume_as, tmp_path):
    chief, worker = both_workers(tmp_path, "--steps", 40, "--pause", 0.5)
    for line in worker.stdout:
        if line.startswith("step 7"):
            break
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    output = finish(chief, status=2, seconds=300)
    assert "WorkerLostError: A worker of 2 does not answer any more, after meta-step" in output
    if resume_as == "worker":
        for process in both_workers(tmp_path):
            finish(process)
        found = read(tmp_path / "worker-0.json")
    else:
        finish(start("one_device", tmp_path))
        found = read(tmp_path / "one_device.json")
    assert found["began"] == 5
    alone = tmp_path / "alone"
    alone.mkdir()
    finish(start("one_device", alone))
    expected = read(alone / "one_device.json")
    np.testing.assert_allclose(found["rater"], expected["rater"], rtol=0, atol=1e-6)


@pytest.mark.long
def test_a_signal_to_one_worker_stops_all_of_them_after_a_save(tmp_path):
    chief, worker = both_workers(tmp_path, "--steps", 200, "--pause", 0.2)
    for line in worker.stdout:
        if line.startswith("step 3"):
            break
    time.sleep(0.1)
    worker.send_signal(signal.SIGTERM)
    finish(chief, status=128 + signal.SIGTERM)
    finish(worker, status=128 + signal.SIGTERM)
    steps = [
        int(path.name[len("state-") : -len(".index")])
        for path in (tmp_path / "run" / "checkpoints").glob("state-*.index")
    ]
    assert max(steps) >= 3 and max(steps) < 200


# ---------------------------------------------------------------------------------- what is named


def test_none_is_one_device():
    assert type(strategies.placement_of(None)) is OneDevice
    placement = strategies.one_device()
    assert strategies.placement_of(placement) is placement


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: strategies.placement_of("mirrored"), "strategy is 'mirrored': use @one_device"),
        (
            lambda: strategies.mirrored_strategy(devices=["GPU:7"]),
            r"mirrored_strategy.devices: \['GPU:7'\]; this machine has CPU:0",
        ),
        (
            lambda: strategies.mirrored_strategy(devices=["CPU:0"], logical_cpus=2),
            "both devices and logical_cpus",
        ),
        (lambda: strategies.mirrored_strategy(logical_cpus=0), "logical_cpus is 0"),
        (
            lambda: strategies.multi_worker_strategy(["a:1", "b:1"], 2),
            "index is 2: each worker needs its own place in the list of 2 workers",
        ),
        (lambda: strategies.multi_worker_strategy(["a:1", "b:1"]), "index is None"),
        (
            lambda: strategies.tpu_strategy(),
            r"No TPU 'local' can be used \((?!Graph execution error).+\): .* is not built for it."
            rf".* in this order: {'; '.join(map(re.escape, strategies.TPU_INSTALL))}\.",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


def test_without_workers_or_tf_config_says_what_to_set(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ConfigurationError, match="give multi_worker_strategy.workers"):
        strategies.multi_worker_strategy()


def test_too_late_for_a_split_or_a_cluster():
    """TensorFlow has started in this process."""
    import tensorflow as tf

    tf.constant(0)
    with pytest.raises(ConfigurationError, match="the CPU cannot be split any more"):
        strategies.mirrored_strategy(logical_cpus=3)
    with pytest.raises(ConfigurationError, match="comes too late"):
        strategies.multi_worker_strategy([f"127.0.0.1:{port}" for port in free_ports(1)], 0)
