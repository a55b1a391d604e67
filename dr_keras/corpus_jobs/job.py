"""A job and its phases: what is done of it, and that shards of different jobs never mix.

`<work>/job.json` is written before the first shard and removed with the folder when the job is
finished. A job that is started where another one was left takes up its shards only if both have the
same rater, settings and input files, wherever these lie now. Where only the time of a file differs,
its shards count if the file's bytes are those that were read; of a corpus that is no files, if the
pieces that were cut of it are.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import json
import os

import tensorflow as tf

from dr_keras.corpus_jobs.identity import InputFile, changes, digest
from dr_keras.corpus_jobs.runners import Runner, in_process
from dr_keras.corpus_jobs.source import CorpusSource, Shard, Source
from dr_keras.corpus_jobs.units import Progress, all_facts, do_units
from dr_keras.corpus_jobs.work import FILTERED, SCORED, Scorer, Work, scorer_for
from dr_keras.data.formats.own_outputs import JOB
from dr_keras.data.formats.records import identifying
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import score_files
from dr_keras.serving.window_scoring import WindowScoring

# How a job cuts its input and names its outputs; another number for whatever is not resumed here.
_LAYOUTS = {True: "corpus, 1", False: "files, 2"}


@dataclasses.dataclass(frozen=True)
class Job:
    """A corpus, what is done with each of its shards, and who does it.

    Attributes:
      source: what is read.
      work: what is done.
      rater: at hand; None where scores are given instead.
      runner: who does the shards, see `runners`.
      progress: who is told.
    """

    source: Source
    work: Work
    rater: Callable | None
    runner: Runner = in_process
    progress: Progress | None = None

    @property
    def shards(self) -> list[Shard]:
        return self.source.shards

    def begin(self, facts: dict, shard_bytes: int, fresh: bool = False) -> None:
        """Makes the folder of the job, or checks that the one that is there is of the same job.

        A corpus that is no files is cut into shards then.

        Args:
          facts: what else must not change, name -> JSON-able value.
          shard_bytes: of a shard.
          fresh: whether what is there is thrown away.

        Raises:
          ConfigurationError: there is an unfinished job that differs; says in what.
          DataError: the corpus cannot be used.
        """
        work, source = self.work.work, self.source
        if fresh and tf.io.gfile.exists(work):
            tf.io.gfile.rmtree(work)
        layout = _LAYOUTS[isinstance(source, CorpusSource)]
        described = {
            "layout": layout,
            "rater": getattr(self.rater, "fingerprint", None),
            "fields": identifying(source.fields),
            "window_scoring": dataclasses.asdict(self.work.window_scoring),
            "step_bytes": self.work.step_bytes,
            "shard_bytes": shard_bytes,
            **facts,
            "inputs": [file.to_dict() for file in source.files],
        }
        described = json.loads(json.dumps(described))
        path = os.path.join(work, JOB)
        found = score_files.read_json(path, "start over with --fresh")
        # a job of an earlier version that has done nothing is in nobody's way
        known = (None, layout)
        if found is not None and (_has_done_anything(work) or found.get("layout") not in known):
            changed, unknown = _changed_inputs(work, found, source.files)
            refuse(work, differing(found, described) + changed)
            for done in unknown:
                tf.io.gfile.remove(done)
        score_files.write_json(path, described)
        if tf.io.gfile.exists(self.work.temporary):  # what a killed process was writing
            tf.io.gfile.rmtree(self.work.temporary)
        try:
            source.cut(work, shard_bytes)
        except Exception:
            if not _has_done_anything(work):
                self.forget()
            raise
        if isinstance(source, CorpusSource):
            _check_pieces(work, source)

    def forget(self) -> None:
        """Removes the folder of a job of which nothing is worth keeping."""
        tf.io.gfile.rmtree(self.work.work)

    def facts(self) -> dict[str, dict]:
        """Name -> facts of the shards that are done in this phase."""
        return all_facts(self.work, self.shards)

    def is_finished(self) -> bool:
        """Whether all shards are done in this phase."""
        return len(self.facts()) == len(self.shards)

    def run(self, scorer: Scorer | None = None) -> list[dict]:
        """Does the shards that are not done yet; returns the facts of all.

        Args:
          scorer: what scores in the rater's place, here and nowhere else.

        Raises:
          DataError: no record of the input could be used.
        """
        work, runner = self.work, self.runner if scorer is None else in_process
        if scorer is None and work.scoring and self.rater is not None:
            scorer = scorer_for(self.rater, work.window_scoring)
        work.make_folders()
        facts = do_units(work, self.shards, runner, scorer, self.progress)
        if not any(shard["documents"] for shard in facts):
            reason = self._no_documents(facts)
            self.forget()
            raise DataError(reason)
        return facts

    def _no_documents(self, facts: list[dict]) -> str:
        """Why no record could be used, with the first reason."""
        for shard, found in zip(self.shards, facts):
            if found["errors"]:
                with tf.io.gfile.GFile(self.work.errors_path(shard), "r") as file:
                    first = json.loads(next(iter(file)))
                detail = f" ({first['detail']})" if first["detail"] else ""
                path = shard.pieces[first["piece"]].path
                text = shard.format.setting(shard.format.text_argument)
                return (
                    f"{path}: not one record of the input can be used; the first one:"
                    f" {first['reason']}{detail}. Name the field of the text, as in --gin_param"
                    f" \"{text} = 'content'\"."
                )
        return f"{self.shards[0].path}: the input holds no documents."


def new_job(
    source: Source,
    rater: Callable | None,
    folder: str,
    scoring: WindowScoring | None,
    step_bytes: int,
    runner: Runner = in_process,
    progress: Progress | None = None,
) -> Job:
    """A job that scores, see `Job` and `Work`.

    Args:
      folder: for what it needs until it is finished.
      scoring: None for `WindowScoring()`; what it leaves open is decided by the size of the files.
    """
    size = sum(file.size for file in source.files)
    settled = (scoring or WindowScoring()).settled(size, getattr(rater, "light", False))
    path = getattr(rater, "path", None) if hasattr(rater, "score_texts") else None
    path = getattr(rater, "reload", path)  # of several raters that work together
    work = Work(
        "", folder, source.fields, True, None, path, settled, step_bytes,
        getattr(rater, "trusted", False),
    )  # fmt: skip
    return Job(source, work, rater, runner, progress)


def differing(found: dict, described: dict) -> list[str]:
    """In what an unfinished job differs from one that is to begin, the inputs left aside."""
    return [
        f"{name} (was {_shown(found.get(name))}, is {_shown(value)})"
        for name, value in described.items()
        if name != "inputs" and found.get(name) != value
    ]


def refuse(work: str, differing: list[str]) -> None:
    """Raises ConfigurationError where there is anything in which two jobs differ."""
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
            refuse(work, ["the documents of the corpus, or their order"])


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
                yield path, score_files.read_json(path) or {}


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
