"""Scoring a corpus on one machine: a score file, from which any fraction can be filtered later."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import hashlib
import os

import numpy as np
import tensorflow as tf

from dr_keras.corpus_jobs import overwriting
from dr_keras.corpus_jobs.identity import WITH_SOURCES, Fingerprint
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import Document, fingerprint
from dr_keras.data.formats.own_outputs import UNFINISHED_SUFFIX, paths_of
from dr_keras.data.tokenizers.base import utf8, utf8_size
from dr_keras.errors import DataError
from dr_keras.rating import score_files
from dr_keras.system import locks
import gin

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Survey:
    """What a corpus holds.

    Attributes:
      documents: their number, every copy counted.
      size: bytes of text.
      fingerprint: see `data.documents.fingerprint`.
      contents: sums that do not know what the corpus is called.
    """

    documents: int
    size: int
    fingerprint: str
    contents: dict[str, str]


def survey(corpus: Corpus) -> Survey:
    """Reads a corpus once, so that what is wrong with it shows before any scoring.

    Raises:
      DataError: the corpus is empty or malformed, or two documents of one id differ.
    """
    counts = [0, 0]
    contents: dict[str, bytes] = {}
    sums = Fingerprint()

    def counted() -> Iterator[Document]:
        for document in corpus.documents():
            data = utf8(document.text)
            content = hashlib.blake2b(data, digest_size=8).digest()
            if contents.setdefault(document.id, content) != content:
                raise DataError(
                    f"Two documents of the corpus '{corpus.name}' have the id '{document.id}' and"
                    " different texts, so one score cannot stand for both: make the ids unique, or"
                    " read the corpus without its id field (ids are then made from the content)."
                )
            counts[0] += 1
            counts[1] += len(data)
            sums.add(document)
            yield document

    digest = fingerprint(counted())
    return Survey(counts[0], counts[1], digest, sums.to_dict())


@gin.configurable(denylist=["progress", "overwrite"])
@locks.alone_at("output", "scoring of a corpus", DataError, is_file=True)
def score_corpus(
    corpus: Corpus = gin.REQUIRED,
    rater: Callable = gin.REQUIRED,
    output: str = gin.REQUIRED,
    windows_per_batch: int = 256,
    step_bytes: int = 1 << 20,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> dict:
    """Scores every document and writes a score file with its manifest (see `score_files`).

    The corpus is read twice: once to check and count it, once to score it. Scores that exist
    already, of the same rater and the same corpus, are left as they are.

    Args:
      corpus: any corpus; only ids, sources and texts are used.
      rater: a loaded rater, or a function from a list of texts to scores [N] or a dict with
        "score" and perhaps "percentile" and "windows".
      output: path of the score file.
      windows_per_batch: windows in one call of a loaded rater's network.
      step_bytes: documents are scored together until they hold so much text; batches are filled
        from all of them, whatever their lengths.
      progress: called with (bytes done, bytes in all) as scoring goes on.
      overwrite: whether other scores at `output` may be replaced.

    Returns:
      The manifest.

    Raises:
      ConfigurationError: `output` is empty, or lies on a file of the corpus.
      DataError: see `survey`; or other scores lie at `output`, or another process makes them; or
        the rater gives something other than one score a text.
    """
    output = os.fspath(output)
    overwriting.require_name(output, "output")
    overwriting.refuse_overwriting(overwriting.of_scores(output), paths_of(corpus.describe()))
    found = survey(corpus)
    facts = {
        "format": "dr_keras scores",
        "schema_version": 1,
        "corpus": corpus.describe(),
        "corpus_fingerprint": found.fingerprint,
        **found.contents,
        "documents": found.documents,
        "bytes": found.size,
        "rater": {
            "path": getattr(rater, "path", None),
            "fingerprint": getattr(rater, "fingerprint", None),
        },
    }
    existing = _existing(output, facts, overwrite)
    if existing is not None:
        return existing
    sources: dict[str, dict] = {}
    done = failed = 0
    with score_files.ScoreWriter(output) as writer:
        for documents in _steps(corpus, step_bytes):
            columns = score_documents(rater, documents, windows_per_batch)
            ids, names = [d.id for d in documents], [d.source for d in documents]
            writer.write(ids, names, columns)
            for name, score in zip(names, columns["score"].tolist()):
                entry = sources.setdefault(name, {"documents": 0, "scored": 0, "mean_score": 0.0})
                entry["documents"] += 1
                if np.isfinite(score):
                    entry["scored"] += 1
                    entry["mean_score"] += (score - entry["mean_score"]) / entry["scored"]
            failed += int(np.sum(~np.isfinite(columns["score"])))
            done += sum(utf8_size(d.text) for d in documents)
            if progress is not None:
                progress(done, found.size)
    reference = getattr(rater, "document_reference", None)
    manifest = {
        **facts,
        "without_score": failed,
        "by_source": dict(sorted(sources.items())),
        "reference": reference.to_dict() if reference is not None else None,
        "file": {"name": os.path.basename(output), "bytes": tf.io.gfile.stat(output).length},
    }
    score_files.write_manifest(output, manifest)
    return manifest


def score_documents(
    rater: Callable, documents: list[Document], windows_per_batch: int = 256
) -> dict[str, np.ndarray]:
    """The scores of documents, as `score_texts` gives them."""
    texts = [document.text for document in documents]
    try:
        return score_texts(rater, texts, windows_per_batch)
    except DataError as error:
        raise DataError(f"{error} The first document is '{documents[0].id}'.") from error


def score_texts(
    rater: Callable, texts: Sequence[str | bytes], windows_per_batch: int = 256
) -> dict[str, np.ndarray]:
    """`score` and `percentile` float32 [N], `windows` int32 [N]; what the rater lacks is NaN or 1.

    Raises:
      DataError: the rater does not give one score a text.
    """
    if hasattr(rater, "score_texts"):
        result = rater.score_texts(texts, windows_per_batch=windows_per_batch)
    else:
        result = rater(texts)
    if not isinstance(result, dict):
        result = {"score": result}
    score = np.asarray(result["score"], np.float32)
    if score.shape != (len(texts),):
        raise DataError(
            f"The rater gave scores of shape {score.shape} for {len(texts)} texts: it has to give"
            " one score a text."
        )
    missing = np.full(len(texts), np.nan, np.float32)
    return {
        "score": score,
        "percentile": np.asarray(result.get("percentile", missing), np.float32),
        "windows": np.asarray(result.get("windows", np.ones(len(texts))), np.int32),
    }


def _existing(output: str, facts: dict, overwrite: bool) -> dict | None:
    """The manifest of scores that need not be computed again."""
    if overwrite or not tf.io.gfile.exists(output):
        return None
    manifest = score_files.read_manifest(output)
    known = WITH_SOURCES if manifest and manifest.get(WITH_SOURCES) else "corpus_fingerprint"
    if manifest is None and tf.io.gfile.exists(output + UNFINISHED_SUFFIX):
        return None  # of a run that ended before the manifest
    if manifest is None:  # a user's file, or scores whose manifest was lost
        reason = "it has no manifest"
    elif manifest.get(known) != facts[known]:
        reason = "it belongs to another corpus"
    elif manifest["rater"]["fingerprint"] != facts["rater"]["fingerprint"]:
        reason = "it was written by another rater"
    elif facts["rater"]["fingerprint"] is None:
        reason = "its rater has no fingerprint to know it by"
    else:
        return manifest
    raise DataError(
        f"{output} exists already, and {reason}: choose another path, or allow it to be overwritten"
        " (--overwrite)."
    )


def _steps(corpus: Corpus, step_bytes: int) -> Iterator[list[Document]]:
    step: list[Document] = []
    size = 0
    for document in corpus.documents():
        step.append(document)
        size += len(document.text)
        if size >= step_bytes:
            yield step
            step, size = [], 0
    if step:
        yield step
