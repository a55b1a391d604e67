#!/usr/bin/env python3
"""Compares many small files with the same text in one file: scoring and filtering.

    tools/bench_small_files.py --documents 1500 --repeats 3

One JSON line a case, with the CPU seconds (of this process and its children, user and system) of
the medians and their ratio. A document is a file in one way, a line or a row in the other; both
ways take turns in one process, after a first run that does not count, with the rater that ships.
"filter" scores and filters, "filter by scores" starts from scores that are there and runs no rater,
so that hardly more than opening the files is left. Only ratios mean anything elsewhere.
"""

import argparse
import json
import os
from pathlib import Path
import resource
import statistics
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pyarrow  # noqa: E402
import pyarrow.parquet  # noqa: E402

from dr_keras.corpus_jobs.filtering import filter_corpus  # noqa: E402
from dr_keras.corpus_jobs.scoring import score_corpus  # noqa: E402
from dr_keras.serving.loading import load_rater  # noqa: E402


def make_documents(count: int, size: int) -> list[dict]:
    """Records of random words, of about `size` bytes each, with ids and one source."""
    generator = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = ["".join(generator.choice(letters, n)) for n in generator.integers(1, 9, 5000)]
    chosen = generator.integers(0, len(words), (count, max(1, size // 6)))
    return [
        {"id": f"d{n}", "text": " ".join(words[k] for k in row), "source": "made"}
        for n, row in enumerate(chosen)
    ]


def write(folder: Path, suffix: str, documents: list[dict], per_file: int) -> str:
    folder.mkdir()
    for start in range(0, len(documents), per_file):
        part, path = documents[start : start + per_file], folder / f"{start:06d}.{suffix}"
        if suffix == "parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(part), path)
        else:
            path.write_text("".join(json.dumps(record) + "\n" for record in part))
    return str(folder)


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=1500)
    parser.add_argument("--bytes", type=int, default=1000, help="of text in a document, about")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--formats", nargs="+", default=["jsonl", "parquet"])
    parser.add_argument("--rater", default=str(ROOT / "savedmodels" / "damaged_prose"))
    arguments = parser.parse_args()
    rater = load_rater(arguments.rater)
    documents = make_documents(arguments.documents, arguments.bytes)
    with tempfile.TemporaryDirectory(prefix="bench_small_files_") as name:
        for suffix in arguments.formats:
            folder = Path(name) / suffix
            folder.mkdir()
            inputs = {
                "many": write(folder / "many", suffix, documents, 1),
                "one": write(folder / "one", suffix, documents, len(documents)),
            }
            half = {"discard_fraction": 0.5}
            seconds: dict[str, dict[str, list[float]]] = {}
            for turn in range(arguments.repeats + 1):
                for way, path in inputs.items():
                    out = folder / f"{way}-{turn}"
                    scores = f"{out}.scores.parquet"
                    jobs = {
                        "score": lambda: score_corpus(path, rater, scores),
                        "filter": lambda: filter_corpus(
                            path,
                            rater,
                            score_file=f"{out}.again.parquet",
                            output_dir=f"{out}-a",
                            **half,
                        ),
                        "filter by scores": lambda: filter_corpus(
                            path, scores=scores, output_dir=f"{out}-b", **half
                        ),
                    }
                    for job, run in jobs.items():
                        before = cpu_seconds()
                        run()
                        took = cpu_seconds() - before
                        if turn:
                            seconds.setdefault(job, {}).setdefault(way, []).append(took)
            for job, ways in seconds.items():
                many, one = (statistics.median(ways[way]) for way in ("many", "one"))
                line = {
                    "case": f"{job} {suffix}",
                    "documents": len(documents),
                    "many_files_cpu_seconds": round(many, 3),
                    "one_file_cpu_seconds": round(one, 3),
                    "ratio": round(many / one, 2),
                }
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
