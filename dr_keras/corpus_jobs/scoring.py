"""Scoring: a score file, from which any share can be filtered later."""

from collections import defaultdict
from collections.abc import Callable, Sequence
import os

import numpy as np
import tensorflow as tf

from dr_keras.corpus_jobs import identity, summary
from dr_keras.corpus_jobs.existing_scores import (
    WAIT,
    default_score_file,
    existing_manifest,
    note_own_file,
)  # fmt: skip
from dr_keras.corpus_jobs.job import Job, new_job
from dr_keras.corpus_jobs.runners import Runner, in_process
from dr_keras.corpus_jobs.sidecar import check_files, write_sidecar
from dr_keras.corpus_jobs.source import open_source
from dr_keras.corpus_jobs.units import Progress
from dr_keras.corpus_jobs.work import held_out_of
from dr_keras.data import datasets
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.formats.own_outputs import ERRORS_SUFFIX, UNFINISHED_SUFFIX
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import score_files
from dr_keras.serving.several import SeveralRaters
from dr_keras.serving.window_scoring import WindowScoring
from dr_keras.system import locks
import gin

SHARD_BYTES = 64 << 20


@gin.configurable(denylist=["runner", "overwrite", "fresh", "progress"])
def score_corpus(
    corpus: Corpus | str | Sequence[str] = gin.REQUIRED,
    rater: Callable = gin.REQUIRED,
    output: str | None = None,
    window_scoring: WindowScoring | None = None,
    step_bytes: int = 1 << 20,
    shard_bytes: int = SHARD_BYTES,
    sidecar: str | None = None,
    runner: Runner = in_process,
    overwrite: bool = False,
    fresh: bool = False,
    progress: Progress | None = None,
) -> dict:
    """Scores every document and writes a score file with its manifest (see `score_files`).

    A run that was stopped goes on, shard by shard, when it is called again. Scores that exist
    already, of the same rater and the same corpus, are left as they are. Records of files that
    cannot be read are listed in `<output>.errors.jsonl`.

    Args:
      corpus: any corpus; or a file, glob or folder, or a list of these.
      rater: a loaded rater, or a function from a list of texts to scores [N] or a dict with
        "score" and perhaps "percentile" and "windows".
      output: the score file, Parquet if it ends in .parquet, else JSON lines; None: below
        `_scores/` in the folder of the first input file.
      window_scoring: how many windows go through the network at once, whether it is compiled, and
        how many a document may have; None: as `WindowScoring` is bound.
      step_bytes: documents are scored together until they hold so much text; batches are filled
        from all of them, whatever their lengths.
      shard_bytes: larger files are done in ranges of about so many bytes, other corpora in pieces
        of so much text, see `source`.
      sidecar: a folder for the scores in one Parquet file for each file of the corpus, too, see
        `corpus_jobs.sidecar`; scores that exist already are cut without a rater.
      runner: who does the shards, see `runners`.
      overwrite: whether other scores at `output` may be replaced.
      fresh: whether what an unfinished run left is thrown away.
      progress: called with (phase, bytes done, bytes in all).

    Returns:
      The manifest, which also lies beside the score file.

    Raises:
      ConfigurationError: an unfinished run differs from this one; `output` is empty, or lies on a
        file of the input, or None where that names no place; a sidecar of a corpus that is no
        files.
      DataError: the input is missing, damaged, or holds no documents; two documents of a corpus
        that is no files have one id and different texts; other scores lie at `output`, or another
        process makes them; the rater gives something other than one score a text.
    """
    identity.require_name(output, "output")
    source = open_source(corpus, shard_bytes)
    most = (window_scoring or WindowScoring()).windows_per_document
    output = default_score_file(source, rater, most) if output is None else output
    if output is None:
        where = source.files[0].path if source.files else "a corpus that is no files"
        raise ConfigurationError(
            f"No scores can be written beside {where}: name a file with --output."
        )
    output = os.fspath(output)
    identity.refuse_overwriting(identity.of_scores(output), source.paths())
    if sidecar is not None:
        check_files(source.files)
    folder = output + UNFINISHED_SUFFIX
    with locks.alone(output, "scoring of a corpus", DataError, is_file=True):
        job = new_job(source, rater, folder, window_scoring, step_bytes, runner, progress)
        manifest = None if overwrite else existing_manifest(output, job)
        if manifest is None:
            job.begin({}, shard_bytes, fresh)
            manifest = finish_scores(output, job, job.run())
    if sidecar is not None:
        write_sidecar(output, sidecar)
    return manifest


def finish_scores(output: str, job: Job, facts: list[dict]) -> dict:
    """Joins the scores, and writes the manifest last.

    Raises:
      DataError: a file is not what it was when the job began.
    """
    now = identity.input_files([file.path for file in job.source.files])
    touched = [file.path for file, before in zip(now, job.source.files) if file != before]
    if touched:
        raise DataError(
            f"{touched[0]} was written to while it was scored ({len(touched)} such files): leave"
            " the input alone, and start over (--fresh)."
        )
    # jobs with other outputs may share these scores: none sees them without their manifest
    with locks.alone(output, "writing of scores", DataError, wait=WAIT, is_file=True):
        return _publish(output, job, facts)


def _publish(output: str, job: Job, facts: list[dict]) -> dict:
    note_own_file(output, job.work.work)
    written = summary.write_scores(output, job)
    totals = summary.totals(facts)
    errors = None
    if totals["errors"]:
        errors = output + ERRORS_SUFFIX
        summary.write_errors(errors, job, facts)
    sources, held_out = summary.by_source(job, facts), held_out_of(job.rater)
    digests = {name: value for shard in facts for name, value in shard["inputs"].items() if value}
    described = job.source.describe()
    files = [{**file, "sha256": digests[file["name"]]} for file in described.pop("input")]
    documents = summary.documents_by_file(job, facts) if files else {}
    files = [{**file, **_of(documents, file["name"])} for file in files]
    return _write_manifest(
        output,
        job.rater,
        getattr(job.rater, "document_reference", None),
        {
            "input": files,
            **described,
            **identity.Fingerprint(totals).to_dict(),
            **{name: written.pop(name) for name in ("documents", "without_score", "repeated_ids")},
            **({"several_raters": written} if written else {}),
            "bytes": totals["counts"]["bytes"],
            "windows_per_document": job.work.window_scoring.windows_per_document,
            "windows": sum(shard["windows"] for shard in facts),
            "errors": {"records": totals["errors"], "file": errors and os.path.basename(errors)},
            "by_source": {
                name: {k: v for k, v in entry.items() if k not in ("kept", "dropped", "kept_bytes")}
                for name, entry in sources.items()
            },
            "audit": summary.audited(facts, sources, held_out, chosen=False),
            "held_out": held_out,
        },
    )


def _of(documents: dict[str, int], name: str) -> dict:
    return {"documents": documents[name]} if documents else {}


def _write_manifest(output: str, rater: Callable | None, reference, facts: dict) -> dict:
    """Says that a score file is complete, by whom it is and what `facts` it is about."""
    manifest = {
        "format": "dr_keras scores",
        "schema_version": 2,
        **facts,
        "rater": {
            "path": getattr(rater, "path", None),
            "fingerprint": getattr(rater, "fingerprint", None),
            **(rater.described() if isinstance(rater, SeveralRaters) else {}),
        },
        "reference": reference.to_dict() if reference is not None else None,
        "file": {"name": os.path.basename(output), "bytes": tf.io.gfile.stat(output).length},
    }
    score_files.write_manifest(output, manifest)
    return manifest


@gin.configurable(denylist=["rater", "output", "overwrite", "progress"])
@locks.alone_at("output", "scoring of examples", DataError, is_file=True)
def score_examples(
    rater: Callable,
    output: str,
    corpus: datasets.Corpus = gin.REQUIRED,
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
    examples = datasets.examples_from_dataset(corpus, "corpus", id_feature, source_feature, known)
    missing = [name for name in getattr(rater, "inputs", {}) if name not in examples.features]
    if missing:
        raise DataError(
            f"The rater reads {missing[0]!r}, and the examples have {sorted(examples.features)}."
        )
    sums: defaultdict[str, float] = defaultdict(float)
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
    return _write_manifest(
        output,
        rater,
        getattr(rater, "reference", None),
        {
            "corpus": {"name": "corpus"},
            "corpus_fingerprint": examples.fingerprint,
            "documents": len(examples),
            "without_score": failed,
            "by_source": {
                source: {"documents": count, "mean_score": sums[source] / count}
                for source, count in examples.counts_by_source().items()
            },
        },
    )
