"""What a corpus is prepared from, and that an unfinished preparation is of the same."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os

import tensorflow as tf

from dr_keras.corpus_jobs import identity
from dr_keras.corpus_jobs.identity import InputFile, digest, input_files
from dr_keras.corpus_jobs.job import differing, refuse
from dr_keras.corpus_jobs.prepared_work import PreparingWork
from dr_keras.corpus_jobs.source import CorpusSource, Source, plan
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.formats.base import FORMATS
from dr_keras.data.formats.listing import default_name
from dr_keras.data.formats.own_outputs import JOB, MANIFEST, WORK
from dr_keras.data.formats.records import fields_of, identifying
from dr_keras.data.prepare import find_corpus_files
from dr_keras.data.prepared_manifest import FORMAT, OWN_TEST, TOKENIZER_FOLDER
from dr_keras.data.splits import PARTS
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import score_files
import gin

# How a job cuts its work and names its files; another number for whatever is not resumed here.
_LAYOUT = 1
_FOLDERS = (*PARTS, OWN_TEST, TOKENIZER_FOLDER)


@dataclasses.dataclass(frozen=True)
class Input:
    """A corpus that is to be prepared, or its target.

    Attributes:
      source: it in shards; a corpus that is no files has none until it is cut.
      corpus: itself, for what it is called, its weights and what it says of itself.
      scope: "" or "target".
    """

    source: Source
    corpus: Corpus
    scope: str = ""

    @property
    def name(self) -> str:
        return self.corpus.name

    @property
    def is_cut(self) -> bool:
        """Whether its shards are pieces that were cut of a corpus that is no files."""
        return isinstance(self.source, CorpusSource)

    @property
    def where(self) -> str:
        """For messages."""
        return self.source.files[0].path if self.source.files else f"the corpus '{self.name}'"

    @property
    def inputs(self) -> list[dict]:
        """By what its files are known, in a job of perhaps two corpora."""
        files = [file.to_dict() for file in self.source.files]
        return [{**file, "name": f"{self.scope}:{file['name']}"} for file in files]

    def files_now(self) -> list[InputFile]:
        """Its files as they are now, under the names of `inputs`."""
        found = input_files([file.path for file in self.source.files])
        return [dataclasses.replace(file, name=f"{self.scope}:{file.name}") for file in found]

    def check_unchanged(self) -> None:
        """Raises DataError where a file is not what it was when the job began."""
        known = {file["name"]: file for file in self.inputs}
        for file in self.files_now():
            if file.to_dict() != known[file.name]:
                raise DataError(
                    f"{file.path} was written to while it was prepared: leave the input alone, and"
                    " start over with --fresh."
                )

    def describe(self) -> dict:
        """What a manifest says of it."""
        return {
            "input": [file.to_dict() for file in self.source.files],
            "fields": identifying(self.source.fields),
            "corpus": self.corpus.describe() if self.is_cut else None,
        }


def open_input(
    corpus: Corpus | str | os.PathLike | Sequence[str], shard_bytes: int, scope: str = ""
) -> Input:
    """Finds the files of a corpus and cuts them into shards, or takes a corpus as it is.

    Args:
      corpus: a corpus, or paths.
      shard_bytes: see `source.plan`.
      scope: of the bindings by which paths are read.

    Raises:
      ConfigurationError: it is neither; the files are of several kinds.
      DataError: a path names nothing that can be read.
    """
    if shard_bytes < 1:
        raise ConfigurationError(f"shard_bytes is {shard_bytes}: it must be at least 1.")
    if isinstance(corpus, Corpus):
        return Input(CorpusSource(corpus), corpus, scope)
    if not isinstance(corpus, str | os.PathLike | Sequence):
        raise ConfigurationError(
            f"corpus is {corpus!r}: give a corpus, such as @text_corpus(), or paths of files."
        )
    with gin.config_scope(scope or None):
        found = find_corpus_files(corpus)
        found.say()
        bound = gin.get_bindings(f"{found.kind}_corpus")
        paths = [corpus] if isinstance(corpus, str | os.PathLike) else list(corpus)
        name = " + ".join(map(default_name, paths if scope else paths[:1]))
        format = FORMATS[found.kind]
        whole = format.corpus(found.paths, **({} if "name" in bound else {"name": name}))
        # these are about the corpus as a whole, in its order
        is_whole = any(bound.get(setting) is not None for setting in ("max_documents", "only"))
        if is_whole or not format.has_records:
            return Input(CorpusSource(whole), whole, scope)
        files = input_files(found.paths)
        shards = plan(found.kind, files, shard_bytes)
        return Input(Source(format, fields_of(found.kind), files, shards), whole, scope)


def begin(
    output: str,
    own: Input,
    target: Input | None,
    settings: Mapping,
    shard_bytes: int,
    fresh: bool = False,
) -> None:
    """Makes the folder of a job, or checks that the one that is there is of the same job.

    Corpora that are no files are cut into shards then.

    Raises:
      ConfigurationError: there is an unfinished job that differs; the output would be written over
        the input.
      DataError: the folder holds something else; a corpus cannot be used.
    """
    work = os.path.join(output, WORK)
    inputs = [each for each in (own, target) if each is not None]
    outputs = [os.path.join(output, name) for name in (MANIFEST, WORK, *_FOLDERS)]
    identity.refuse_overwriting(outputs, [path for each in inputs for path in each.source.paths()])
    found = score_files.read_json(os.path.join(work, JOB), "start over with --fresh")
    _check_folder(output, found, fresh)
    if fresh:
        for path in outputs[1:]:
            if tf.io.gfile.exists(path):
                tf.io.gfile.rmtree(path)
        found = None
    job = {
        "format": FORMAT,
        "layout": _LAYOUT,
        **settings,
        "shard_bytes": shard_bytes,
        **{
            f"{each.scope or 'corpus'} {name}": value
            for each in inputs
            for name, value in _known_by(each).items()
        },
        "inputs": [file for each in inputs for file in each.inputs],
    }
    job = json.loads(json.dumps(job))
    if found is not None:
        files = [
            dataclasses.replace(file, name=known["name"])
            for each in inputs
            for file, known in zip(each.source.files, each.inputs)
        ]
        refuse(work, differing(found, job) + identity.changes(found.get("inputs", []), files))
    score_files.write_json(os.path.join(work, JOB), job)
    for folder in (work, os.path.join(work, "target")):
        if tf.io.gfile.exists(os.path.join(folder, "tmp")):  # what a killed process was writing
            tf.io.gfile.rmtree(os.path.join(folder, "tmp"))
    for each in inputs:
        if isinstance(each.source, CorpusSource):
            each.source.cut_only(
                os.path.join(work, each.scope) if each.scope else work, shard_bytes
            )
    _check_pieces(output, inputs)


def _known_by(each: Input) -> dict:
    described = {name: value for name, value in each.corpus.describe().items() if name != "skipped"}
    fields = {name: v for name, v in each.source.fields.items() if name != "on_malformed"}
    return {"name": each.name, "fields": fields, "is": described if each.is_cut else None}


def _check_folder(output: str, job: dict | None, fresh: bool) -> None:
    """Only what this job wrote may lie where it writes."""
    if tf.io.gfile.exists(os.path.join(output, MANIFEST)):
        raise DataError(
            f"{output} holds a finished corpus already ({MANIFEST} is there): choose another"
            " folder, or remove it."
        )
    ours = [name for name in _FOLDERS if tf.io.gfile.exists(os.path.join(output, name))]
    if ours and job is None and not fresh:
        raise DataError(
            f"{output} holds {ours[0]}, which no unfinished job here accounts for: choose another"
            " folder, or start over with --fresh."
        )


def _check_pieces(output: str, inputs: Sequence[Input]) -> None:
    """Raises ConfigurationError where shards were read of other pieces than there are now."""
    index = 0
    for each in inputs:
        for shard in each.source.shards:
            path = os.path.join(PreparingWork(output).work, "read", f"{index:05d}.json")
            facts = score_files.read_json(path)
            if each.is_cut and facts is not None and facts["piece"] != digest(shard.pieces[0].file):
                refuse(os.path.join(output, WORK), ["the documents of the corpus, or their order"])
            index += 1
