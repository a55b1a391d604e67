import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

import dr_keras

PROGRAM = Path(__file__).parent / "distributed_pipelines.py"


@pytest.fixture(scope="module")
def results():
    """What two replicas got; logical devices must be made before TensorFlow has begun."""
    paths = [str(Path(dr_keras.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", ["top_k", "top_k_from_function"])
def test_each_replica_gets_its_half_of_every_batch_of_the_best(results, case):
    # scores are the row numbers: of 16 rows the last 8 stay
    assert results[case] == [
        [list(range(first, first + 4)), list(range(first + 4, first + 8))]
        for first in (8, 24, 40, 56)
    ]


def test_the_filter_decides_the_same_on_two_replicas(results):
    alone = results["filter_alone"]
    got = [row for step in results["filter"] for part in step for row in part]
    assert len(alone) > 20
    assert got == alone[: len(alone) // 8 * 8]
    assert all(len(part) == 4 for step in results["filter"] for part in step)


def test_fit_under_a_strategy_sees_the_weighted_loss(results):
    # learning rate 0, so that the loss is that of the weights the model began with
    assert results["reweight_fit"] == pytest.approx(results["reweight_expected"], rel=1e-4)
