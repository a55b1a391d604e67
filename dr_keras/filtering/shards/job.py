"""The record of an unfinished job, so that shards of different jobs never mix.

`<work>/job.json` is written before the first shard and removed with the folder when the job is
finished. A job that is started where another one was left takes up its shards only if both have the
same rater, settings and input files.
"""

from collections.abc import Sequence
import dataclasses
import json
import os

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.filtering import score_files
from dr_keras.filtering.shards.plan import InputFile, Shard
from dr_keras.filtering.shards.work import FILTERED, SCORED, Work

_FILE = "job.json"


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
    described = {**facts, "inputs": [dataclasses.asdict(file) for file in inputs]}
    described = json.loads(json.dumps(described))
    path = os.path.join(work, _FILE)
    if not tf.io.gfile.exists(path) or not _has_done_anything(work):
        score_files.write_json(path, described)
        return
    with tf.io.gfile.GFile(path, "r") as file:
        found = json.loads(file.read())
    differing = [
        f"{name} (was {_shown(found.get(name))}, is {_shown(value)})"
        for name, value in described.items()
        if name != "inputs" and found.get(name) != value
    ]
    differing += _changed_inputs(found.get("inputs", []), described["inputs"])
    if differing:
        raise ConfigurationError(
            f"{work} holds an unfinished job that differs from this one in"
            f" {'; '.join(differing[:8])}: finish it as it was begun, choose another output, or"
            " start over with --fresh."
        )
    temporary = os.path.join(work, "tmp")
    if tf.io.gfile.exists(temporary):  # what a killed process was writing
        tf.io.gfile.rmtree(temporary)


def _has_done_anything(work: str) -> bool:
    folders = [os.path.join(work, phase) for phase in (SCORED, FILTERED)]
    return any(tf.io.gfile.exists(path) and tf.io.gfile.listdir(path) for path in folders)


def _shown(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _changed_inputs(before: list[dict], now: list[dict]) -> list[str]:
    old = {file["path"]: file for file in before}
    new = {file["path"]: file for file in now}
    changes = [f"input {path} (is new)" for path in new if path not in old]
    changes += [f"input {path} (is missing)" for path in old if path not in new]
    changes += [
        f"input {path} (has changed: {old[path]['size']} bytes then, {file['size']} now)"
        if old[path]["size"] != file["size"]
        else f"input {path} (was written to since)"
        for path, file in new.items()
        if path in old and old[path] != file
    ]
    if not changes and before != now:
        changes.append("the order of the input files")
    return changes


def facts_of(work: Work, shard: Shard, phase: str | None = None) -> dict | None:
    """The facts of a shard that is done, or None: its files are all there, in full length."""
    path = work.facts_path(shard, phase)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path, "r") as file:
        facts = json.loads(file.read())
    for name, about in facts["files"].items():
        if not tf.io.gfile.exists(name) or tf.io.gfile.stat(name).length != about["bytes"]:
            return None
    return facts


def is_finished(work: Work, shards: Sequence[Shard], phase: str) -> bool:
    return all(facts_of(work, shard, phase) is not None for shard in shards)
