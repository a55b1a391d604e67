"""The phases of preparing a corpus, which `preparing` describes, and what comes of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
import dataclasses
import functools
import logging
import os

import numpy as np
import tensorflow as tf

from dr_keras.corpus_jobs.cutting import COUNTS, Cutting, fewer
from dr_keras.corpus_jobs.duplicates import Merging, conflict_error
from dr_keras.corpus_jobs.near_duplicates import NearDuplicates
from dr_keras.corpus_jobs.placing import Made, OutputShard, Placing, corpora_of, output_shards
from dr_keras.corpus_jobs.prepared_inputs import Input
from dr_keras.corpus_jobs.prepared_work import Numbered, PreparingWork, read_table
from dr_keras.corpus_jobs.reading_shards import InputShard, Reading, described
from dr_keras.corpus_jobs.runners import Runner, UnitProgress
from dr_keras.corpus_jobs.shared_with_target import (
    DUPLICATE,
    NEAR_DUPLICATE,
    PART_NAMES,
    SHARED,
    UNUSED,
    Sharing,
    parts_without_target,
)
from dr_keras.corpus_jobs.units import Progress, do_units
from dr_keras.data.formats.own_outputs import WORK
from dr_keras.data.prepared_manifest import OWN_TEST, part_fingerprint
from dr_keras.data.splits import PARTS
from dr_keras.data.targets import HELD_OUT, TargetPlan, fractions_of_target
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import DataError

_logger = logging.getLogger(__name__)
_SOURCES_HELD = 100_000
_LEFT_OUT = {
    "duplicates": DUPLICATE,
    "near_duplicates": NEAR_DUPLICATE,
    "shared_with_target": SHARED,
    "unused": UNUSED,
}


@dataclasses.dataclass(frozen=True)
class _Comparing(PreparingWork):
    """A round of what finds duplicates and what a target shares.

    Attributes:
      rounds: all of them.
      round: its name.
    """

    rounds: Merging | Sharing
    round: str

    @property
    def label(self) -> str:  # type: ignore[override]
        return f"comparing ({self.round})"

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
    return parts_without_target(*rounds.read(shard), fractions)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """The phases of a preparation, one after the other.

    Attributes:
      output: folder of the prepared corpus.
      own, target: what is read.
      made: how windows are made.
      fractions: share of each part of the corpus.
      share: of the target that is held out, see `text_data`.
      near: what tells near-duplicates, or None.
      rows_per_shard: rows in a file.
      runner: who does the units.
      progress: who is told.
    """

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
        placed = self._do(Placing(self.output, self.made, parts), _by_table(read))
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
                fields = each.source.fields
                found.append(InputShard(len(found), shard, each.name, fields, each.is_cut))
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
        merging = Merging(
            merged_folder(self.output),
            functools.partial(_table, self.output, columns),
            len(shards),
            len(self.own.source.shards),
            sum(about["documents"] for about in read),
            self.near is not None,
        )
        rounds: Merging | Sharing = merging
        if self.target is not None:
            rounds = Sharing(merging, self.fractions, fractions_of_target(), self.share)
        by_table = _by_table(read)
        size = sum(unit.size for unit in by_table)
        tf.io.gfile.makedirs(merged_folder(self.output))
        plan = None
        for name, count in rounds.rounds():
            buckets = [Numbered(index, size // count) for index in range(count)]
            units = buckets if name in ("resolve", "link") else by_table
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
            if len(sources) > _SOURCES_HELD:  # of a corpus in which every source is another
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
        """Documents of the corpus and of its target, and how many are in no part, and why."""
        of_own = len(self.own.source.shards)
        found: dict = {}
        for each, chosen, prefix in (
            (self.own, slice(of_own), ""), (self.target, slice(of_own, None), "target_"),
        ):  # fmt: skip
            if each is None:
                continue
            left_out = Counter[str]()
            for about in placed[chosen]:
                left_out.update(about["left_out"])
            counts = {
                "documents": sum(about["documents"] for about in read[chosen]),
                "bytes": sum(about["bytes"] for about in read[chosen]),
                **{name: left_out[str(code)] for name, code in _LEFT_OUT.items()},
                "skipped": _skipped(shards[chosen], read[chosen], each),
            }
            found |= {prefix + name: count for name, count in counts.items()}
        found.pop("target_shared_with_target", None)
        return found


def _by_table(read: Sequence[dict]) -> list[Numbered]:
    """A unit for each input shard, as large as the table of its documents."""
    return [
        Numbered(index, sum(f["bytes"] for n, f in about["files"].items() if n.endswith("parquet")))
        for index, about in enumerate(read)
    ]


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
