#!/usr/bin/env python3
"""Measures scoring and filtering one large document against the same bytes in 1,000 documents.

    tools/bench_large_document.py --megabytes 50
    tools/bench_large_document.py --megabytes 50 --format parquet

Each case runs in a process of its own and prints a JSON line: CPU seconds of the job, and how far
its peak of resident memory lies above that of the loaded rater, which has scored a little text.
The last line has the ratio of the medians. The cases take turns. The text is the prose of the
Python installation, repeated; the rater is the one that ships.
"""

import argparse
import json
import os
from pathlib import Path
import resource
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

DOCUMENTS = 1000
FORMATS = ("jsonl", "parquet", "text")


def write_corpus(path: Path, megabytes: float, documents: int) -> None:
    import pydoc_data.topics

    prose = "\n".join(pydoc_data.topics.topics.values()).encode("ascii", "ignore").decode()
    size = int(megabytes * 1e6) // documents
    prose *= size // len(prose) + 2
    starts = (number * 7919 % (len(prose) - size) for number in range(documents))
    texts = (prose[start : start + size] for start in starts)
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        columns = {"text": pyarrow.array(list(texts), pyarrow.large_string())}
        columns["id"] = pyarrow.array([str(n) for n in range(documents)])
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif path.suffix == ".jsonl":
        with open(path, "w", encoding="utf-8") as file:
            for number, text in enumerate(texts):
                file.write(json.dumps({"id": number, "text": text}) + "\n")
    else:
        path.mkdir()
        for number, text in enumerate(texts):
            (path / f"{number:04}.txt").write_text(text, encoding="utf-8")


def peak() -> float:
    """MB of resident memory at most since the process began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def run_case(path: Path, output: Path) -> dict:
    import dr_keras
    from dr_keras.corpus_jobs.filtering import filter_corpus
    from dr_keras.data.formats.text import text_corpus
    import gin

    gin.parse_config("jsonl_corpus.max_line_bytes = 1000000000")
    rater = dr_keras.load_rater("damaged_prose")
    rater.score_texts(["a text by which the rater gets warm " * 3000] * 20)
    before = resident()
    begin = time.process_time()
    if path.suffix:
        manifest = filter_corpus(
            str(path), rater, output_dir=str(output), discard_fraction=0.0, reference="artefact"
        )
    else:
        corpus = text_corpus(str(path), max_document_bytes=1_000_000_000)
        manifest = filter_corpus(corpus, rater, output_dir=str(output), discard_fraction=0.0)
    return {
        "cpu_seconds": round(time.process_time() - begin, 2),
        "megabytes_above_rater": round(peak() - before),
        "documents": manifest["counts"]["documents"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=50.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--format", choices=FORMATS, default="jsonl")
    parser.add_argument("--case", nargs=2, metavar=("INPUT", "OUTPUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run_case(*map(Path, arguments.case))))
        return
    found: dict[int, list[dict]] = {1: [], DOCUMENTS: []}
    with tempfile.TemporaryDirectory(prefix="bench_large_document_") as name:
        suffix = "" if arguments.format == "text" else f".{arguments.format}"
        paths = {documents: Path(name) / f"of_{documents}{suffix}" for documents in found}
        for documents, path in paths.items():
            write_corpus(path, arguments.megabytes, documents)
        for repeat in range(arguments.repeats):
            for documents in found if repeat % 2 == 0 else reversed(found):
                command = [sys.executable, __file__, "--case", str(paths[documents])]
                output = Path(name) / f"kept_{documents}_{repeat}"
                result = subprocess.run(
                    [*command, str(output)], check=True, capture_output=True, text=True
                )
                facts = json.loads(result.stdout)
                found[documents].append(facts)
                case = {"format": arguments.format, "megabytes": arguments.megabytes}
                print(json.dumps({**case, **facts}), flush=True)
    seconds = {n: statistics.median(f["cpu_seconds"] for f in facts) for n, facts in found.items()}
    print(
        json.dumps(
            {
                "case": "one document against 1,000 of the same bytes",
                "cpu_ratio": round(seconds[1] / seconds[DOCUMENTS], 2),
                "megabytes_above_rater": max(f["megabytes_above_rater"] for f in found[1]),
            }
        )
    )


if __name__ == "__main__":
    main()
