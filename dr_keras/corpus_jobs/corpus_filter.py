"""Filtering a corpus on one machine.

    <output_dir>/kept-00000.jsonl ...     id, text, source, score, percentile, and level, damage,
                                          count and corpus where they are known
    <output_dir>/dropped-00000.jsonl ...  id, source, score, percentile, reason
    <output_dir>/scores.jsonl             the scores, unless existing ones were named
    <output_dir>/manifest.json            what was done; its presence means done
    <output_dir>/_work/                   only until then

Everything is written under a temporary name and renamed, the manifest last. Whether a document
stays depends on its id, its score, the settings and the reference distribution alone, so a second
run writes the same corpus.
"""

from collections.abc import Callable
import json
import os

import tensorflow as tf

from dr_keras.corpus_jobs import overwriting
from dr_keras.corpus_jobs.corpus_scores import Progress, score_corpus
from dr_keras.corpus_jobs.identity import TEXTS, Fingerprint, check_scored_texts
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import Document, fingerprint
from dr_keras.data.formats.own_outputs import JOB, MANIFEST, WORK, paths_of
from dr_keras.data.formats.reading import names_in
from dr_keras.data.tokenizers.base import utf8, utf8_size
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import fractions, score_files
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import Decisions, decide, find_rule, reason_to_drop
from dr_keras.rating.score_files import Scores, number
from dr_keras.system import locks
import gin

REFERENCES = ("corpus", "artefact")
_DOCUMENTS = {"layout": "documents"}  # tells a job from those of `shards.filtering`
_TEMPORARY = ".tmp-filter-"  # what was `_work` in earlier versions


@gin.configurable(denylist=["rater", "scores", "progress"])
@locks.alone_at("output_dir", "filtering of a corpus", DataError)
def filter_corpus(
    corpus: Corpus = gin.REQUIRED,
    rater: Callable | None = None,
    scores: str | None = None,
    output_dir: str = gin.REQUIRED,
    discard_fraction: fractions.Decimal = gin.REQUIRED,
    batch_size: int = 64,
    seed: int = 0,
    method: str = "keep_probability",
    reference: str = "corpus",
    shard_bytes: int = 256 << 20,
    progress: Progress | None = None,
) -> dict:
    """Keeps the better share of a corpus.

    Args:
      corpus: what to filter.
      rater: see `score_corpus`; needed unless `scores` are given.
      scores: path of a score file of this very corpus.
      output_dir: a folder that holds no filtered corpus yet.
      discard_fraction, batch_size, seed, method: see `rules.decide`.
      reference: percentiles are taken among "corpus", the scores of the corpus itself, so that the
        share kept is what was asked for; or under the distribution stored in the "artefact".
      shard_bytes: a new output file begins after so many bytes.
      progress: called with (bytes done, bytes in all) while scoring.

    Returns:
      The manifest: `corpus_fingerprint`, `rater`, `settings`, `counts`, `by_source`,
      `achieved_fraction` (the share really dropped), `expected_fraction` (of batch top-K with
      these sizes), `skipped`, `files`.

    Raises:
      ConfigurationError: a setting is out of its range, or neither rater nor scores were given, or
        the output would be written over the corpus.
      DataError: the folder holds a filtered corpus, or another process filters into it; the
        scores are not those of this corpus.
    """
    output_dir = os.fspath(output_dir)
    output_dir = output_dir.rstrip("/") or output_dir
    oversized = fractions.oversized_batch(batch_size, discard_fraction)
    check_settings(rater, scores, output_dir, method, reference, shard_bytes)
    read = [*paths_of(corpus.describe()), *([] if scores is None else [scores])]
    overwriting.refuse_overwriting(overwriting.of_filter(output_dir), read)
    _remove_leftovers(output_dir)
    if scores is None:
        scores = os.path.join(output_dir, "scores.jsonl")
        score_corpus(corpus, rater, scores, progress=progress)
    table = score_files.read_scores(scores)
    _check_rater(table, rater, scores)
    decisions = decide(
        table.ids,
        table.score,
        discard_fraction,
        batch_size,
        seed,
        method,
        _reference(reference, rater, table, scores),
    )
    work = os.path.join(output_dir, WORK)
    score_files.write_json(os.path.join(work, JOB), _DOCUMENTS)
    try:
        facts, files = _write(corpus, table, decisions, work, shard_bytes, scores)
    except BaseException:
        tf.io.gfile.rmtree(work)
        raise
    for name in files:
        target = os.path.join(output_dir, name)
        tf.io.gfile.rename(os.path.join(work, name), target, overwrite=True)
    counts = facts["counts"]
    manifest = {
        "format": "dr_keras filtered corpus",
        "schema_version": 1,
        "corpus": corpus.describe(),
        **facts,
        "rater": (table.manifest or {}).get("rater", {"path": None, "fingerprint": None}),
        "scores": os.path.basename(scores) if os.path.dirname(scores) == output_dir else scores,
        "settings": {
            "method": method,
            "discard_fraction": float(fractions.exact_fraction(discard_fraction)),
            "batch_size": batch_size,
            "oversized_batch": oversized,
            "seed": seed,
            "reference": reference,
        },
        "achieved_fraction": counts["dropped"] / counts["documents"],
        "expected_fraction": fractions.achieved_fraction(batch_size, discard_fraction)
        if method == "keep_probability"
        else float(fractions.exact_fraction(discard_fraction)),
        "skipped": dict(corpus.skipped),
        "files": files,
    }
    score_files.write_json(os.path.join(output_dir, MANIFEST), manifest)
    tf.io.gfile.rmtree(work)
    return manifest


class _Shards:
    """JSON lines in files of limited size: <kind>-00000.jsonl, <kind>-00001.jsonl, ..."""

    def __init__(self, directory: str, kind: str, shard_bytes: int):
        self._directory, self._kind, self._limit = directory, kind, shard_bytes
        self.files: dict[str, dict[str, int]] = {}
        self._open = None
        self._next()  # there is a first file even if it stays empty

    def _next(self) -> None:
        self.close()
        self._name = f"{self._kind}-{len(self.files):05d}.jsonl"
        self.files[self._name] = {"documents": 0, "bytes": 0}
        self._open = tf.io.gfile.GFile(os.path.join(self._directory, self._name), "wb")
        self._open.write(b"")  # makes the file, which GFile otherwise puts off

    def write(self, record: dict) -> None:
        if self.files[self._name]["bytes"] >= self._limit:
            self._next()
        line = utf8(json.dumps(record, ensure_ascii=False) + "\n")
        self._open.write(line)
        self.files[self._name]["documents"] += 1
        self.files[self._name]["bytes"] += len(line)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _write(
    corpus: Corpus,
    table: Scores,
    decisions: Decisions,
    directory: str,
    shard_bytes: int,
    scores: str,
) -> tuple[dict, dict]:
    """Writes the shards; returns counts and fingerprint, and the files."""
    rows = table.rows()
    kept = _Shards(directory, "kept", shard_bytes)
    dropped = _Shards(directory, "dropped", shard_bytes)
    counts = {"documents": 0, "kept": 0, "dropped": 0, "bytes": 0, "kept_bytes": 0}
    by_source: dict[str, dict[str, int]] = {}
    contents = Fingerprint()

    def sorted_out():
        for document in corpus.documents():
            row = rows.get(document.id)
            if row is None:
                raise DataError(
                    f"The document '{document.id}' of the corpus '{corpus.name}' has no score in"
                    f" {scores}: the corpus or its ids have changed; score it again."
                )
            stays = bool(decisions.keep[row])
            rating = {
                "score": number(table.score[row]),
                "percentile": number(decisions.percentile[row]),
            }
            if stays:
                kept.write({**_record(document), **rating})
            else:
                reason = reason_to_drop(table.score[row], decisions.probability[row])
                about = {"id": document.id, "source": document.source}
                dropped.write({**about, **rating, "reason": reason})
            size = utf8_size(document.text)
            source = by_source.setdefault(document.source, dict.fromkeys(counts, 0))
            for tally in (counts, source):
                tally["documents"] += 1
                tally["bytes"] += size
                tally["kept" if stays else "dropped"] += 1
                tally["kept_bytes"] += size * stays
            contents.add(document)
            yield document

    try:
        digest = fingerprint(sorted_out())
    finally:
        kept.close()
        dropped.close()
    recorded = table.manifest or {}
    check_scored_texts(recorded, contents, scores)
    scored = recorded.get("corpus_fingerprint", digest)
    if TEXTS not in recorded and scored != digest:  # scores of an earlier version
        raise DataError(
            f"The corpus '{corpus.name}' is not the one that {scores} is about (fingerprint"
            f" {digest[:12]} and not {scored[:12]}): score it again."
        )
    facts = {
        "corpus_fingerprint": digest,
        "counts": counts,
        "by_source": dict(sorted(by_source.items())),
    }
    return facts, {**kept.files, **dropped.files}


def _record(document: Document) -> dict:
    record = {"id": document.id, "text": document.text, "source": document.source}
    if document.corpus:
        record["corpus"] = document.corpus
    if document.count != 1:
        record["count"] = document.count
    if document.level is not None:
        record["level"] = float(document.level)
    if document.damage is not None:
        record["damage"] = document.damage
    return record


def _reference(
    choice: str, rater: Callable | None, table: Scores, scores: str
) -> ReferenceDistribution | None:
    if choice == "corpus":
        return None
    stored = getattr(rater, "document_reference", None)
    if stored is not None:
        return stored
    if table.manifest and table.manifest.get("reference"):
        return ReferenceDistribution.from_dict(table.manifest["reference"])
    raise ConfigurationError(
        f"reference is 'artefact', but neither the rater nor the manifest beside {scores} has a"
        " reference distribution: use reference 'corpus', or an exported rater."
    )


def check_settings(rater, scores, output_dir, method, reference, shard_bytes) -> None:
    """Raises ConfigurationError or DataError for what must be wrong before anything is read."""
    overwriting.require_name(output_dir, "output_dir", "folder")
    if rater is None and scores is None:
        raise ConfigurationError("filter_corpus needs a rater or a score file: name one of them.")
    find_rule(method)
    if reference not in REFERENCES:
        choices = ", ".join(REFERENCES)
        raise ConfigurationError(f"reference is {reference!r}: choose one of {choices}.")
    if shard_bytes < 1:
        raise ConfigurationError(f"shard_bytes is {shard_bytes}: it must be at least 1.")
    if tf.io.gfile.exists(os.path.join(output_dir, MANIFEST)):
        raise DataError(
            f"{output_dir} holds a filtered corpus already ({MANIFEST} is there): choose another"
            " folder, or remove it."
        )


def _check_rater(table: Scores, rater, scores: str) -> None:
    ours = getattr(rater, "fingerprint", None)
    theirs = (table.manifest or {}).get("rater", {}).get("fingerprint")
    if ours and theirs and ours != theirs:
        raise DataError(
            f"{scores} was written by another rater than the one given (fingerprint {theirs[:12]}"
            f" and not {ours[:12]}): leave one of them out, or score again."
        )


def _remove_leftovers(output_dir: str) -> None:
    """What a run that was killed left behind. Raises DataError where others may have written it."""
    work, others = os.path.join(output_dir, WORK), overwriting.shard_outputs(output_dir)
    mark = score_files.read_json(os.path.join(work, JOB))
    names = names_in(output_dir) if tf.io.gfile.isdir(output_dir) else []
    earlier = [name for name in names if name.startswith(_TEMPORARY)]
    if (others or mark) and mark != _DOCUMENTS and not earlier:
        raise DataError(
            f"{output_dir} holds {(others or [WORK])[0]}, which no unfinished job on this corpus"
            " accounts for: choose another folder, or remove it."
        )
    for name in (*earlier, *([WORK] if mark else [])):
        tf.io.gfile.rmtree(os.path.join(output_dir, name))
    for name in others:
        tf.io.gfile.remove(os.path.join(output_dir, name))
