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

from collections import Counter
from collections.abc import Mapping, Sequence
import dataclasses
import functools
import logging
import os

import numpy as np
import tensorflow as tf

from dr_keras import __version__
from dr_keras.corpus_jobs import identity
from dr_keras.corpus_jobs.cutting import COUNTS, Cutting, fewer
from dr_keras.corpus_jobs.duplicates import Merging, conflict_error
from dr_keras.corpus_jobs.near_duplicates import NearDuplicates
from dr_keras.corpus_jobs.placing import Made, OutputShard, Placing, corpora_of, output_shards
from dr_keras.corpus_jobs.prepared_inputs import Input, begin, open_input
from dr_keras.corpus_jobs.prepared_work import Numbered, PreparingWork, read_table
from dr_keras.corpus_jobs.reading_shards import InputShard, Reading, described
from dr_keras.corpus_jobs.runners import Runner, in_process, in_processes
from dr_keras.corpus_jobs.scoring import SHARD_BYTES
from dr_keras.corpus_jobs.shared_with_target import (
    DUPLICATE,
    NEAR_DUPLICATE,
    PART_NAMES,
    SHARED,
    UNUSED,
    Sharing,
    parts_without_target,
)
from dr_keras.corpus_jobs.units import Progress, UnitProgress, do_units
from dr_keras.data.corpora.base import Corpus, check_at_least
from dr_keras.data.formats.own_outputs import MANIFEST, WORK
from dr_keras.data.prepare import check_fractions
from dr_keras.data.prepared_manifest import (
    FORMAT,
    OWN_TEST,
    TOKENIZER_FOLDER,
    VERSION,
    part_fingerprint,
    token_dtype,
)
from dr_keras.data.splits import PARTS, split_fractions
from dr_keras.data.targets import HELD_OUT, TargetPlan, check_share, fractions_of_target
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.data.windows import check_windows
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import score_files
from dr_keras.system import locks
from dr_keras.system.whole_files import write_bytes
import gin

ROWS_PER_SHARD = 262_144

_logger = logging.getLogger(__name__)


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
    job = _Preparation(
        output_dir, own, other, made, fractions, share, near_duplicates, rows_per_shard, runner,
        progress,
    )  # fmt: skip
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


@dataclasses.dataclass(frozen=True)
class _Comparing(PreparingWork):
    """A round of what finds duplicates and what a target shares.

    Attributes:
      rounds: all of them.
      round: its name.
    """

    rounds: Merging | Sharing
    round: str

    label = "comparing"

    @property
    def phase(self) -> str:  # type: ignore[override]
        return self.round

    def output_path(self, name: str) -> str:
        return os.path.join(merged_folder(self.output), name)

    def run(self, unit: Numbered, tool=None, progress: UnitProgress | None = None) -> dict:
        """See `Merging.run`."""
        del tool, progress
        return self.finish(unit, self.rounds.run(self.round, unit.index))


def merged_folder(output: str) -> str:
    """Where units leave what they tell each other about duplicates."""
    return os.path.join(output, WORK, "merged")


def _parts_of_shard(
    rounds: Merging | Sharing, fractions: Mapping[str, float], plan: TargetPlan | None, shard: int
) -> np.ndarray:
    if isinstance(rounds, Sharing):
        assert plan is not None
        return rounds.parts(shard, plan)
    return parts_without_target(rounds.tables(shard), rounds.verdicts(shard), fractions)


@dataclasses.dataclass(frozen=True)
class _Preparation:
    """The phases, one after the other."""

    output: str
    own: Input
    target: Input | None
    made: Made
    fractions: Mapping[str, float]
    share: float | None
    near: NearDuplicates | None
    rows_per_shard: int
    runner: Runner
    progress: Progress | None

    def prepare(self, tokenizer: Tokenizer) -> dict:
        """Writes the parts; returns what the manifest says of them."""
        reading = Reading(
            self.output, described(tokenizer), int(tokenizer.vocabulary_size), self.near
        )
        shards = self._input_shards()
        read = self._do(reading, shards, tokenizer)
        self._check_read(shards, read)
        rounds, plan = self._compared(shards, read)
        parts = functools.partial(_parts_of_shard, rounds, self.fractions, plan)
        sizes = [about["documents"] for about in read]
        numbered = [Numbered(index, size) for index, size in enumerate(sizes)]
        placed = self._do(Placing(self.output, self.made, parts), numbered)
        order = list(dict.fromkeys(name for about in read for name in about["corpora"]))
        extents = [about["extents"] for about in placed]
        bytes_a_row = self.made.sequence_length * np.dtype(self.made.dtype).itemsize
        cut: dict[str, list[OutputShard]] = {
            part: output_shards(part, order, extents, self.made, self.rows_per_shard, bytes_a_row)
            for part in PART_NAMES
        }
        self._check_parts(cut, read)
        units = [unit for shards_of_part in cut.values() for unit in shards_of_part]
        done = iter(self._do(Cutting(self.output, self.made), units))
        described_parts = {}
        for part, of_part in cut.items():
            facts = [next(done) for _ in of_part]
            if facts or part != OWN_TEST:
                runs = corpora_of(part, order, extents)
                described_parts[part] = self._part(facts, runs)
        return {
            "target": None if plan is None else plan.name,
            "notes": list(plan.notes) if plan is not None else [],
            "counts": self._counts(shards, read, placed),
            "parts": described_parts,
        }

    def _do(self, work: PreparingWork, units: Sequence, tool=None) -> list[dict]:
        tf.io.gfile.makedirs(work.temporary)
        tf.io.gfile.makedirs(os.path.join(work.work, work.phase))
        return do_units(work, units, self.runner, tool, self.progress)

    def _input_shards(self) -> list[InputShard]:
        found: list[InputShard] = []
        for each in filter(None, (self.own, self.target)):
            for shard in each.source.shards:
                found.append(
                    InputShard(
                        len(found), shard, each.name, each.source.fields, each.is_cut,
                    )
                )  # fmt: skip
        return found

    def _check_read(self, shards: Sequence[InputShard], read: Sequence[dict]) -> None:
        """Raises DataError where there is nothing to prepare; warns where there are no groups."""
        of_own = len(self.own.source.shards)
        for each, chosen in ((self.own, slice(of_own)), (self.target, slice(of_own, None))):
            if each is None:
                continue
            if not any(about["documents"] for about in read[chosen]):
                reasons = _skipped(shards[chosen], read[chosen])
                text = each.source.format.setting(each.source.format.text_argument)
                raise DataError(
                    f"{each.where}: not one record of the input can be used"
                    f" ({_listed(reasons) or 'there is none'}). Name the field of the text, as in"
                    f" --gin_param \"{text} = 'content'\"."
                )
            group = each.source.fields.get(each.source.format.group_argument)
            if group and not any(about["groups"] for about in read[chosen]):
                _logger.warning(
                    "no record of the corpus %r has the group %r: every document is by itself",
                    each.name, group,
                )  # fmt: skip

    def _compared(
        self, shards: Sequence[InputShard], read: Sequence[dict]
    ) -> tuple[Merging | Sharing, TargetPlan | None]:
        """Duplicates found, and how the target is held out."""
        columns = ["id", "key", "content", "group", "count", "bytes"]
        if self.near is not None:
            columns.append("bands")
        rounds: Merging | Sharing = Merging(
            merged_folder(self.output),
            functools.partial(_table, self.output, columns),
            len(shards),
            len(self.own.source.shards),
            sum(about["documents"] for about in read),
            self.near is not None,
        )
        if self.target is not None:
            rounds = Sharing(rounds, self.fractions, fractions_of_target(), self.share)
        size = sum(about["documents"] for about in read)
        tf.io.gfile.makedirs(merged_folder(self.output))
        plan = None
        for name, count in rounds.rounds():
            units = [Numbered(index, size // count + 1) for index in range(count)]
            facts = self._do(_Comparing(self.output, rounds, name), units)
            if name == "resolve":
                describe = functools.partial(_where, self.output, shards)
                if error := conflict_error((about["conflict"] for about in facts), describe):
                    raise error
            if name == "settle":
                assert isinstance(rounds, Sharing) and self.target is not None
                plan = rounds.plan(facts, self.own.name, self.target.name)
        return rounds, plan

    def _check_parts(self, cut: Mapping[str, list], read: Sequence[dict]) -> None:
        """Raises DataError where a part has no examples."""
        for part in PARTS:
            if not cut[part]:
                of_target = self.target is not None and part in HELD_OUT
                origin = self.target.name if of_target and self.target else self.own.name
                documents = sum(about["documents"] for about in read)
                raise DataError(
                    f"The corpus '{origin}' gives the part '{part}' no examples ({documents:,}"
                    f" documents in all; an example needs {self.made.minimum_tokens} tokens, by"
                    " prepare_corpus.minimum_tokens): add documents, or raise"
                    f" {'target' if of_target else 'split'}_fractions.{part}, and start over with"
                    " --fresh."
                )

    def _part(self, facts: Sequence[dict], runs: Mapping[str, list]) -> dict:
        """What the manifest says of a part."""
        sources: dict[str, Counter[str]] = {}
        for about in facts:
            for name, counts in about["sources"].items():
                sources.setdefault(name, Counter()).update(counts)
            if len(sources) > 100_000:  # of a corpus in which every source is another
                sources = {name: Counter(counts) for name, counts in fewer(sources).items()}
        rows = {
            corpus: self.made.rows(sum(extent for _, extent in known))
            for corpus, known in runs.items()
        }
        corpora = [[corpus, count] for corpus, count in rows.items() if count]
        shards = [about["shard"] for about in facts]
        return {
            **{name: sum(about[name] for about in facts) for name in COUNTS},
            "corpora": corpora,
            "sources": fewer(sources),
            "fingerprint": part_fingerprint(corpora, shards),
            "shards": shards,
        }

    def _counts(
        self, shards: Sequence[InputShard], read: Sequence[dict], placed: Sequence[dict]
    ) -> dict:
        """Documents of the corpus, and of its target, and what became of those in no part."""
        of_own = len(self.own.source.shards)

        def counted(name: str, code: int, own: bool = True) -> tuple[str, int]:
            chosen = placed[:of_own] if own else placed[of_own:]
            return name, sum(about["left_out"].get(str(code), 0) for about in chosen)

        counts = {
            "documents": sum(about["documents"] for about in read[:of_own]),
            "bytes": sum(about["bytes"] for about in read[:of_own]),
            **dict(
                [
                    counted("duplicates", DUPLICATE),
                    counted("near_duplicates", NEAR_DUPLICATE),
                    counted("shared_with_target", SHARED),
                    counted("unused", UNUSED),
                ]
            ),
            "skipped": _skipped(shards[:of_own], read[:of_own], self.own),
        }
        if self.target is None:
            return counts
        return counts | {
            "target_documents": sum(about["documents"] for about in read[of_own:]),
            "target_bytes": sum(about["bytes"] for about in read[of_own:]),
            **dict(
                [
                    counted("target_duplicates", DUPLICATE, False),
                    counted("target_near_duplicates", NEAR_DUPLICATE, False),
                    counted("target_unused", UNUSED, False),
                ]
            ),
            "target_skipped": _skipped(shards[of_own:], read[of_own:], self.target),
        }


def _table(output: str, columns: list[str], shard: int):
    return read_table(output, shard, columns)


def _where(output: str, shards: Sequence[InputShard], shard: int, row: int) -> tuple[str, str, str]:
    """The id, source and place of a document, for people."""
    table = read_table(output, shard, ["id", "source", "piece", "position"]).slice(row, 1)
    (known,) = table.to_pylist()
    place = shards[shard].place(known["piece"], known["position"])
    return known["id"], known["source"], place


def _skipped(
    shards: Sequence[InputShard], read: Sequence[dict], of: Input | None = None
) -> dict[str, int]:
    """Reason -> records that were left out; says where the first of each lies."""
    found: Counter[str] = Counter(dict(of.corpus.skipped) if of is not None and of.is_cut else {})
    for shard, about in zip(shards, read):
        for reason, (count, piece, position) in about["skipped"].items():
            if reason not in found:
                _logger.warning(
                    "%s: %s; such records are left out", shard.place(piece, position), reason
                )
            found[reason] += count
    return dict(sorted(found.items()))


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in reasons.items())
