"""Filtering a corpus: its records are kept whole or dropped, shard by shard.

    <output_dir>/kept-00000-of-00012.jsonl ...     the kept records: of files whole, in the format
                                                   they came in (.jsonl, .jsonl.gz, .parquet,
                                                   .tar, ...); of another corpus id, text, source,
                                                   score, percentile, and level, damage, count
                                                   and corpus where they are known
    <output_dir>/dropped-00000-of-00012.jsonl ...  id, source, score, percentile, reason
    <output_dir>/errors.jsonl                      file, position (line, record or row, from 1),
                                                   record (where blank lines before it are none),
                                                   reason, detail of what could not be read of files
    <output_dir>/scores.parquet                    the scores, where they have no place beside files
    <output_dir>/manifest.json                     what was done; its presence means done
    <output_dir>/_work/                            only until then

Everything is written under a temporary name and renamed, the manifest last. Whether a document
stays depends on its id, its score, the settings and the reference distribution alone, and scores
are made shard by shard in the same batches whoever makes them: one process, several, or Beam write
the same files.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import json
import logging
import math
import os

import tensorflow as tf

from dr_keras.corpus_jobs import existing_scores, identity, scoring, summary
from dr_keras.corpus_jobs.job import Job, new_job
from dr_keras.corpus_jobs.runners import Runner, in_process
from dr_keras.corpus_jobs.scoring import SHARD_BYTES
from dr_keras.corpus_jobs.source import Shard, open_source
from dr_keras.corpus_jobs.units import Progress
from dr_keras.corpus_jobs.work import counted_groups, held_out_of
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.formats.own_outputs import ERRORS, KEPT, MANIFEST, WORK
from dr_keras.data.formats.reading import names_in
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import score_files
from dr_keras.rating.fractions import Decimal
from dr_keras.rating.quotas import (
    PROPORTIONAL,
    BySource,
    Quotas,
    kept_shares,
    references_by_source,
    within_sources,
)  # fmt: skip
from dr_keras.rating.reference import ReferenceDistribution, has_drifted, kolmogorov_smirnov
from dr_keras.rating.rules import Amount, Deciding, DiscardRule, find_rule
from dr_keras.serving.window_scoring import WindowScoring
from dr_keras.system import locks
import gin

REFERENCES = ("corpus", "artefact")

_logger = logging.getLogger(__name__)


@gin.configurable(denylist=["runner", "fresh", "progress"])
@locks.alone_at("output_dir", "filtering of a corpus", DataError)
def filter_corpus(
    corpus: Corpus | str | Sequence[str] = gin.REQUIRED,
    rater: Callable | None = None,
    scores: str | None = None,
    output_dir: str = gin.REQUIRED,
    discard_fraction: Decimal = gin.REQUIRED,
    batch_size: int = 64,
    seed: int = 0,
    method: str = "keep_probability",
    temperature: float | None = None,
    quotas: Quotas | None = None,
    reference: str = "corpus",
    score_file: str | None = None,
    drift_limit: float = 0.1,
    held_out: Corpus | None = None,
    window_scoring: WindowScoring | None = None,
    step_bytes: int = 1 << 20,
    shard_bytes: int = SHARD_BYTES,
    runner: Runner = in_process,
    fresh: bool = False,
    progress: Progress | None = None,
) -> dict:
    """Keeps the better share of a corpus.

    A run that was stopped goes on, shard by shard, when it is called again.

    Args:
      corpus: any corpus; or a file, glob or folder, or a list of these.
      rater: see `scoring.score_corpus`; needed unless `scores` are given.
      scores: a score file of this very corpus, in any order.
      output_dir: a folder that holds no filtered corpus yet.
      discard_fraction, batch_size, seed, method, temperature: see `rules.decide`.
      quotas: documents are judged among those of their source: "proportional", so that each source
        loses the fraction; or a table of source to the share of it that is kept, where others lose
        the fraction. None: all of the corpus together.
      reference: percentiles are taken among "corpus", the scores of the corpus itself, so that the
        share kept is what was asked for (the input is read twice); or under the distribution
        stored in the "artefact" (read once).
      score_file: where scores that are made are written; None: beside the files
        (`existing_scores.default_score_file`), or in `output_dir` where that cannot be.
      drift_limit: the Kolmogorov-Smirnov distance between the corpus' scores and the artefact's
        distribution from which on the manifest says "drifted"; 0.1 shifts the share that is kept
        by at most a tenth of the corpus.
      held_out: text like that which the rater was judged by, for the audit: what does it have less
        of than the corpus? None: what the rater, or the scores, say of it by themselves.
      window_scoring, step_bytes: see `scoring.score_corpus`.
      shard_bytes: larger files are done in ranges of about so many bytes, other corpora in pieces
        of so much text, each with output files of its own.
      runner: see `runners`.
      fresh: whether what an unfinished run left is thrown away.
      progress: see `units.Progress`.

    Returns:
      The manifest: `input` (files), `corpus` (any other), `input_fingerprint`, `rater`, `scores`,
      `windows_per_document` (of the scores; None: all), `several_raters` (what such say of each
      other, where they made the scores), `settings`, `counts`, `by_source`, `audit`
      (whom the choice favours, by source, script, length and labels: see `rating.audit`),
      `achieved_fraction` (the share really dropped), `expected_fraction`, `drift`, `errors` (reason
      -> count, of files), `skipped` (the same of a corpus that is no files), `repeated_ids`,
      `files`.

    Raises:
      ConfigurationError: a setting is out of its range; an unfinished run differs from this one;
        the output would be written over the input.
      DataError: the input is missing, damaged or holds no documents; two documents of a corpus
        that is no files have one id and different texts; the folder holds a filtered corpus, or
        another process filters into it; the scores are not those of this corpus.
    """
    output_dir = os.fspath(output_dir)
    output_dir = output_dir.rstrip("/") or output_dir
    _check_settings(rater, scores, output_dir, reference, quotas)
    identity.require_name(score_file, "score_file")
    amount = Amount(discard_fraction, batch_size, seed, temperature)
    rule = find_rule(method, amount)
    source = open_source(corpus, shard_bytes)
    folder = os.path.join(output_dir, WORK)
    outputs = identity.of_filter(output_dir)
    outputs += [] if score_file is None else identity.of_scores(os.fspath(score_file))
    read = [*source.paths(), *([] if scores is None else [os.fspath(scores)])]
    identity.refuse_overwriting(outputs, read)
    _check_folder(output_dir, folder, fresh)
    stored = _stored_reference(rater, scores) if reference == "artefact" else None
    asked = None if held_out is None else counted_groups(held_out.documents())
    settings = {
        "method": method,
        "discard_fraction": str(amount.exact),
        "batch_size": batch_size,
        "seed": seed,
        "reference": reference,
        **_settings_given(temperature, quotas),
    }
    job = new_job(source, rater, folder, window_scoring, step_bytes, runner, progress)
    job.begin({**settings, "scores": _describe_scores(scores, rater)}, shard_bytes, fresh)
    deciding = functools.partial(Deciding, rule.decide, amount)
    if scores is None:
        most = job.work.window_scoring.windows_per_document
        score_file = score_file or existing_scores.default_score_file(source, rater, most)
        score_file = os.fspath(score_file or os.path.join(output_dir, "scores.parquet"))
        is_made = existing_scores.existing_manifest(score_file, job) is None
    else:
        score_file, is_made = scores, False
    if is_made and stored is not None:
        job = _deciding(job, output_dir, deciding(stored))
        done = job.run()
        score_facts = scoring.finish_scores(score_file, job, done)
    else:
        scored, score_facts = _scored(job, score_file, is_made)
        if quotas is None:
            all_together = stored or ReferenceDistribution.from_scores(summary.all_scores(job))
            decides: Deciding | BySource = deciding(all_together)
        else:
            references = references_by_source(summary.scores_by_source(job))
            decides = within_sources(rule.decide, amount, quotas, references)
        job = _deciding(job, output_dir, decides, scoring=False)
        done = job.run()
        _check_same(source.shards, scored, done)
    totals, sources = summary.totals(done), summary.by_source(job, done)
    known = score_facts.get("held_out") or held_out_of(rater)
    manifest = {
        "format": "dr_keras filtered corpus",
        "schema_version": 2,
        **source.describe(),
        "rater": score_facts.get("rater", {"path": None, "fingerprint": None}),
        "scores": _relative(score_file, output_dir),
        "windows_per_document": score_facts.get("windows_per_document"),
        **({"several_raters": several} if (several := score_facts.get("several_raters")) else {}),
        "settings": {
            **settings,
            "discard_fraction": float(amount.exact),
            "oversized_batch": amount.oversized,
            "shard_bytes": shard_bytes,
        },
        **totals,
        "by_source": sources,
        "audit": summary.audited(done, sources, known if asked is None else asked),
        "achieved_fraction": totals["counts"]["dropped"] / totals["counts"]["documents"],
        "expected_fraction": _expected(rule, amount, job.work.deciding, sources),
        "drift": _drift(job, _reference_of(rater, score_facts), drift_limit),
        "repeated_ids": score_facts.get("repeated_ids"),
        "files": summary.output_files(done),
    }
    if stored is not None:
        _warn_of_drift(manifest["drift"])
    errors = os.path.join(output_dir, ERRORS)
    manifest["files"][ERRORS] = summary.write_errors(errors, job, done)
    score_files.write_json(os.path.join(output_dir, MANIFEST), manifest)
    tf.io.gfile.rmtree(folder)
    return manifest


def _scored(job: Job, score_file: str, is_made: bool) -> tuple[list[dict], dict]:
    """The facts of the phase that scores, and those about the score file, made or found."""
    if is_made:
        facts = job.run()
        return facts, scoring.finish_scores(score_file, job, facts)
    if job.is_finished():
        facts = list(job.facts().values())
    else:
        facts = existing_scores.take_existing(score_file, job)
    existing_scores.check_texts(score_file, job, facts)
    return facts, score_files.read_manifest(score_file) or {}


def _deciding(
    job: Job, output_dir: str, deciding: Deciding | BySource, scoring: bool = True
) -> Job:
    """The job in its phase that writes to `output_dir` what is kept and what is dropped."""
    work = dataclasses.replace(job.work, folder=output_dir, deciding=deciding, scoring=scoring)
    return dataclasses.replace(job, work=work)


def _settings_given(temperature: float | None, quotas: Quotas | None) -> dict:
    """Settings that are listed where they are given, so that jobs without them are as ever."""
    found: dict = {} if temperature is None else {"temperature": temperature}
    if quotas is not None:
        shares = kept_shares(quotas)
        found["quotas"] = {name: str(share) for name, share in shares.items()} or PROPORTIONAL
    return found


def _expected(
    rule: DiscardRule, amount: Amount, deciding: Deciding | BySource | None, sources: dict
) -> float:
    if not isinstance(deciding, BySource):
        return rule.expected(amount)
    return deciding.expected(rule, {name: tally["documents"] for name, tally in sources.items()})


def kept_ids(output_dir: str | os.PathLike) -> set[str]:
    """The ids of what was kept of a corpus that is no files."""
    kept: set[str] = set()
    for name in names_in(os.fspath(output_dir)):
        if name.startswith(KEPT):
            with tf.io.gfile.GFile(os.path.join(output_dir, name), "rb") as file:
                kept.update(json.loads(line)["id"] for line in file)
    return kept


def check_reference(reference: str) -> None:
    """Raises ConfigurationError unless it says what percentiles are taken under."""
    if reference not in REFERENCES:
        choices = ", ".join(REFERENCES)
        raise ConfigurationError(f"reference is {reference!r}: choose one of {choices}.")


def _check_settings(rater, scores, output_dir: str, reference: str, quotas) -> None:
    identity.require_name(output_dir, "output_dir", "folder")
    if rater is None and scores is None:
        raise ConfigurationError("filter_corpus needs a rater or a score file: name one of them.")
    check_reference(reference)
    if quotas is not None and reference != "corpus":
        raise ConfigurationError(
            "quotas are about the sources of the corpus, and the artefact's distribution knows none"
            " of them: use reference 'corpus'."
        )
    if tf.io.gfile.exists(os.path.join(output_dir, MANIFEST)):
        raise DataError(
            f"{output_dir} holds a filtered corpus already ({MANIFEST} is there): choose another"
            " folder, or remove it."
        )


def _drift(job: Job, reference: ReferenceDistribution | None, limit: float) -> dict | None:
    if reference is None:
        return None
    scores = summary.all_scores(job)
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
    manifest = (score_files.read_manifest(scores) if scores else None) or {}
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
    manifest = score_files.read_manifest(scores) or {}
    ours = getattr(rater, "fingerprint", None)
    theirs = manifest.get("rater", {}).get("fingerprint")
    if ours and theirs and ours != theirs:
        raise DataError(
            f"{scores} was written by another rater than the one given (fingerprint {theirs[:12]}"
            f" and not {ours[:12]}): leave one of them out, or score again."
        )
    (file,) = identity.input_files([scores])
    return {"name": file.name, "size": file.size, "sha256": identity.digest(file)}


def _check_folder(output_dir: str, folder: str, fresh: bool) -> None:
    """Only what this job wrote may lie where it writes."""
    if not tf.io.gfile.isdir(output_dir):
        return
    ours = identity.shard_outputs(output_dir)
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
