"""Scores of a user's own examples: the score file of a dataset of dicts."""

from collections import Counter
from collections.abc import Callable
import os

import numpy as np
import tensorflow as tf

from dr_keras.data.datasets import Corpus, examples_from_dataset
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import score_files
from dr_keras.system import locks
import gin


@gin.configurable(denylist=["rater", "output", "overwrite", "progress"])
@locks.alone_at("output", "scoring of examples", DataError, is_file=True)
def score_examples(
    rater: Callable,
    output: str,
    corpus: Corpus = gin.REQUIRED,
    id_feature: str = "id",
    source_feature: str | None = None,
    known: tuple[str, ...] = (),
    batch_size: int = 256,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Scores every example of a dataset and writes a score file and manifest (see `score_files`).

    Args:
      rater: a loaded rater of examples or images.
      output: path of the score file, .jsonl or .parquet; `windows` is 1 in every row.
      corpus: a tf.data.Dataset of dicts, or a function that returns one, as for `dataset_data`.
      id_feature, source_feature, known: likewise.
      batch_size: examples in one call of the rater.
      overwrite: whether a file at `output` may be replaced.
      progress: called with (examples done, examples in all).

    Returns:
      The manifest.

    Raises:
      ConfigurationError: something exists at `output`, or the corpus is none.
      DataError: the examples cannot be used, or do not have what the rater reads; another process
        writes `output`.
    """
    output = os.fspath(output)
    if tf.io.gfile.exists(output) and not overwrite:
        raise ConfigurationError(f"{output} exists already: name another file, or --overwrite it.")
    examples = examples_from_dataset(corpus, "corpus", id_feature, source_feature, known)
    missing = [name for name in getattr(rater, "inputs", {}) if name not in examples.features]
    if missing:
        raise DataError(
            f"The rater reads {missing[0]!r}, and the examples have {sorted(examples.features)}."
        )
    sums: Counter[str] = Counter()
    failed = 0
    with score_files.ScoreWriter(output) as writer:
        for start in range(0, len(examples), batch_size):
            rows = slice(start, start + batch_size)
            part = examples.take(rows)
            columns = dict(rater(dict(part.features)))
            columns["windows"] = np.ones(len(part), np.int32)
            writer.write(part.ids.tolist(), part.sources.tolist(), columns)
            for source, score in zip(part.sources, columns["score"]):
                sums[source] += float(score)
            failed += int((~np.isfinite(columns["score"])).sum())
            if progress is not None:
                progress(start + len(part), len(examples))
    counts = examples.counts_by_source()
    manifest = {
        "format": "dr_keras scores",
        "schema_version": 1,
        "corpus": {"name": "corpus"},
        "corpus_fingerprint": examples.fingerprint,
        "documents": len(examples),
        "rater": {
            "path": getattr(rater, "path", None),
            "fingerprint": getattr(rater, "fingerprint", None),
        },
        "without_score": failed,
        "by_source": {
            source: {"documents": count, "mean_score": sums[source] / count}
            for source, count in counts.items()
        },
        "reference": rater.reference.to_dict() if hasattr(rater, "reference") else None,
        "file": {"name": os.path.basename(output), "bytes": tf.io.gfile.stat(output).length},
    }
    score_files.write_manifest(output, manifest)
    return manifest
