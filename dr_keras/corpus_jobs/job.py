"""A job and its phases: what is done of it, and that shards of different jobs never mix.

`<work>/job.json` is written before the first shard and removed with the folder when the job is
finished. A job that is started where another one was left takes up its shards only if both have the
same rater, settings and input files, wherever these lie now. Where only the time of a file differs,
its shards count if the file's bytes are those that were read; of a corpus that is no files, if the
pieces that were cut of it are.
"""

from collections.abc import Callable, Iterator, Sequence
import json
import os

import tensorflow as tf

from dr_keras.corpus_jobs import summary
from dr_keras.corpus_jobs.identity import InputFile, changes, digest
from dr_keras.corpus_jobs.plan import Shard
from dr_keras.corpus_jobs.runners import Runner
from dr_keras.corpus_jobs.source import DOCUMENTS, Source
from dr_keras.corpus_jobs.work import FILTERED, SCORED, Scorer, Work
from dr_keras.data.formats.own_outputs import JOB
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import score_files

# phase ("scoring" or "filtering"), bytes of input done, bytes in all
Progress = Callable[[str, int, int], None]

# How a job cuts its input and names its outputs; another number for whatever is not resumed here.
_LAYOUTS = {True: "corpus, 1", False: "files, 2"}


def begin(work: str, facts: dict, source: Source, piece_bytes: int, fresh: bool = False) -> None:
    """Makes the folder of a job, or checks that the one that is there is of the same job.

    A corpus that is no files is cut into shards then.

    Args:
      work: the folder.
      facts: what must not change, name -> JSON-able value.
      source: the input.
      piece_bytes: of a piece of a corpus.
      fresh: whether what is there is thrown away.

    Raises:
      ConfigurationError: there is an unfinished job that differs; says in what.
      DataError: the corpus cannot be used.
    """
    if fresh and tf.io.gfile.exists(work):
        tf.io.gfile.rmtree(work)
    inputs, layout = source.files, _LAYOUTS[source.kind == DOCUMENTS]
    described = {"layout": layout, **facts, "inputs": [file.to_dict() for file in inputs]}
    described = json.loads(json.dumps(described))
    path = os.path.join(work, JOB)
    found = score_files.read_json(path, "start over with --fresh")
    known = (None, layout)  # a job of an earlier version that has done nothing is in nobody's way
    if found is not None and (_has_done_anything(work) or found.get("layout") not in known):
        differing = [
            f"{name} (was {_shown(found.get(name))}, is {_shown(value)})"
            for name, value in described.items()
            if name != "inputs" and found.get(name) != value
        ]
        changed, unknown = _changed_inputs(work, found, inputs)
        _refuse(work, differing + changed)
        for done in unknown:
            tf.io.gfile.remove(done)
    score_files.write_json(path, described)
    temporary = os.path.join(work, "tmp")
    if tf.io.gfile.exists(temporary):  # what a killed process was writing
        tf.io.gfile.rmtree(temporary)
    try:
        source.cut(work, piece_bytes)
    except Exception:
        if not _has_done_anything(work):  # then nothing of the job is worth keeping
            tf.io.gfile.rmtree(work)
        raise
    if source.kind == DOCUMENTS:
        _check_pieces(work, source)


def _refuse(work: str, differing: list[str]) -> None:
    if differing:
        raise ConfigurationError(
            f"{work} holds an unfinished job that differs from this one in"
            f" {'; '.join(differing[:8])}: finish it as it was begun, choose another output, or"
            " start over with --fresh."
        )


def _check_pieces(work: str, source: Source) -> None:
    """Raises ConfigurationError where shards were done of other pieces than there are now."""
    now = {shard.name: shard.pieces[0].file for shard in source.shards}
    for path, facts in _done(work):
        file = now.get(os.path.basename(path).removesuffix(".json"))
        ((_, read),) = facts["inputs"].items()
        if file is None or read not in (None, digest(file)):
            _refuse(work, ["the documents of the corpus, or their order"])


def is_about(work: str, inputs: Sequence[InputFile]) -> bool:
    """Whether there is an unfinished job on these files, wherever they lay when it was begun."""
    found = score_files.read_json(os.path.join(work, JOB))
    return found is not None and not _changed_inputs(work, found, inputs)[0]


def _has_done_anything(work: str) -> bool:
    folders = [os.path.join(work, name) for name in ("errors", SCORED, FILTERED)]
    return any(tf.io.gfile.exists(path) and tf.io.gfile.listdir(path) for path in folders)


def _changed_inputs(
    work: str, found: dict, inputs: Sequence[InputFile]
) -> tuple[list[str], list[str]]:
    """See `identity.changes`; and the facts of shards of touched files that nobody vouches for."""
    recorded = found.get("inputs", [])
    touched = _touched(recorded, inputs)
    read = {path: facts["inputs"] for path, facts in _done(work)} if touched else {}
    named = [item for names in read.values() for item in names.items()]
    digests = {name: digest for name, digest in named if digest}
    recorded = [
        {**file, "sha256": digests[file["name"]]}
        if file.get("name") in digests
        else {**file, "modified": touched.get(file.get("name"), file["modified"])}
        for file in recorded
    ]
    unknown = touched.keys() - digests.keys()
    undone = [path for path, names in read.items() if unknown & names.keys()]
    return changes(recorded, inputs), undone


def _done(work: str) -> Iterator[tuple[str, dict]]:
    """The facts of all shards that are on record, and where."""
    for folder in (os.path.join(work, phase) for phase in (SCORED, FILTERED)):
        for name in tf.io.gfile.listdir(folder) if tf.io.gfile.exists(folder) else ():
            if name.endswith(".json"):
                path = os.path.join(folder, name)
                yield path, score_files.read_json(path)


def _touched(recorded: list[dict], inputs: Sequence[InputFile]) -> dict[str, int]:
    """Name -> time of the files that have another time than they had, and the same size."""
    before = {file.get("name"): file for file in recorded}
    return {
        file.name: file.modified
        for file in inputs
        if file.name in before
        and before[file.name]["size"] == file.size
        and before[file.name]["modified"] != file.modified
    }


def _shown(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def facts_of(work: Work, shard: Shard, phase: str | None = None) -> dict | None:
    """The facts of a shard that is done, or None: its files are all there, in full length."""
    facts = score_files.read_json(work.facts_path(shard, phase))
    if facts is None:
        return None
    for name, about in facts["files"].items():
        path = work.output_path(name)
        if not tf.io.gfile.exists(path) or tf.io.gfile.stat(path).length != about["bytes"]:
            return None
    return facts


def is_finished(work: Work, shards: Sequence[Shard], phase: str) -> bool:
    return all(facts_of(work, shard, phase) is not None for shard in shards)


def run_phase(
    work: Work,
    shards: Sequence[Shard],
    scorer: Scorer | None,
    runner: Runner,
    progress: Progress | None,
    label: str,
) -> list[dict]:
    """Does the shards that are not done yet; returns the facts of all.

    Raises:
      DataError: no record of the input could be used.
    """
    work.make_folders()
    left = [shard for shard in shards if facts_of(work, shard) is None]
    total = sum(shard.size for shard in shards)
    done = total - sum(shard.size for shard in left)

    def report(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(label, done, total)

    if left:
        runner(work, left, scorer, report)
    facts = [facts_of(work, shard) for shard in shards]
    missing = [shard.name for shard, found in zip(shards, facts) if found is None]
    if missing:
        raise DataError(
            f"The shards {', '.join(missing[:5])} were done, but their files are gone from"
            f" {work.folder or work.work}: let nobody else write there, and run this again."
        )
    try:
        summary.require_documents(facts, work, shards)
    except DataError:
        tf.io.gfile.rmtree(work.work)  # nothing of the job is worth keeping
        raise
    return facts
