"""docs/examples/beam_pipeline.py, in memory."""

import importlib.util
import json
from pathlib import Path

import shard_corpora as corpora

from dr_keras.serving.loading import load_rater

EXAMPLE = Path(__file__).resolve().parents[3] / "docs/examples/beam_pipeline.py"


def test_what_is_kept_is_the_better_half_of_what_is_long_enough(letters, tmp_path):
    spec = importlib.util.spec_from_file_location("beam_pipeline", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path, rows, _ = letters
    rows = [{**row, "text": " ".join([row["text"]] * 20)} for row in rows[:200]]
    corpora.write_jsonl(tmp_path / "in.jsonl", [*rows, {"id": "short", "text": "too short"}])
    module.main(
        ["--rater", path, "--input", str(tmp_path / "in*.jsonl"), "--output", str(tmp_path / "out")]
    )
    kept = [
        json.loads(line)
        for file in tmp_path.glob("out-0*.jsonl")
        for line in file.read_text().splitlines()
    ]
    ids = {row["id"] for row in kept}
    assert 70 < len(ids) < 130 and ids < {row["id"] for row in rows}
    scores = load_rater(path).score_texts([row["text"] for row in rows])["score"]
    by_id = {row["id"]: score for row, score in zip(rows, scores)}
    left = [score for id, score in by_id.items() if id not in ids]
    assert sum(by_id[id] for id in ids) / len(ids) > sum(left) / len(left) + 1
    counted = dict(
        line.split("\t")
        for file in tmp_path.glob("out-sources-0*.tsv")
        for line in file.read_text().splitlines()
    )
    assert sum(map(int, counted.values())) == len(kept)
