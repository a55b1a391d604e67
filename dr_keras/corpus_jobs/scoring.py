"""Scoring files: a score file beside the corpus, from which any fraction can be filtered later."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import os

import tensorflow as tf

from dr_keras.corpus_jobs import job, overwriting, summary
from dr_keras.corpus_jobs.corpus_scores import score_documents
from dr_keras.corpus_jobs.existing_scores import ExistingScores
from dr_keras.corpus_jobs.identity import (
    Fingerprint,
    InputFile,
    changes,
    check_scored_texts,
    input_files,
    short_name,
)  # fmt: skip
from dr_keras.corpus_jobs.plan import Shard, find_inputs, plan
from dr_keras.corpus_jobs.runners import Runner, in_process
from dr_keras.corpus_jobs.work import SCORED, Scorer, Work
from dr_keras.data.formats.own_outputs import ERRORS_SUFFIX, UNFINISHED_SUFFIX
from dr_keras.data.formats.reading import names_in, place
from dr_keras.data.formats.records import default_fields, fields_of, identifying
from dr_keras.data.formats.writing import GFileWriter
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import score_files as files_of_scores
from dr_keras.system import locks

# phase ("scoring" or "filtering"), bytes of input done, bytes in all
Progress = Callable[[str, int, int], None]
SHARD_BYTES = 64 << 20
SCORE_FOLDER = "_scores"
_OWN_FILE = "score_file.json"
_WAIT = 60.0  # seconds that another job may take to write its score file


@dataclasses.dataclass(frozen=True)
class Input:
    """Input files and their shards; `kind` and `fields` say how to read them."""

    kind: str
    fields: dict
    files: list[InputFile]
    shards: list[Shard]

    def describe(self) -> list[dict]:
        return [file.to_dict() for file in self.files]

    def paths(self) -> list[str]:
        return [file.path for file in self.files]


def open_input(paths: str | Sequence[str], shard_bytes: int) -> Input:
    """Finds the files and cuts them into shards. See `plan` and `records.fields_of`."""
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    kind, found = find_inputs([os.fspath(path) for path in paths])
    inputs = input_files(found)
    return Input(kind, fields_of(kind), inputs, plan(kind, inputs, shard_bytes))


def score_files(
    input: str | Sequence[str],
    rater: Callable,
    output: str | None = None,
    windows_per_batch: int = 256,
    step_bytes: int = 1 << 20,
    shard_bytes: int = SHARD_BYTES,
    runner: Runner = in_process,
    overwrite: bool = False,
    fresh: bool = False,
    progress: Progress | None = None,
) -> dict:
    """Scores every document of JSONL, Parquet or TFRecord files.

    A run that was stopped goes on, shard by shard, when it is called again. Records that cannot be
    read are listed in `<output>.errors.jsonl`.

    Args:
      input: file, glob or folder, or a list of these.
      rater: a loaded rater, or any function that `corpus_scores.score_corpus` takes.
      output: the score file, Parquet if it ends in .parquet, else JSON lines; None: below
        `_scores/` in the folder of the first input file.
      windows_per_batch, step_bytes: see `corpus_scores.score_corpus`.
      shard_bytes: larger files are done in ranges of about so many bytes.
      runner: see `runners`.
      overwrite: whether other scores at `output` may be replaced.
      fresh: whether what an unfinished run left is thrown away.
      progress: see `Progress`.

    Returns:
      The manifest, which also lies beside the score file.

    Raises:
      ConfigurationError: an unfinished run differs from this one; `output` is empty, or lies on a
        file of the input.
      DataError: the input is missing, damaged, or holds no documents; other scores lie at
        `output`, or another process makes them.
    """
    overwriting.require_name(output, "output")
    source = open_input(input, shard_bytes)
    output = default_score_file(source, rater) if output is None else output
    if output is None:
        raise ConfigurationError(
            f"No scores can be written beside {source.files[0].path}: name a file with --output."
        )
    output = os.fspath(output)
    overwriting.refuse_overwriting(overwriting.of_scores(output), source.paths())
    folder = output + UNFINISHED_SUFFIX
    with locks.alone(output, "scoring of files", DataError, is_file=True):
        existing = None if overwrite else existing_manifest(output, source, rater, folder)
        if existing is not None:
            return existing
        work = scoring_work(source, rater, folder, windows_per_batch, step_bytes)
        job.begin(folder, scoring_facts(work, rater, shard_bytes), source.files, fresh)
        facts = make_scores(work, source, scorer_for(rater, work), runner, progress)
        return finish_scores(output, work, source, rater, facts)


def scoring_work(
    source: Input, rater: Callable, folder: str, windows_per_batch: int, step_bytes: int
) -> Work:
    path = getattr(rater, "path", None) if hasattr(rater, "score_texts") else None
    trusted = getattr(rater, "trusted", False)
    return Work("", folder, source.fields, True, None, path, windows_per_batch, step_bytes, trusted)


def scoring_facts(work: Work, rater: Callable | None, shard_bytes: int) -> dict:
    """What must be the same in every run of a job that scores."""
    return {
        "rater": getattr(rater, "fingerprint", None),
        "fields": identifying(work.fields),
        "windows_per_batch": work.windows_per_batch,
        "step_bytes": work.step_bytes,
        "shard_bytes": shard_bytes,
    }


def scorer_for(rater: Callable, work: Work) -> Scorer:
    return lambda documents: score_documents(rater, documents, work.windows_per_batch)


def make_scores(
    work: Work, source: Input, scorer: Scorer, runner: Runner, progress: Progress | None
) -> list[dict]:
    """The phase "scored": returns the facts of all shards."""
    facts = run_phase(work, source.shards, scorer, runner, progress, "scoring")
    require_documents(facts, work, source.shards)
    return facts


def require_documents(facts: list[dict], work: Work, shards: Sequence[Shard]) -> None:
    """Raises DataError where no record could be used; then nothing of the job is worth keeping."""
    try:
        summary.require_documents(facts, work, shards)
    except DataError:
        tf.io.gfile.rmtree(work.work)
        raise


def run_phase(
    work: Work,
    shards: Sequence[Shard],
    scorer: Scorer | None,
    runner: Runner,
    progress: Progress | None,
    label: str,
) -> list[dict]:
    """Does the shards that are not done yet; returns the facts of all."""
    work.make_folders()
    left = [shard for shard in shards if job.facts_of(work, shard) is None]
    total = sum(shard.size for shard in shards)
    done = total - sum(shard.size for shard in left)

    def report(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(label, done, total)

    if left:
        runner(work, left, scorer, report)
    facts = [job.facts_of(work, shard) for shard in shards]
    missing = [shard.name for shard, found in zip(shards, facts) if found is None]
    if missing:
        raise DataError(
            f"The shards {', '.join(missing[:5])} were done, but their files are gone from"
            f" {work.folder or work.work}: let nobody else write there, and run this again."
        )
    return facts


def finish_scores(
    output: str, work: Work, source: Input, rater: Callable | None, facts: list[dict]
) -> dict:
    """Joins the scores, and writes the manifest last.

    Raises:
      DataError: a file is not what it was when the job began.
    """
    now = input_files(source.paths())
    touched = [file.path for file, before in zip(now, source.files) if file != before]
    if touched:
        raise DataError(
            f"{touched[0]} was written to while it was scored ({len(touched)} such files): leave"
            " the input alone, and start over (--fresh)."
        )
    # jobs with other outputs may share these scores: none sees them without their manifest
    with locks.alone(output, "writing of scores", DataError, wait=_WAIT, is_file=True):
        return _publish(output, work, source, rater, facts)


def _publish(
    output: str, work: Work, source: Input, rater: Callable | None, facts: list[dict]
) -> dict:
    # a run that ends between the two knows by this that the file is its own
    files_of_scores.write_json(os.path.join(work.work, _OWN_FILE), _own_file(output, work.work))
    written = summary.write_scores(output, work, source.shards)
    totals = summary.totals(facts)
    errors = None
    if totals["errors"]:
        errors = output + ERRORS_SUFFIX
        summary.write_errors(errors, work, source.shards, facts)
    digests = {name: value for shard in facts for name, value in shard["inputs"].items() if value}
    reference = getattr(rater, "document_reference", None)
    manifest = {
        "format": "dr_keras scores",
        "schema_version": 1,
        "input": [{**file, "sha256": digests[file["name"]]} for file in source.describe()],
        "fields": identifying(source.fields),
        **Fingerprint(totals).to_dict(),
        "documents": written["documents"],
        "bytes": totals["counts"]["bytes"],
        "windows": sum(shard["windows"] for shard in facts),
        "rater": {
            "path": getattr(rater, "path", None),
            "fingerprint": getattr(rater, "fingerprint", None),
        },
        "without_score": written["without_score"],
        "repeated_ids": written["repeated_ids"],
        "errors": {"records": totals["errors"], "file": errors and os.path.basename(errors)},
        "by_source": {
            name: {k: v for k, v in entry.items() if k not in ("kept", "dropped", "kept_bytes")}
            for name, entry in summary.by_source(work, source.shards, facts).items()
        },
        "reference": reference.to_dict() if reference is not None else None,
        "file": {"name": os.path.basename(output), "bytes": tf.io.gfile.stat(output).length},
    }
    files_of_scores.write_manifest(output, manifest)
    return manifest


def default_score_file(source: Input, rater: Callable | None) -> str | None:
    """`_scores/<name>-<rater>-<input>.parquet` in the folder of the first input file, or None.

    A rater without a fingerprint, or a folder that cannot be written to, has no such place. Scores
    that were copied there with their corpus, or begun, keep their name. Names of folders that begin
    with an underscore are passed over when a folder is read as a corpus.
    """
    fingerprint = getattr(rater, "fingerprint", None)
    if not fingerprint:
        return None
    first = source.files[0].path
    folder = os.path.join(os.path.dirname(first), SCORE_FOLDER)
    begins = f"{os.path.basename(first).split('.')[0]}-{fingerprint[:8]}-"
    path = os.path.join(folder, f"{begins}{short_name(source.files)}.parquet")
    if tf.io.gfile.exists(path):
        return path
    listed = names_in(folder) if tf.io.gfile.isdir(folder) else []
    for name in (name for name in listed if name.startswith(begins)):
        copied = os.path.join(folder, name.removesuffix(UNFINISHED_SUFFIX))
        if name.endswith(".parquet"):
            manifest = files_of_scores.read_manifest(copied) or {}
            if _rater_of(manifest) == fingerprint and not _differences(manifest, source):
                return copied
        elif copied != os.path.join(folder, name) and not tf.io.gfile.exists(copied):
            if job.is_about(os.path.join(folder, name), source.files):
                return copied
    probe = f"{path}.tmp-probe"
    try:
        tf.io.gfile.makedirs(folder)
        GFileWriter(probe).close()
        tf.io.gfile.remove(probe)
    except (tf.errors.OpError, OSError):
        return None
    return path


def existing_manifest(
    output: str, source: Input, rater: Callable | None, folder: str
) -> dict | None:
    """The manifest of scores that need not be made again; None where there is no score file.

    Args:
      folder: that of the job; a file that the job itself left without a manifest is none.

    Raises:
      DataError: there is one, of another rater or corpus; or another job makes it.
    """
    with locks.alone(output, "reading of scores", DataError, wait=_WAIT, is_file=True):
        if not tf.io.gfile.exists(output):
            return None
        manifest = files_of_scores.read_manifest(output)
    ours = getattr(rater, "fingerprint", None)
    if manifest is None:
        if _is_own_file(output, folder):
            return None
        reason = "it has no manifest"
    elif _rater_of(manifest) != ours:
        reason = "it was written by another rater"
    elif ours is None:
        reason = "its rater has no fingerprint to know it by"
    elif differences := _differences(manifest, source):
        differ = "; ".join(differences[:8])
        reason = f"it belongs to another corpus, or the corpus has changed: {differ}"
    else:
        return manifest
    raise DataError(
        f"{output} exists already, and {reason}: choose another path, or remove it (score_corpus:"
        " --overwrite)."
    )


def _rater_of(manifest: dict) -> str | None:
    return manifest.get("rater", {}).get("fingerprint")


def _differences(manifest: dict, source: Input) -> list[str]:
    """In what the input and the way to read it differ from those of a score file's manifest."""
    if "fields" not in manifest or "input" not in manifest:
        return ["it is not about files of records"]
    # an earlier version did not know all of today's settings, and read as their defaults say
    fields = identifying({**default_fields(source.kind), **manifest["fields"]})
    now = identifying(source.fields)
    found = [
        f"{name} (was {fields.get(name)!r}, is {now.get(name)!r})"
        for name in sorted({*fields, *now})
        if fields.get(name) != now.get(name)
    ]
    return found or changes(manifest["input"], source.files)


def _own_file(output: str, folder: str) -> dict:
    """How a job names a score file: from its own folder, as the two are moved together."""
    return {"path": os.path.relpath(place(output), place(folder))}


def _is_own_file(output: str, folder: str) -> bool:
    found = files_of_scores.read_json(os.path.join(folder, _OWN_FILE))
    return found == _own_file(output, folder)


def take_existing(path: str, work: Work, source: Input, progress: Progress | None) -> list[dict]:
    """The phase "scored" from a score file instead of a rater.

    Raises:
      DataError: ids are missing, unknown, or have two scores.
    """
    if job.is_finished(work, source.shards, SCORED):
        return [job.facts_of(work, shard) for shard in source.shards]
    phase = os.path.join(work.work, SCORED)
    if tf.io.gfile.exists(phase):  # only a look at every shard shows which scores nobody asks for
        tf.io.gfile.rmtree(phase)
    # as every record of the same files in the same order was scored, order tells copies apart
    manifest = files_of_scores.read_manifest(path) or {}
    same_files = _content_of(manifest.get("input", [])) == _content_of(source.describe())
    scores = ExistingScores(path, in_order=same_files)
    facts = make_scores(work, source, scores, in_process, progress)
    scores.check_all_used()
    return facts


def check_texts(path: str, work: Work, source: Input, facts: list[dict]) -> None:
    """Raises DataError where scores that exist are not about the texts of the phase "scored"."""
    manifest = files_of_scores.read_manifest(path) or {}
    changed = functools.partial(changes, manifest.get("input", []), source.files)
    try:
        check_scored_texts(manifest, Fingerprint(summary.totals(facts)), path, changed)
    except DataError:
        tf.io.gfile.rmtree(work.work)  # nothing of the job is worth keeping
        raise


def _content_of(files: list[dict]) -> list[tuple]:
    return [(os.path.basename(file["path"]), file["size"]) for file in files]
