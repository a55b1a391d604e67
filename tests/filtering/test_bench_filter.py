import json
from pathlib import Path
import subprocess
import sys

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "bench_filter.py"


@pytest.mark.skipif(not TOOL.exists(), reason="the tools are not part of an installed wheel")
def test_one_json_line_a_case_with_its_ratio():
    small = "--width 8 --layers 1 --sequence 64 --batch_size 4 --batches 8 --rounds 3".split()
    done = subprocess.run([sys.executable, str(TOOL), *small], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = {line["case"]: line for line in map(json.loads, done.stdout.splitlines())}
    pipelines = {"bare_pipeline", "top_k", "filter_by_percentile", "reweight", "dataset_filter"}
    assert set(lines) == pipelines | {"bare", "unsorted", "length_sorted"}
    for name, line in lines.items():
        assert line["examples_per_second"] > 0
        assert line["examples"] == (8 if name == "dataset_filter" else 64)
        assert ("startup_seconds" in line) == (name in pipelines)
    # one example at a time cannot keep up with batches
    assert lines["dataset_filter"]["cpu_share_of_bare"] < 0.7
    assert lines["length_sorted"]["cpu_speedup"] > 0
