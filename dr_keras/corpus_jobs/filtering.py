"""Filtering files: their records are kept whole or dropped, shard by shard.

    <output_dir>/kept-00000-of-00012.jsonl ...     the kept records, whole, in the format of the
                                                   input (.jsonl, .jsonl.gz, .tfrecord, .parquet)
    <output_dir>/dropped-00000-of-00012.jsonl ...  id, source, score, percentile, reason
    <output_dir>/errors.jsonl                      file, position (line, record or row, from 1),
                                                   reason, detail of what could not be read
    <output_dir>/manifest.json                     what was done; its presence means done
    <output_dir>/_work/                            only until then

Whether a document stays depends on its id, its score, the settings and the reference distribution
alone, and scores are made shard by shard in the same batches whoever makes them: one process,
several, or Beam write the same files.
"""

from collections.abc import Callable, Sequence
import dataclasses
import logging
import math
import os

import tensorflow as tf

from dr_keras.corpus_jobs import job, overwriting, scoring, summary
from dr_keras.corpus_jobs.corpus_filter import check_settings
from dr_keras.corpus_jobs.identity import digest, input_files
from dr_keras.corpus_jobs.plan import Shard
from dr_keras.corpus_jobs.records import identifying
from dr_keras.corpus_jobs.runners import Runner, in_process
from dr_keras.corpus_jobs.scoring import SHARD_BYTES, Input, Progress
from dr_keras.corpus_jobs.work import Deciding, Work
from dr_keras.data.formats.own_outputs import ERRORS, MANIFEST, WORK
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import fractions
from dr_keras.rating import score_files as files_of_scores
from dr_keras.rating.reference import ReferenceDistribution, has_drifted, kolmogorov_smirnov
from dr_keras.system import locks

_logger = logging.getLogger(__name__)


@locks.alone_at("output_dir", "filtering of files", DataError)
def filter_files(
    input: str | Sequence[str],
    rater: Callable | None = None,
    scores: str | None = None,
    output_dir: str = "",
    discard_fraction: fractions.Decimal = 0.5,
    batch_size: int = 64,
    seed: int = 0,
    method: str = "keep_probability",
    reference: str = "corpus",
    score_file: str | None = None,
    drift_limit: float = 0.1,
    windows_per_batch: int = 256,
    step_bytes: int = 1 << 20,
    shard_bytes: int = SHARD_BYTES,
    runner: Runner = in_process,
    fresh: bool = False,
    progress: Progress | None = None,
) -> dict:
    """Keeps the better share of JSONL, Parquet or TFRecord files.

    A run that was stopped goes on, shard by shard, when it is called again.

    Args:
      input: file, glob or folder, or a list of these.
      rater: see `scoring.score_files`; needed unless `scores` are given.
      scores: a score file of this very corpus, in any order.
      output_dir: a folder that holds no filtered corpus yet.
      discard_fraction, batch_size, seed, method: see `rules.decide`.
      reference: percentiles are taken among "corpus", the scores of the corpus itself, so that the
        share kept is what was asked for (the files are read twice); or under the distribution
        stored in the "artefact" (read once).
      score_file: where scores that are made are written; None: beside the corpus
        (`scoring.default_score_file`), or in `output_dir` where that cannot be.
      drift_limit: the Kolmogorov-Smirnov distance between the corpus' scores and the artefact's
        distribution from which on the manifest says "drifted"; 0.1 shifts the share that is kept
        by at most a tenth of the corpus.
      windows_per_batch, step_bytes: see `corpus_scores.score_corpus`.
      shard_bytes: larger files are done in ranges of about so many bytes, each with output files of
        its own.
      runner: see `runners`.
      fresh: whether what an unfinished run left is thrown away.
      progress: see `scoring.Progress`.

    Returns:
      The manifest: `input`, `input_fingerprint`, `rater`, `scores`, `settings`, `counts`,
      `by_source`, `achieved_fraction` (the share really dropped), `expected_fraction`, `drift`,
      `errors` (reason -> count), `repeated_ids`, `files`.

    Raises:
      ConfigurationError: a setting is out of its range; an unfinished run differs from this one;
        the output would be written over the input.
      DataError: the input is missing, damaged or holds no documents; the folder holds a filtered
        corpus, or another process filters into it; the scores are not those of this corpus.
    """
    output_dir = os.fspath(output_dir)
    output_dir = output_dir.rstrip("/") or output_dir
    oversized = fractions.oversized_batch(batch_size, discard_fraction)
    check_settings(rater, scores, output_dir, method, reference, shard_bytes)
    overwriting.require_name(score_file, "score_file")
    source = scoring.open_input(input, shard_bytes)
    folder = os.path.join(output_dir, WORK)
    outputs = overwriting.of_filter(output_dir)
    outputs += [] if score_file is None else overwriting.of_scores(os.fspath(score_file))
    read = [*source.paths(), *([] if scores is None else [os.fspath(scores)])]
    overwriting.refuse_overwriting(outputs, read)
    _check_folder(output_dir, folder, fresh)
    stored = _stored_reference(rater, scores) if reference == "artefact" else None
    settings = {
        "method": method,
        "discard_fraction": str(fractions.exact_fraction(discard_fraction)),
        "batch_size": batch_size,
        "seed": seed,
        "reference": reference,
    }
    work = scoring.scoring_work(source, rater, folder, windows_per_batch, step_bytes)
    given = _describe_scores(scores, rater)
    facts = {**scoring.scoring_facts(work, rater, shard_bytes), **settings, "scores": given}
    job.begin(folder, facts, source.files, fresh)

    def deciding(distribution: ReferenceDistribution) -> Deciding:
        exact = settings["discard_fraction"]
        return Deciding(exact, batch_size, seed, method, distribution.to_dict())

    if scores is None:
        score_file = score_file or scoring.default_score_file(source, rater)
        score_file = os.fspath(score_file or os.path.join(output_dir, "scores.parquet"))
        found = scoring.existing_manifest(score_file, source, rater, folder)
        existing = score_file if found is not None else None
    else:
        score_file = existing = scores
    if existing is None and stored is not None:
        work = dataclasses.replace(work, folder=output_dir, deciding=deciding(stored))
        scorer = scoring.scorer_for(rater, work)
        done = scoring.run_phase(work, source.shards, scorer, runner, progress, "filtering")
        scoring.require_documents(done, work, source.shards)
        score_facts = scoring.finish_scores(score_file, work, source, rater, done)
    else:
        scored, score_facts = _scores(work, source, rater, existing, score_file, runner, progress)
        distribution = stored or ReferenceDistribution.from_scores(
            summary.all_scores(work, source.shards)
        )
        work = dataclasses.replace(
            work, folder=output_dir, scoring=False, deciding=deciding(distribution)
        )
        done = scoring.run_phase(work, source.shards, None, runner, progress, "filtering")
        _check_same(source.shards, scored, done)
    manifest = {
        "format": "dr_keras filtered files",
        "schema_version": 1,
        "input": source.describe(),
        "fields": identifying(source.fields),
        "rater": score_facts.get("rater", {"path": None, "fingerprint": None}),
        "scores": _relative(score_file, output_dir),
        "settings": {
            **settings,
            "discard_fraction": float(fractions.exact_fraction(discard_fraction)),
            "oversized_batch": oversized,
            "shard_bytes": shard_bytes,
        },
        **_results(work, source, done, settings),
        "drift": _drift(work, source, _reference_of(rater, score_facts), drift_limit),
        "repeated_ids": score_facts.get("repeated_ids"),
    }
    if stored is not None:
        _warn_of_drift(manifest["drift"])
    errors = os.path.join(output_dir, ERRORS)
    manifest["files"][ERRORS] = summary.write_errors(errors, work, source.shards, done)
    files_of_scores.write_json(os.path.join(output_dir, MANIFEST), manifest)
    tf.io.gfile.rmtree(folder)
    return manifest


def _scores(
    work: Work,
    source: Input,
    rater: Callable | None,
    existing: str | None,
    score_file: str,
    runner: Runner,
    progress: Progress | None,
) -> tuple[list[dict], dict]:
    """The facts of the phase "scored" and those about the score file."""
    if existing is not None and not job.is_finished(work, source.shards, work.phase):
        facts = scoring.take_existing(existing, work, source, progress)
    else:
        scorer = None if rater is None else scoring.scorer_for(rater, work)
        facts = scoring.make_scores(work, source, scorer, runner, progress)
    if existing is None:
        return facts, scoring.finish_scores(score_file, work, source, rater, facts)
    scoring.check_texts(existing, work, source, facts)
    return facts, files_of_scores.read_manifest(existing) or {}


def _results(work: Work, source: Input, done: list[dict], settings: dict) -> dict:
    totals = summary.totals(done)
    counts = totals["counts"]
    exact = fractions.exact_fraction(settings["discard_fraction"])
    files = {
        name: facts for shard in done for name, facts in shard["files"].items() if "/" not in name
    }
    return {
        **totals,
        "by_source": summary.by_source(work, source.shards, done),
        "achieved_fraction": counts["dropped"] / counts["documents"],
        "expected_fraction": fractions.achieved_fraction(settings["batch_size"], exact)
        if settings["method"] == "keep_probability"
        else float(exact),
        "files": files,
    }


def _drift(
    work: Work, source: Input, reference: ReferenceDistribution | None, limit: float
) -> dict | None:
    if reference is None:
        return None
    scores = summary.all_scores(work, source.shards)
    distance = kolmogorov_smirnov(scores, reference)
    return {
        "kolmogorov_smirnov": None if math.isnan(distance) else round(distance, 6),
        "limit": limit,
        "drifted": has_drifted(distance, scores.size, reference.sample_size, limit),
    }


def _warn_of_drift(drift: dict) -> None:
    if drift["drifted"]:
        _logger.warning(
            "The corpus' scores are not distributed as those that the rater was exported with:"
            " Kolmogorov-Smirnov distance %.3f, limit %s. The share kept is not what was asked for;"
            " with reference 'corpus' it is.",
            drift["kolmogorov_smirnov"],
            drift["limit"],
        )


def _reference_of(rater: Callable | None, score_facts: dict) -> ReferenceDistribution | None:
    stored = getattr(rater, "document_reference", None)
    if stored is None and score_facts.get("reference"):
        stored = ReferenceDistribution.from_dict(score_facts["reference"])
    return stored


def _stored_reference(rater: Callable | None, scores: str | None) -> ReferenceDistribution:
    manifest = (files_of_scores.read_manifest(scores) if scores else None) or {}
    stored = _reference_of(rater, manifest)
    if stored is None:
        raise ConfigurationError(
            "reference is 'artefact', but neither the rater nor the manifest beside the scores has"
            " a reference distribution: use reference 'corpus', or an exported rater."
        )
    return stored


def _describe_scores(scores: str | None, rater: Callable | None) -> dict | None:
    """How to tell that a score file changed. Raises DataError where it is another rater's."""
    if scores is None:
        return None
    if not tf.io.gfile.exists(scores):
        raise DataError(f"{scores} does not exist: name a file that score_corpus wrote.")
    manifest = files_of_scores.read_manifest(scores) or {}
    ours = getattr(rater, "fingerprint", None)
    theirs = manifest.get("rater", {}).get("fingerprint")
    if ours and theirs and ours != theirs:
        raise DataError(
            f"{scores} was written by another rater than the one given (fingerprint {theirs[:12]}"
            f" and not {ours[:12]}): leave one of them out, or score again."
        )
    (file,) = input_files([scores])
    return {"name": file.name, "size": file.size, "sha256": digest(file)}


def _check_folder(output_dir: str, folder: str, fresh: bool) -> None:
    """Only what this job wrote may lie where it writes."""
    if not tf.io.gfile.isdir(output_dir):
        return
    ours = overwriting.shard_outputs(output_dir)
    ours += [ERRORS] if tf.io.gfile.exists(os.path.join(output_dir, ERRORS)) else []
    if fresh:
        for name in ours:
            tf.io.gfile.remove(os.path.join(output_dir, name))
    elif ours and not tf.io.gfile.exists(folder):
        raise DataError(
            f"{output_dir} holds {ours[0]}, which no unfinished job here accounts for: choose"
            " another folder, or start over with --fresh."
        )


def _check_same(shards: Sequence[Shard], scored: list[dict], done: list[dict]) -> None:
    for shard, before, now in zip(shards, scored, done):
        if before["content"] != now["content"]:
            raise DataError(
                f"The documents of {shard.where} changed between scoring and filtering: leave the"
                " input alone while it is filtered, and start over (--fresh)."
            )


def _relative(path: str, folder: str) -> str:
    return os.path.basename(path) if os.path.dirname(path) == folder else path
