"""What the finished shards of a job say together: scores, errors, counts by source."""

from collections import Counter
from collections.abc import Sequence
import json

import numpy as np
import tensorflow as tf

from dr_keras.corpus_jobs.identity import Fingerprint, keys_of
from dr_keras.corpus_jobs.job import Job
from dr_keras.corpus_jobs.work import TALLY, read_part
from dr_keras.data.formats.writing import Lines
from dr_keras.rating import audit, score_files
from dr_keras.rating.score_files import number

# A source may be an address that no two documents share; then a list of all helps nobody.
MAXIMUM_SOURCES = 1000
OTHERS = "(other sources)"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def all_scores(job: Job) -> np.ndarray:
    """Every score of the corpus, float32 [N]: 4 bytes a document."""
    parts = [
        read_part(job.work.part_path(shard), ["score"]).column("score").to_numpy()
        for shard in job.shards
    ]
    return np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32)


def totals(facts: Sequence[dict]) -> dict:
    """Counts, malformed records by reason and the fingerprints of all shards together."""
    fingerprint = Fingerprint()
    errors: Counter[str] = Counter()
    for shard in facts:
        fingerprint.merge(Fingerprint(shard["content"]))
        errors.update(shard["errors"])
    return {
        "counts": {name: sum(shard[name] for shard in facts) for name in TALLY},
        "errors": dict(sorted(errors.items())),
        **fingerprint.to_dict(),
    }


def output_files(facts: Sequence[dict]) -> dict[str, dict]:
    """Name -> records and bytes of the files of kept and dropped records."""
    files = (item for shard in facts for item in shard["files"].items())
    return {name: about for name, about in files if "/" not in name}


def by_source(job: Job, facts: Sequence[dict]) -> dict[str, dict]:
    """Source -> tally and distribution of its scores; the rarest ones together as `OTHERS`."""
    tallies = [item for found in facts for item in found["sources"].items()]
    documents: Counter[str] = Counter()
    for source, tally in tallies:
        documents[source] += tally["documents"]
    common = sorted(documents, key=lambda source: (-documents[source], source))
    listed = set(common[:MAXIMUM_SOURCES])
    result: dict[str, dict] = {}
    for source, tally in tallies:
        entry = result.setdefault(source if source in listed else OTHERS, dict.fromkeys(TALLY, 0))
        for name in TALLY:
            entry[name] += tally[name]
    scores = scores_by_source(job, listed)
    for name, entry in result.items():
        entry.update(distribution(scores.pop(name)))
    return dict(sorted(result.items()))


def scores_by_source(job: Job, listed: set[str] | None = None) -> dict[str, np.ndarray]:
    """Source -> float32 [n], NaN too; the sources that are not `listed` as `OTHERS`; None: all."""
    scores: dict[str, list] = {}
    for shard in job.shards:
        table = read_part(job.work.part_path(shard), ["source", "score"])
        source = table.column("source").combine_chunks().dictionary_encode()
        if not len(source):
            continue
        values = table.column("score").to_numpy().astype(np.float32)
        codes = source.indices.to_numpy()
        for code, name in enumerate(source.dictionary.to_pylist()):
            called = name if listed is None or name in listed else OTHERS
            scores.setdefault(called, []).append(values[codes == code])
    return {name: np.concatenate(parts) for name, parts in scores.items()}


def audited(
    facts: Sequence[dict],
    sources: dict[str, dict],
    held_out: audit.Counts | None,
    chosen: bool = True,
) -> dict:
    """Whom the scores favour, by source, script, length and labels: see `rating.audit`.

    Args:
      facts: of the shards.
      sources: what `by_source` says of them.
      held_out: of the set that the rater was made for; None where it is not known.
      chosen: whether documents were kept and dropped.
    """
    tallies: audit.Tallies = {}
    largest = sorted(sources.items(), key=lambda item: -item[1]["documents"])
    of_sources = {
        name: [
            entry["documents"],
            entry["kept"] if chosen else entry["documents"],
            entry["scored"],
            entry["scored"] * (entry["mean_score"] or 0.0),
        ]
        for name, entry in largest
    }
    audit.add(tallies, {"source": of_sources})
    for shard in facts:
        groups = shard.get("groups", {})  # none of a job that an earlier version began
        if not chosen:
            groups = {
                dimension: {name: [n[0], n[0], *n[2:]] for name, n in known.items()}
                for dimension, known in groups.items()
            }
        audit.add(tallies, groups)
    return audit.audit(tallies, held_out, chosen)


def distribution(scores: np.ndarray) -> dict:
    """`scored`, `mean_score` and `score_quantiles` (probability -> score) of finite scores."""
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        return {"scored": 0, "mean_score": None, "score_quantiles": None}
    values = np.quantile(finite, QUANTILES)
    return {
        "scored": int(finite.size),
        "mean_score": float(np.mean(finite, dtype=np.float64)),
        "score_quantiles": {str(q): number(value) for q, value in zip(QUANTILES, values)},
    }


def write_scores(path: str, job: Job) -> dict:
    """Joins the scores of the shards into one score file.

    Returns:
      `documents`, `without_score` and `repeated_ids`: how many documents share their id with an
      earlier one of a different text, and one such id, or None; of several raters that work
      together also what they say of the scores of all (`SeveralRaters.summarised`).
    """
    documents = missing = 0
    keys, contents = [], []
    summarised = getattr(job.rater, "summarised", None)
    several: list[tuple[np.ndarray, np.ndarray]] = []
    with score_files.ScoreWriter(path, several=summarised is not None) as writer:
        for shard in job.shards:
            table = read_part(job.work.part_path(shard))
            ids = table.column("id").to_pylist()
            columns = {
                name: table.column(name).to_numpy() for name in ("score", "percentile", "windows")
            }
            if summarised is not None:
                if not ids:
                    continue
                each = table.column(score_files.EACH).combine_chunks().flatten()
                columns[score_files.EACH] = each.to_numpy(False).reshape(len(ids), -1)
                several.append((columns["score"], columns[score_files.EACH]))
            writer.write(ids, table.column("source").to_pylist(), columns)
            documents += len(ids)
            missing += int(np.sum(~np.isfinite(columns["score"])))
            keys.append(keys_of(ids, size=8))
            contents.append(table.column("content").to_numpy())
    return {
        "documents": documents,
        "without_score": missing,
        "repeated_ids": _repeated_ids(keys, contents, job),
        **(summarised(*map(np.concatenate, zip(*several))) if summarised is not None else {}),
    }


def _repeated_ids(keys: list, contents: list, job: Job) -> dict | None:
    """Different documents of one id: 24 bytes a document while this looks for them."""
    key, content = np.concatenate(keys), np.concatenate(contents)
    order = np.lexsort((content, key))
    same = key[order][1:] == key[order][:-1]
    differ = same & (content[order][1:] != content[order][:-1])
    if not np.any(differ):
        return None
    row = int(order[1:][differ].min())
    for shard in job.shards:
        ids = read_part(job.work.part_path(shard), ["id"]).column("id")
        if row < len(ids):
            break
        row -= len(ids)
    return {"documents": int(np.sum(differ)), "example": ids[row].as_py()}


def documents_by_file(job: Job, facts: Sequence[dict]) -> dict[str, int]:
    """Name of an input file -> its documents; {} of a job that an earlier version began."""
    found: Counter[str] = Counter()
    for shard, of_shard in zip(job.shards, facts):
        if "records" not in of_shard:
            return {}
        for piece, (documents, _) in zip(shard.pieces, of_shard["records"]):
            found[piece.name] += documents
    return dict(found)


def write_errors(path: str, job: Job, facts: Sequence[dict]) -> dict[str, int]:
    """Joins the malformed records of the shards, with the files and the positions in them.

    Returns:
      The facts of the file, which is there even if it is empty.
    """
    output = Lines(path, job.work.temporary)
    before = records = 0
    for shard, found in zip(job.shards, facts):
        starts, first = [], []
        counts = found.get("records") or [(0, 0)] * len(shard.pieces)  # of an earlier version
        for piece, positions, count in zip(shard.pieces, found["positions"], counts):
            starts.append(0 if piece.first_of_file else before)
            first.append(0 if piece.first_of_file else records)
            before, records = starts[-1] + positions, first[-1] + sum(count)
        if not found["errors"]:
            continue
        with tf.io.gfile.GFile(job.work.errors_path(shard), "r") as file:
            for line in file:
                error = json.loads(line)
                piece, position = error.pop("piece"), error.pop("position")
                place = {"file": shard.pieces[piece].path, "position": starts[piece] + position}
                record = first[piece] + error.pop("record", position)
                if record != place["position"]:  # there are blank lines before it
                    place["record"] = record
                output.write_json({**place, **error})
    output.close()
    return output.publish()
