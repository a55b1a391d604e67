"""The bench of meta-steps on a small convolutional net, and what draws its lines."""

import json
from pathlib import Path
import subprocess
import sys

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"
pytestmark = pytest.mark.skipif(not TOOLS.is_dir(), reason="not in a checkout: tools/ is absent")


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    done = run(
        *[TOOLS / "bench_meta_step.py", "--model", "conv", "--batch_size", "4"],
        *["--repeats", "1", "--rater", "none"],
        *["--estimator", "nested_tape", "mixed_mode", "--micro_batches", "2", "--unroll", "3"],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    path = tmp_path_factory.mktemp("bench") / "lines.jsonl"
    path.write_text(done.stdout)
    return path


@pytest.mark.long
def test_a_line_for_each_case(lines):
    plain, nested, mixed = map(json.loads, lines.read_text().splitlines())
    assert [x["case"] for x in (plain, nested, mixed)] == [
        "plain_step", "nested_tape", "mixed_mode"
    ]  # fmt: skip
    assert nested["saved_state_bytes"] == 0 and "micro_batches" not in nested
    assert mixed["micro_batches"] == 2
    # Parameters, two slots, a gradient: four bytes each, twice; of the first update the gradient.
    assert mixed["saved_state_bytes"] == (2 * 4 + 1) * 4 * mixed["parameters"]
    for line in (nested, mixed):
        ratio = (line["temp_bytes"] - line["saved_state_bytes"]) / plain["temp_bytes"]
        assert line["temp_without_saved_to_plain_step"] == pytest.approx(ratio, abs=0.006)
        assert line["cpu_to_plain_steps"] > 0 and line["compile_seconds"] > 0


@pytest.mark.long
def test_lines_become_a_table_and_a_picture(lines, tmp_path):
    table = run(TOOLS / "plot_meta_step.py", lines)
    assert table.returncode == 0
    assert "| conv | mixed_mode (micro_batches = 2) | 3 |" in table.stdout
    picture = tmp_path / "memory.svg"
    assert run(TOOLS / "plot_meta_step.py", lines, "--picture", picture).returncode == 0
    assert picture.read_text().startswith("<?xml")


def test_no_lines_is_said(tmp_path):
    (tmp_path / "empty").write_text("nothing\n")
    done = run(TOOLS / "plot_meta_step.py", tmp_path / "empty")
    assert done.returncode == 1 and "no lines of meta-steps" in done.stderr
