"""The record of an unfinished job, so that shards of different jobs never mix.

`<work>/job.json` is written before the first shard and removed with the folder when the job is
finished. A job that is started where another one was left takes up its shards only if both have the
same rater, settings and input files, wherever these lie now. Where only the time of a file differs,
its shards count if the file's bytes are those that were read.
"""

from collections.abc import Sequence
import json
import os

import tensorflow as tf

from dr_keras.corpus_jobs.identity import InputFile, changes
from dr_keras.corpus_jobs.plan import Shard
from dr_keras.corpus_jobs.work import FILTERED, SCORED, Work
from dr_keras.data.formats.own_outputs import JOB
from dr_keras.errors import ConfigurationError
from dr_keras.rating import score_files

# How a job cuts its input and names its outputs; another number for whatever is not resumed here.
_LAYOUT = "files, 2"


def begin(work: str, facts: dict, inputs: Sequence[InputFile], fresh: bool = False) -> None:
    """Makes the folder of a job, or checks that the one that is there is of the same job.

    Args:
      work: the folder.
      facts: what must not change, name -> JSON-able value.
      inputs: the input files.
      fresh: whether what is there is thrown away.

    Raises:
      ConfigurationError: there is an unfinished job that differs; says in what.
    """
    if fresh and tf.io.gfile.exists(work):
        tf.io.gfile.rmtree(work)
    described = {"layout": _LAYOUT, **facts, "inputs": [file.to_dict() for file in inputs]}
    described = json.loads(json.dumps(described))
    path = os.path.join(work, JOB)
    found = score_files.read_json(path, "start over with --fresh")
    known = (None, _LAYOUT)  # a job of an earlier version that has done nothing is in nobody's way
    if found is not None and (_has_done_anything(work) or found.get("layout") not in known):
        differing = [
            f"{name} (was {_shown(found.get(name))}, is {_shown(value)})"
            for name, value in described.items()
            if name != "inputs" and found.get(name) != value
        ]
        changed, unknown = _changed_inputs(work, found, inputs)
        differing += changed
        if differing:
            raise ConfigurationError(
                f"{work} holds an unfinished job that differs from this one in"
                f" {'; '.join(differing[:8])}: finish it as it was begun, choose another output, or"
                " start over with --fresh."
            )
        for done in unknown:
            tf.io.gfile.remove(done)
    score_files.write_json(path, described)
    temporary = os.path.join(work, "tmp")
    if tf.io.gfile.exists(temporary):  # what a killed process was writing
        tf.io.gfile.rmtree(temporary)


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
    read: dict[str, dict] = {}
    for folder in (os.path.join(work, phase) for phase in (SCORED, FILTERED)):
        for name in tf.io.gfile.listdir(folder) if touched and tf.io.gfile.exists(folder) else ():
            if name.endswith(".json"):
                path = os.path.join(folder, name)
                read[path] = score_files.read_json(path)["inputs"]
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
