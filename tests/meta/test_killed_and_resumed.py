"""Meta-training that is killed and started again: the files of the run that was left alone."""

import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

PROGRAM = pathlib.Path(__file__).with_name("killed_program.py")
ROOT = PROGRAM.parents[2]
STEPS, KILLS = 120, 10


def start(base_dir) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(base_dir), str(STEPS)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process) -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


def content(base_dir) -> dict[str, bytes]:
    """Every file but TensorBoard's, which have times, and the record made at each start."""
    found = {}
    for path in sorted(base_dir.rglob("*")):
        name = path.relative_to(base_dir).as_posix()
        if path.is_file() and not name.startswith(("summaries/", "operative_config-")):
            found[name] = path.read_bytes()
    return found


def saved(base_dir) -> int:
    return len(list((base_dir / "checkpoints").glob("rater-*.weights.h5")))


@pytest.mark.long
@pytest.mark.kill
def test_killed_at_ten_random_points_and_resumed(tmp_path):
    begin = time.monotonic()
    finish(start(tmp_path / "alone"))
    once = time.monotonic() - begin
    generator = random.Random(15)
    run, points = tmp_path / "run", []
    while len(points) < KILLS:
        before, more = saved(run), generator.randint(2, 5)
        process = start(run)
        seen, times = before, []
        while seen < before + more:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.001)
            if saved(run) > seen:
                seen = saved(run)
                times.append(time.monotonic())
        # Anywhere from this save to the next one: two meta-steps, an evaluation, and the save.
        time.sleep(generator.uniform(0, times[-1] - times[-2]))
        process.kill()
        process.communicate()
        assert process.returncode == -9
        points.append(2 * saved(run))
    assert points[-1] < STEPS, "the run was over before it was killed"
    finish(start(run))
    seconds = time.monotonic() - begin
    print(f"\n{KILLS} kills, last saves {points}: {seconds:.0f} s, {once:.0f} s without kills")
    alone, resumed = content(tmp_path / "alone"), content(run)
    assert resumed.keys() == alone.keys()
    assert f"checkpoints/state-{STEPS}.index" in alone
    differing = [name for name in alone if alone[name] != resumed[name]]
    assert not differing
