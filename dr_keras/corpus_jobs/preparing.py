"""Preparing a corpus: any corpus becomes windows on disk that are read by row, however large it is.

    read     (an input shard)   text becomes token ids and a table of documents
    scatter, resolve, collect   duplicates are found across shards, see `duplicates`; with a target
      and link, settle          what the two share, see `shared_with_target`
    placed   (an input shard)   the part of each document
    cut      (an output shard)  its rows are gathered and written

and then the manifest, which `data.prepared_manifest` describes. The rows are those that `text_data`
makes of the same corpus in memory. Their bytes depend on the corpus and the settings alone: not on
how files were cut, on who did the units, or on what was done twice. What is in memory: in a worker
an input shard's table or some thousand rows, here sums by input shard.
"""

from collections.abc import Mapping, Sequence
import contextlib
import os

import tensorflow as tf

from dr_keras import __version__
from dr_keras.corpus_jobs import identity
from dr_keras.corpus_jobs.near_duplicates import NearDuplicates
from dr_keras.corpus_jobs.placing import Made
from dr_keras.corpus_jobs.preparation import Preparation
from dr_keras.corpus_jobs.prepared_inputs import begin, open_input
from dr_keras.corpus_jobs.runners import InProcesses, Runner, in_process, in_processes
from dr_keras.corpus_jobs.scoring import SHARD_BYTES
from dr_keras.corpus_jobs.units import Progress
from dr_keras.data.corpora.base import Corpus, check_at_least
from dr_keras.data.formats.own_outputs import MANIFEST, WORK
from dr_keras.data.prepare import check_fractions
from dr_keras.data.prepared_manifest import FORMAT, TOKENIZER_FOLDER, VERSION, token_dtype
from dr_keras.data.splits import split_fractions
from dr_keras.data.targets import check_share, fractions_of_target
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.data.windows import check_windows
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import score_files
from dr_keras.system import locks
from dr_keras.system.whole_files import write_bytes
import gin

ROWS_PER_SHARD = 262_144


@gin.configurable(denylist=["runner", "fresh", "progress"])
@locks.alone_at("output_dir", "preparation of a corpus", DataError)
def prepare_corpus(
    corpus: Corpus | str | Sequence[str] = gin.REQUIRED,
    output_dir: str = gin.REQUIRED,
    tokenizer: Tokenizer = gin.REQUIRED,
    sequence_length: int = gin.REQUIRED,
    packing: bool | None = None,
    minimum_tokens: int | None = None,
    fractions: Mapping[str, float] | None = None,
    target: Corpus | str | Sequence[str] | None = None,
    target_share: float | None = None,
    near_duplicates: NearDuplicates | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    shard_bytes: int = SHARD_BYTES,
    workers: int | None = None,
    runner: Runner | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> dict:
    """Turns a corpus into train, outer, validation and test examples on disk (`prepared_data`).

    A run that was stopped goes on, unit by unit, when it is called again.

    Args:
      corpus: any corpus; or a file, glob or folder, or a list of these.
      output_dir: a folder that holds no prepared corpus yet, local or through `tf.io.gfile`.
      tokenizer: turns text into ids; it is stored with the corpus.
      sequence_length: tokens in an example.
      packing, minimum_tokens, fractions, target_share: see `text_data`; None for what is bound
        there, else its defaults.
      target: a corpus, or paths, of the kind of text that models are to be good at, see
        `text_data`. Paths are read with what is bound in the scope "target"
        (`target/jsonl_corpus.text_field`).
      near_duplicates: how documents that say nearly the same as an earlier one are left out; None
        leaves out exact duplicates alone.
      rows_per_shard: examples in a file.
      shard_bytes: larger input files are read in ranges of about so many bytes, other corpora in
        pieces of so much text; a worker's memory grows with it.
      workers: processes on this machine; None does the work in this one.
      runner: who does it instead, see `runners`.
      fresh: whether what an unfinished run left is thrown away.
      progress: called with (phase, bytes done, bytes in all).

    Returns:
      The manifest, see `data.prepared_manifest`.

    Raises:
      ConfigurationError: a setting is out of its range; an unfinished run differs from this one;
        the output would be written over the input.
      DataError: the input is missing, damaged, changed or holds no documents; two documents have
        one id and different content; a part would be empty; the folder holds something else, or
        another process prepares a corpus there.
    """
    output_dir = os.fspath(output_dir)
    output_dir = output_dir.rstrip("/") or output_dir
    identity.require_name(output_dir, "output_dir", "folder")
    made = Made(
        sequence_length,
        bool(_as_text_data("packing", packing, False)),
        int(_as_text_data("minimum_tokens", minimum_tokens, 2)),
        int(tokenizer.end_id),
        token_dtype(tokenizer.vocabulary_size).name,
    )
    check_windows(made.sequence_length, made.minimum_tokens)
    check_at_least("prepare_corpus.rows_per_shard", rows_per_shard)
    share = _as_text_data("target_share", target_share, None)
    check_share(share)
    bound = _as_text_data("fractions", fractions, None)
    fractions = split_fractions() if bound is None else dict(bound)
    own = open_input(corpus, shard_bytes)
    check_fractions(own.corpus, fractions)
    other = None if target is None else open_input(target, shard_bytes, "target")
    if workers is not None and runner is not None:
        raise ConfigurationError("prepare_corpus takes workers or a runner, and not both.")
    if runner is None:
        runner = in_process if workers is None else in_processes(workers)
    settings = {
        "sequence_length": made.sequence_length,
        "packing": made.packing,
        "minimum_tokens": made.minimum_tokens,
        "fractions": fractions,
        "target_share": share if other is not None else None,
        "target_fractions": None if other is None else _by_name(fractions_of_target()),
        "near_duplicates": None if near_duplicates is None else near_duplicates.describe(),
        "rows_per_shard": rows_per_shard,
    }
    begin(output_dir, own, other, {**settings, "tokenizer": tokenizer.config()}, shard_bytes, fresh)
    for path in tokenizer.assets:
        with tf.io.gfile.GFile(path, "rb") as file:
            name = os.path.join(output_dir, TOKENIZER_FOLDER, os.path.basename(path))
            write_bytes(name, file.read())
    job = Preparation(
        output_dir, own, other, made, fractions, share, near_duplicates, rows_per_shard, runner,
        progress,
    )  # fmt: skip
    keeping = runner if isinstance(runner, InProcesses) else contextlib.nullcontext()
    with keeping:
        facts = job.prepare(tokenizer)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "dr_keras": __version__,
        "made": settings,
        "tokenizer": tokenizer.config(),
        "vocabulary_size": int(tokenizer.vocabulary_size),
        "dtype": made.dtype,
        "name": own.name,
        "weights": None if own.corpus.weights is None else dict(own.corpus.weights),
        "target_weights": None
        if other is None or other.corpus.weights is None
        else dict(other.corpus.weights),
        **own.describe(),
        **({} if other is None else {f"target_{k}": v for k, v in other.describe().items()}),
        **facts,
    }
    for each in (own, other):
        if each is not None:
            each.check_unchanged()
    score_files.write_json(os.path.join(output_dir, MANIFEST), manifest)
    tf.io.gfile.rmtree(os.path.join(output_dir, WORK))
    return manifest


def _as_text_data(name: str, value, usual):
    """A setting, else what `text_data` is bound to, so that both make the same examples."""
    if value is not None:
        return value
    return gin.get_bindings("text_data", resolve_references=False).get(name, usual)


def _by_name(fractions: Mapping[bool, Mapping[str, float]]) -> dict:
    return {"tiny" if tiny else "usual": dict(shares) for tiny, shares in fractions.items()}
