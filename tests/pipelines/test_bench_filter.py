import argparse
import importlib.util
import json
from pathlib import Path
import sys

import numpy as np
import pytest
import tensorflow as tf

TOOL = Path(__file__).resolve().parents[2] / "tools" / "bench_filter.py"
PIPELINES = {"bare_pipeline", "top_k", "filter_by_percentile", "reweight", "dataset_filter"}
SMALL = {"width": 8, "layers": 1, "sequence": 16, "batch_size": 4, "batches": 8, "rounds": 3}

pytestmark = pytest.mark.skipif(
    not TOOL.exists(), reason="the tools are not part of an installed wheel"
)


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("bench_filter", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_way_gives_the_answers_of_the_bare_rater(tool):
    options = argparse.Namespace(**SMALL, discard_fraction=0.5)
    runs = tool.cases(tool.make_rater(options), options)
    assert set(runs) == PIPELINES | {"bare", "unsorted", "length_sorted"}
    work = {name: case for name, (case, _) in runs.items()}
    batches = np.stack(work["bare"]())  # 8 batches of B_up = 8
    assert batches.shape == (8, 8) and len(set(batches.ravel().tolist())) == 64
    piped = np.stack(list(work["bare_pipeline"].as_numpy_iterator()))
    np.testing.assert_allclose(piped, batches, rtol=1e-5)
    scores = dict(zip(map(tuple, rows(runs)), batches.ravel().tolist()))
    best = {score for batch in batches for score in sorted(batch.tolist())[4:]}
    assert {scores[row] for row in kept(work["top_k"])} == best
    alone = [scores[row] for row in kept(work["dataset_filter"])]
    first = batches.ravel()[: runs["dataset_filter"][1]]
    assert alone == [s for s in first.tolist() if s >= np.float32(np.median(batches))]
    assert 0 < len(kept(work["filter_by_percentile"])) < 64
    assert sum(len(weights) for *_, weights in work["reweight"].as_numpy_iterator()) == 64
    # documents of mixed length, padded in two ways
    together = np.concatenate(work["unsorted"]())
    np.testing.assert_allclose(work["length_sorted"](), together, rtol=1e-4, atol=1e-5)
    assert len(together) == 64


def rows(runs):
    """The tokens that are scored, in their order: those of the pipeline that drops nothing."""
    rng = np.random.default_rng(0)
    count = runs["bare"][1]
    return rng.integers(2, 258, (count, SMALL["sequence"])).astype(np.int32).tolist()


def kept(dataset: tf.data.Dataset):
    return [tuple(tokens.tolist()) for element in dataset.as_numpy_iterator()
            for tokens in np.atleast_2d(element["tokens"])]  # fmt: skip


def test_one_json_line_a_case_with_its_figures(tool, monkeypatch, capsys):
    arguments = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["bench_filter.py", *arguments])
    tool.main()
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = {line["case"]: line for line in printed}
    assert len(printed) == len(lines)
    assert set(lines) == PIPELINES | {"bare", "unsorted", "length_sorted"}
    for name, line in lines.items():
        assert line["examples"] == (8 if name == "dataset_filter" else 64)
        assert line["oversized_batch"] == 8 and line["sequence"] == 16
        assert ("startup_seconds" in line) == (name in PIPELINES)
        against = {key for key in line if key.endswith(("share_of_bare", "speedup"))}
        if name in ("bare", "unsorted"):
            assert not against
        else:
            key = "speedup" if name == "length_sorted" else "share_of_bare"
            assert against == {key, f"cpu_{key}"}
            for ratio in against:  # the median over rounds lies among them
                low, high = line[f"{ratio}_range"]
                assert low <= line[ratio] <= high
