"""What a corpus in shards has in common with its target, and which part each document goes to.

How much of a target is held out may depend on how much of the corpus it would take. So what is
found for a document is the *share* of the target above which it is left out (inf: never): the
target holds out a unit, a group or a document without one, where its hash lies below the share. All
counts follow for any share, by the functions of `dr_keras.data.targets` that split one in memory.

Documents meet in the buckets of what links them: their key, their group and, where near-duplicates
are left out, their bands.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
import dataclasses
import functools

import numpy as np
import pyarrow as pa

from dr_keras.corpus_jobs import duplicates
from dr_keras.corpus_jobs.document_tables import (
    Clusters,
    Exchange,
    bucket_of,
    numbers,
    table_of,
    text_words,
    words_of,
)
from dr_keras.corpus_jobs.duplicates import STAYS, Merging, Verdicts, bands_of
from dr_keras.data.documents import split_key
from dr_keras.data.splits import PARTS, part_of
from dr_keras.data.targets import (
    TargetPlan,
    candidate_shares,
    count_held,
    count_taken,
    held_unit,
    plan_target,
)

# Codes of parts: places in this tuple. "own_test" is the corpus's own test part beside a target's.
PART_NAMES = (*PARTS, "own_test")
# In no part: a duplicate, a near-duplicate, shared with what is held out, and what nobody uses (the
# outer and validation parts of a corpus beside a target; what of a target is not held out).
DUPLICATE, NEAR_DUPLICATE, SHARED, UNUSED = -1, -2, -3, -4

# What links documents; `_UNIT` goes back to the shard of a target that has a unit first.
_KEY, _GROUP, _BAND, _UNIT = range(4)
_LINK = [
    ("kind", pa.uint8()),
    ("link0", pa.uint64()),
    ("link1", pa.uint64()),
    ("unit", pa.float64()),
]
_LINKS = pa.schema([("shard", pa.int32()), ("target", pa.bool_()), *_LINK])
_FOUND = pa.schema(_LINK)


def parts_without_target(
    table: pa.Table, verdicts: Verdicts, fractions: Mapping[str, float]
) -> np.ndarray:
    """The part of each document of a shard of a corpus, by `split_documents`'s rule.

    Args:
      table: of the shard.
      verdicts: what stays of it.
      fractions: share of each part.

    Returns:
      int8 [n]: a place in `PART_NAMES`, or `DUPLICATE`, `NEAR_DUPLICATE`.
    """
    reasons = {duplicates.DUPLICATE: DUPLICATE, duplicates.NEAR_DUPLICATE: NEAR_DUPLICATE}
    parts = np.zeros(len(table), np.int8)
    for reason, code in reasons.items():
        parts[verdicts.reason == reason] = code
    for row, key in _split_keys(table, verdicts).items():
        parts[row] = PARTS.index(part_of(key, fractions))
    return parts


@dataclasses.dataclass(frozen=True)
class Sharing:
    """The rounds "link" and "settle" between a corpus and its target, after those of `Merging`.

    The documents of the target that are held out are its outer, validation and test parts; those of
    the corpus's train and test parts stay that are not linked to any of them. Can be pickled.

    Attributes:
      merging: the rounds before, over the corpus and the target.
      fractions: share of each part of the corpus.
      target_fractions: `targets.fractions_of_target()`.
      share: of the target that is held out, see `targets.split_target`.
    """

    merging: Merging
    fractions: Mapping[str, float]
    target_fractions: Mapping[bool, Mapping[str, float]]
    share: float | None = None

    def rounds(self) -> list[tuple[str, int]]:
        """As `Merging.rounds`, which are among them."""
        merging = self.merging
        return [*merging.rounds(), ("link", merging.buckets), ("settle", merging.shards)]

    def run(self, round: str, unit: int) -> dict:
        """As `Merging.run`. Facts of "settle" hold `counts`, by which `plan` decides."""
        return (getattr(self, round, None) or getattr(self.merging, round))(unit)

    def collect(self, shard: int) -> dict:
        """As `Merging.collect`; sends what links its documents to others."""
        table, verdicts, parts = self._read(shard)
        kinds, links, owners = self._links_of(table, verdicts, parts)
        units = np.full(len(kinds), np.inf)
        if parts is None:
            by_row = {row: held_unit(key) for row, key in _split_keys(table, verdicts).items()}
            units = np.array([by_row[row] for row in owners.tolist()], float)
        rows, units = _least(Clusters(kinds, links), units)
        columns = [kinds[rows], *links[rows].T, units]
        place = [np.full(len(rows), shard), np.full(len(rows), self._is_target(shard))]
        to = bucket_of(links[rows, 0], self.merging.buckets)
        sent = self._links.send(shard, table_of([*place, *columns], _LINKS), to)
        return self.merging.counted(verdicts) | {"files": sent}

    def link(self, bucket: int) -> dict:
        """Tells shards of a corpus what the target has, and those of the target what is theirs."""
        rows = self._links.receive(bucket)
        kinds, target = rows["kind"].to_numpy(), rows["target"].to_numpy()
        clusters = Clusters(numbers(rows, ("kind", "link0", "link1")))
        _, units = _least(clusters, rows["unit"].to_numpy())
        unit = np.zeros(len(rows))
        unit[clusters.order] = np.repeat(units, clusters.sizes)
        shared = np.flatnonzero(~target & np.isfinite(unit))
        of_target = np.flatnonzero(target & (kinds == _GROUP))
        links = numbers(rows, ("link0", "link1"))
        first = np.sort(of_target[Clusters(links[of_target]).first])
        back = np.concatenate([shared, first])
        kind = np.where(target[back], _UNIT, kinds[back])
        columns = [kind, *links[back].T, unit[back]]
        to = rows["shard"].to_numpy()[back]
        return {"files": self._found.send(bucket, table_of(columns, _FOUND), to)}

    def settle(self, shard: int) -> dict:
        """Counts a shard for each share that may be held out."""
        table, verdicts, parts = self._read(shard)
        sizes = table["bytes"].to_numpy()
        shares = candidate_shares(self.share)
        if parts is None:
            keys = _split_keys(table, verdicts)
            at = np.array([held_unit(key) for key in keys.values()], float)
            found = self._found.receive(shard)
            units = found["unit"].to_numpy()[found["kind"].to_numpy() == _UNIT]
            held = list(keys.values()), sizes[list(keys)], at, units, self.target_fractions
            counts = [count_held(share, *held) for share in shares]
        else:
            rows = np.flatnonzero(parts == PARTS.index("train"))
            taken = self._taken(shard, table, verdicts, parts)[:, rows]
            counts = [count_taken(share, sizes[rows], *taken) for share in shares]
        return {"files": {}, "counts": [dict(counted) for counted in counts]}

    def plan(self, settled: Iterable[dict], corpus: str, target: str) -> TargetPlan:
        """How much of the target is held out and in which shares, with the notes of `split_target`.

        Args:
          settled: the facts of all of "settle".
          corpus, target: their names.

        Raises:
          ConfigurationError, DataError: as `targets.plan_target`.
        """
        sums = {share: Counter[str]() for share in candidate_shares(self.share)}
        for facts in settled:
            for total, counts in zip(sums.values(), facts["counts"]):
                total.update(counts)
        return plan_target(sums.__getitem__, self.share, corpus, target, self.target_fractions)

    def parts(self, shard: int, plan: TargetPlan) -> np.ndarray:
        """As `parts_without_target`, of any shard; also `SHARED` and `UNUSED`."""
        table, verdicts, parts = self._read(shard)
        if parts is not None:
            used = (parts == PARTS.index("train")) | (parts == PARTS.index("test"))
            taken = self._taken(shard, table, verdicts, parts).min(axis=0) < plan.share
            own = np.where(parts == PARTS.index("test"), PART_NAMES.index("own_test"), parts)
            own = np.where(used, np.where(taken, SHARED, own), np.where(parts >= 0, UNUSED, parts))
            return own.astype(np.int8)
        parts = parts_without_target(table, verdicts, plan.fractions)
        for row, key in _split_keys(table, verdicts).items():
            if held_unit(key) >= plan.share:
                parts[row] = UNUSED
        return parts

    def _taken(
        self, shard: int, table: pa.Table, verdicts: Verdicts, parts: np.ndarray
    ) -> np.ndarray:
        """The share of the target above which it takes each document, by each kind of link."""
        found = self._found.receive(shard)
        at = np.full([3 if self.merging.near else 2, len(table)], np.inf)
        if len(found):
            kinds, links, owners = self._links_of(table, verdicts, parts)
            known = numbers(found, ("kind", "link0", "link1"))
            both = np.concatenate([known, np.column_stack([kinds.astype(np.uint64), links])])
            clusters = Clusters(both)
            units = np.append(found["unit"].to_numpy(), np.full(len(links), np.inf))
            unit = np.empty(len(both))
            unit[clusters.order] = np.repeat(_least(clusters, units)[1], clusters.sizes)
            np.minimum.at(at, (kinds, owners), unit[len(known) :])
        return at

    def _links_of(
        self, table: pa.Table, verdicts: Verdicts, parts: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What may link documents of a shard to others: kind [m], hash uint64 [m, 2], row [m]."""
        rows = np.flatnonzero(verdicts.reason == STAYS)
        keys = words_of(table["key"])[:, :2]
        groups = verdicts.group != ""
        if parts is None:
            grouped = rows  # a document without a group is a unit of its own
        else:
            rows = rows[np.isin(parts[rows], [PARTS.index("train"), PARTS.index("test")])]
            grouped = rows[groups[rows]]
        named = np.where(groups[grouped, None], text_words(verdicts.group[grouped]), keys[grouped])
        kinds = [np.full(len(rows), _KEY), np.full(len(grouped), _GROUP)]
        links, owners = [keys[rows], named], [rows, grouped]
        if self.merging.near:
            bands, whose = bands_of(table)
            here = np.isin(whose, rows)
            kinds.append(np.full(here.sum(), _BAND))
            links.append(np.column_stack([bands[here], np.zeros(here.sum(), np.uint64)]))
            owners.append(whose[here])
        return np.concatenate(kinds), np.concatenate(links), np.concatenate(owners)

    def _is_target(self, shard: int) -> bool:
        return shard >= self.merging.own_shards

    def _read(self, shard: int) -> tuple[pa.Table, Verdicts, np.ndarray | None]:
        """The table of a shard, what stays of it and, of the corpus, its own parts."""
        table, verdicts = self.merging.read(shard)
        if self._is_target(shard):
            return table, verdicts, None
        return table, verdicts, parts_without_target(table, verdicts, self.fractions)

    @property
    def _links(self) -> Exchange:
        merging = self.merging
        return Exchange(merging.folder, "links", _LINKS, merging.shards, merging.buckets)

    @property
    def _found(self) -> Exchange:
        merging = self.merging
        return Exchange(merging.folder, "found", _FOUND, merging.buckets, merging.shards)


def _split_keys(table: pa.Table, verdicts: Verdicts) -> dict[int, str]:
    """Row -> `Document.split_key`, of the documents that stay, in their order."""
    of_group = functools.lru_cache(maxsize=1 << 16)(lambda group: split_key("", group))
    rows = np.flatnonzero(verdicts.reason == STAYS)
    keys = table["key"].take(pa.array(rows)).to_pylist()
    groups = verdicts.group[rows].tolist()
    return {
        row: of_group(group) if group else key.hex()
        for row, key, group in zip(rows.tolist(), keys, groups)
    }


def _least(clusters: Clusters, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each cluster, and the least of its units."""
    if not len(clusters.starts):
        return clusters.first, units
    return clusters.first, np.minimum.reduceat(units[clusters.order], clusters.starts)
