#!/usr/bin/env python3
"""Measures filtering a corpus with one worker and with two, each held to one thread.

    tools/bench_filter_corpus.py --megabytes 8 --repeats 3
    tools/bench_filter_corpus.py --megabytes 8 --repeats 3 --beam

One JSON line a run, and one with the ratio of the medians. Runs with one worker and with two take
turns, and all files are made anew for each. Seconds are of the clock, from call to manifest,
so starting the workers counts: the corpus has to be large enough for that not to matter. `--beam`
takes Beam's direct runner with worker processes (multi_processing) instead of the workers of
`--workers`. The text is made of random words and the rater has random weights, --width wide: it is
the work that counts here. Two workers need two cores that nobody else uses.
"""

import argparse
import json
import os
from pathlib import Path
import statistics
import sys
import tempfile
import time

# For Beam's workers, which inherit them; others are told by the runner.
for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

import numpy as np  # noqa: E402

from dr_keras.corpus_jobs.filtering import filter_corpus  # noqa: E402
from dr_keras.corpus_jobs.runners import in_processes  # noqa: E402
from dr_keras.data.tokenizers import byte_tokenizer  # noqa: E402
from dr_keras.models.text_models import text_rater  # noqa: E402
from dr_keras.rating.reference import ReferenceDistribution  # noqa: E402
from dr_keras.serving.export import export_rater  # noqa: E402
from dr_keras.serving.loading import load_rater  # noqa: E402

SEQUENCE_LENGTH = 256


def make_corpus(path: Path, megabytes: float) -> int:
    """Writes documents of random words, about 2 kB each; returns their number."""
    generator = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = ["".join(generator.choice(letters, n)) for n in generator.integers(1, 9, 5000)]
    documents = size = 0
    with open(path, "w", encoding="utf-8") as file:
        while size < megabytes * 1e6:
            chosen = generator.integers(0, len(words), generator.integers(20, 800))
            line = json.dumps({"id": documents, "text": " ".join(words[n] for n in chosen)})
            file.write(line + "\n")
            size += len(line) + 1
            documents += 1
    return documents


def runner(workers: int, beam: bool):
    if not beam:
        return in_processes(workers, threads_per_worker=1)
    from dr_keras.corpus_jobs.beam.runner import beam_runner

    flags = ["--runner=DirectRunner", "--direct_running_mode=multi_processing"]
    return beam_runner([*flags, f"--direct_num_workers={workers}"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=8.0, help="of JSON lines")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=64, help="of the rater, of 2 layers")
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--beam", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench_filter_corpus_") as name:
        folder = Path(name)
        documents = make_corpus(folder / "corpus.jsonl", arguments.megabytes)
        model = text_rater(258, SEQUENCE_LENGTH, width=arguments.width, layer_count=2, heads=2)
        for weight in model.weights:  # the score's own start at zero
            weight.assign(weight + 0.02 * np.random.default_rng(1).normal(size=weight.shape))
        reference = ReferenceDistribution(np.array([-1.0, 1.0]))
        export_rater(model, byte_tokenizer(), SEQUENCE_LENGTH, str(folder / "export"), reference)
        rater = load_rater(str(folder / "export"))
        seconds: dict[int, list[float]] = {1: [], 2: []}
        kept = set()
        for repeat in range(arguments.repeats):
            for workers in (1, 2) if repeat % 2 == 0 else (2, 1):
                out = folder / f"out-{repeat}-{workers}"
                begin = time.monotonic()
                manifest = filter_corpus(
                    str(folder / "corpus.jsonl"),
                    rater,
                    output_dir=str(out),
                    discard_fraction=0.5,
                    score_file=f"{out}.parquet",
                    shard_bytes=int(arguments.megabytes * 1e6 / arguments.shards),
                    runner=runner(workers, arguments.beam),
                )
                seconds[workers].append(time.monotonic() - begin)
                kept.add(manifest["counts"]["kept"])
                line = {"workers": workers, "seconds": round(seconds[workers][-1], 2)}
                print(json.dumps({**line, "documents": documents}), flush=True)
        assert len(kept) == 1, f"the runs kept different numbers of documents: {kept}"
        one, two = (statistics.median(seconds[workers]) for workers in (1, 2))
        summary = {
            "case": "beam, multi_processing" if arguments.beam else "workers",
            "megabytes": arguments.megabytes,
            "one_worker_seconds": round(one, 2),
            "two_workers_seconds": round(two, 2),
            "ratio": round(one / two, 2),
        }
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
