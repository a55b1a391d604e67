"""Which documents of a corpus in shards stay: what `merge_duplicates` says, without a table of all.

Rounds of units, each of which may run anywhere once the round before is done:

    scatter (a shard)   documents to the bucket of their key, of their id, of each of their bands
    resolve (a bucket)  which of equal rows is first, what they are together; ids of two contents
    collect (a shard)   what stays: `Verdicts`; with a target also what may be shared with it
    link    (a bucket)  with a target only: what of the corpus it has, see `shared_with_target`
    settle  (a shard)   with a target only: the counts by which its share is decided

Rows that agree within a shard are joined before they are sent, so a text that is repeated without
end makes no bucket large. Nothing depends on how documents lie in shards but for their order.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses

import numpy as np
import pyarrow as pa

from dr_keras.corpus_jobs.document_tables import (
    Clusters,
    Exchange,
    bucket_of,
    numbers,
    table_of,
    text_words,
    words_of,
)
from dr_keras.errors import DataError

STAYS, DUPLICATE, NEAR_DUPLICATE = 0, 1, 2
# Of a bucket, which takes 300 bytes of memory a document, 800 where near-duplicates are left out.
ROWS_A_BUCKET = 500_000

_PLACE = [("shard", pa.int32()), ("row", pa.int32()), ("target", pa.bool_())]
_CONTENT = [(name, pa.uint64()) for name in ("key0", "key1", "content0", "content1")]
_KEYS = pa.schema([*_PLACE, *_CONTENT, ("count", pa.int64()), ("group", pa.string())])
_IDS = pa.schema([*_PLACE, ("id0", pa.uint64()), ("id1", pa.uint64()), *_CONTENT])
_BANDS = pa.schema([*_PLACE, ("band", pa.uint64())])
# Of the rows of a shard: those that are left out (a count of 0), and those that stand for others.
_MERGED = pa.schema([("row", pa.int32()), ("count", pa.int64()), ("group", pa.string())])
_NEAR = pa.schema([("row", pa.int32())])


@dataclasses.dataclass
class Verdicts:
    """What became of the documents of a shard, in their order.

    Attributes:
      reason: uint8 [n], `STAYS`, `DUPLICATE` or `NEAR_DUPLICATE`.
      count: int64 [n], of what stays: how often the corpus has it.
      group: [n] strings, of what stays: the least of all groups it was found in, "" for none.
    """

    reason: np.ndarray
    count: np.ndarray
    group: np.ndarray


@dataclasses.dataclass(frozen=True)
class Merging:
    """The rounds "scatter", "resolve" and "collect" over a corpus and, if there is one, its target.

    What a unit leaves lies in `folder`, whole, before `run` returns; whoever does it again writes
    the same bytes. Can be pickled.

    Attributes:
      folder: of the files of the rounds; goes with the job.
      tables: shard -> its table (`document_tables.DOCUMENT_SCHEMA`), in reading order; picklable.
      shards: how many there are; those of a target come last.
      own_shards: how many of them are of the corpus; `shards` where there is no target.
      documents: in all shards, which says into how many buckets they go.
      near: whether the tables have the column "bands", and near-duplicates are left out.
      rows_a_bucket: about how many documents are compared at a time.
    """

    folder: str
    tables: Callable[[int], pa.Table]
    shards: int
    own_shards: int
    documents: int
    near: bool = False
    rows_a_bucket: int = ROWS_A_BUCKET

    @property
    def buckets(self) -> int:
        """How many of them the rows are spread over."""
        return max(1, -(-self.documents // self.rows_a_bucket))

    def rounds(self) -> list[tuple[str, int]]:
        """The names of the rounds in order, and how many units each has, numbered from 0."""
        return [("scatter", self.shards), ("resolve", self.buckets), ("collect", self.shards)]

    def run(self, round: str, unit: int) -> dict:
        """Does one unit of a round, and returns JSON-able facts about it.

        `files` is name -> `bytes` of what it left in `folder`. Facts of "resolve" hold `conflict`,
        None or what `conflict_error` takes; those of "collect" hold `duplicates` and
        `near_duplicates`, the documents of the shard that are left out.
        """
        return getattr(self, round)(unit)

    def scatter(self, shard: int) -> dict:
        """Sends the rows of a shard to their buckets."""
        table = self.tables(shard)
        content = _content(table)
        groups = table["group"].to_pylist()
        clusters = Clusters(content)
        count, group = _together(clusters, table["count"].to_numpy(), groups)
        at = np.argsort(clusters.first)  # in reading order
        rows = clusters.first[at]
        columns = [*content[rows].T, count[at], [group[k] for k in at.tolist()]]
        files = self._send(self._keys, shard, rows, columns, content[rows, 0])
        ids = text_words(table["id"].to_pylist())
        rows = np.sort(Clusters(ids, content).first)
        files |= self._send(self._ids, shard, rows, [*ids[rows].T, *content[rows].T], ids[rows, 0])
        if self.near:
            bands, owners = bands_of(table)
            firsts = np.sort(Clusters(bands).first)
            bands, owners = bands[firsts], owners[firsts]
            files |= self._send(self._bands, shard, owners, [bands], bands)
        return {"files": files}

    def resolve(self, bucket: int) -> dict:
        """Compares what was sent to a bucket, and sends back what the shards cannot know."""
        rows = self._keys.receive(bucket)
        clusters = Clusters(numbers(rows, ("target", *_names(_CONTENT))))
        count, group = _together(clusters, rows["count"].to_numpy(), rows["group"].to_pylist())
        several = np.flatnonzero(clusters.sizes > 1)
        merged = np.zeros(len(rows), np.int64)
        merged[clusters.first] = count
        groups = dict(zip(clusters.first[several].tolist(), (group[k] for k in several.tolist())))
        changed = np.sort(np.concatenate([clusters.members(k) for k in several] or [_NONE]))
        back = [merged[changed], [groups.get(row, "") for row in changed.tolist()]]
        files = self._return(self._merged, bucket, rows, changed, back)
        if self.near:
            rows = self._bands.receive(bucket)
            clusters = Clusters(numbers(rows, ("target", "band")))
            later = np.ones(len(rows), bool)
            later[clusters.first] = False
            files |= self._return(self._later, bucket, rows, np.flatnonzero(later), [])
        return {"files": files, "conflict": _conflict(self._ids.receive(bucket))}

    def collect(self, shard: int) -> dict:
        """Counts what is left out of a shard."""
        return self.counted(self.verdicts(shard))

    def counted(self, verdicts: Verdicts) -> dict:
        """The facts of "collect"."""
        reason = verdicts.reason
        return {
            "files": {},
            "duplicates": int((reason == DUPLICATE).sum()),
            "near_duplicates": int((reason == NEAR_DUPLICATE).sum()),
        }

    def verdicts(self, shard: int) -> Verdicts:
        """What stays of a shard, once all of "resolve" is done."""
        return self.read(shard)[1]

    def read(self, shard: int) -> tuple[pa.Table, Verdicts]:
        """The table of a shard, and its `verdicts`."""
        table = self.tables(shard)
        clusters = Clusters(_content(table))
        groups = table["group"].to_pylist()
        joined, group = _together(clusters, table["count"].to_numpy(), groups)
        count = np.zeros(len(table), np.int64)
        count[clusters.first] = joined
        for cluster, row in enumerate(clusters.first.tolist()):
            groups[row] = group[cluster]
        merged = self._merged.receive(shard)
        changed = merged["row"].to_numpy()
        count[changed] = merged["count"].to_numpy()
        for row, name in zip(changed.tolist(), merged["group"].to_pylist()):
            groups[row] = name
        reason = np.where(count > 0, STAYS, DUPLICATE).astype(np.uint8)
        if self.near:
            bands, owners = bands_of(table)
            later = np.ones(len(bands), bool)
            later[Clusters(bands).first] = False
            near = np.concatenate([owners[later], self._later.receive(shard)["row"].to_numpy()])
            reason[near[reason[near] == STAYS]] = NEAR_DUPLICATE
        return table, Verdicts(reason, count, np.array([*groups, None], object)[:-1])

    @property
    def _keys(self) -> Exchange:
        return self._forth("keys", _KEYS)

    @property
    def _ids(self) -> Exchange:
        return self._forth("ids", _IDS)

    @property
    def _bands(self) -> Exchange:
        return self._forth("bands", _BANDS)

    @property
    def _merged(self) -> Exchange:
        return self._back("merged", _MERGED)

    @property
    def _later(self) -> Exchange:
        return self._back("near", _NEAR)

    def _forth(self, name: str, schema: pa.Schema) -> Exchange:
        return Exchange(self.folder, name, schema, self.shards, self.buckets)

    def _back(self, name: str, schema: pa.Schema) -> Exchange:
        return Exchange(self.folder, name, schema, self.buckets, self.shards)

    def _send(
        self, way: Exchange, shard: int, rows: np.ndarray, columns: Sequence, hashes: np.ndarray
    ) -> dict[str, dict]:
        place = [np.full(len(rows), shard), rows, np.full(len(rows), shard >= self.own_shards)]
        return way.send(
            shard, table_of([*place, *columns], way.schema), bucket_of(hashes, self.buckets)
        )

    @staticmethod
    def _return(
        way: Exchange, bucket: int, sent: pa.Table, rows: np.ndarray, columns: Sequence
    ) -> dict[str, dict]:
        """Sends some rows of what was `sent` to a bucket back to the shards that they came from."""
        columns = [sent["row"].to_numpy()[rows], *columns]
        return way.send(bucket, table_of(columns, way.schema), sent["shard"].to_numpy()[rows])


_NONE = np.zeros(0, np.int64)


def bands_of(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The bands of all documents of a shard, uint64 [m], and whose each is, int64 [m]."""
    column = table["bands"].combine_chunks()
    known = np.flatnonzero(~np.asarray(column.is_null()))
    bands = words_of(column.take(pa.array(known)))
    return bands.reshape(-1), np.repeat(known, bands.shape[1])


def conflict_error(
    conflicts: Iterable[dict | None], describe: Callable[[int, int], tuple[str, str, str]]
) -> DataError | None:
    """The error about the first two documents with one id and different content, or None.

    Args:
      conflicts: of the facts of "resolve".
      describe: (shard, row) -> (id, source, place for people, such as "a.jsonl, line 12").
    """
    found = [conflict for conflict in conflicts if conflict]
    if not found:
        return None
    first = min(found, key=lambda conflict: conflict["second"])
    identity, source, where = describe(*first["first"])
    _, other_source, other_where = describe(*first["second"])
    return DataError(
        f"two documents have the id {identity!r} but different content: {where} (source"
        f" {source!r}) and {other_where} (source {other_source!r}); make the ids unique, or read"
        " the corpus without its id field, and ids are made from the content"
    )


def _conflict(rows: pa.Table) -> dict | None:
    """The first row with an id that another content had before it, and that row."""
    identities = Clusters(numbers(rows, ("target", "id0", "id1")))
    several = np.flatnonzero(identities.sizes > 1)
    content = numbers(rows, _names(_CONTENT))
    found = []
    for cluster in several.tolist():
        members = identities.members(cluster)
        others = members[np.any(content[members] != content[members[0]], axis=1)]
        if len(others):
            found.append((int(others[0]), int(members[0])))
    if not found:
        return None
    places = list(zip(rows["shard"].to_pylist(), rows["row"].to_pylist()))
    second, first = min(found)
    return {"first": list(places[first]), "second": list(places[second])}


def _together(
    clusters: Clusters, count: np.ndarray, groups: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """The summed count of each cluster and its group, the least of its rows'."""
    if not len(clusters.starts):
        return np.zeros(0, np.int64), []
    joined = [groups[row] for row in clusters.first.tolist()]
    for cluster in np.flatnonzero(clusters.sizes > 1).tolist():
        named = filter(None, (groups[row] for row in clusters.members(cluster).tolist()))
        joined[cluster] = min(named, default="")
    return np.add.reduceat(count[clusters.order], clusters.starts), joined


def _content(table: pa.Table) -> np.ndarray:
    """By what documents are known, uint64 [n, 4]: 128 bits of the key and of the content."""
    return np.concatenate([words_of(table["key"])[:, :2], words_of(table["content"])], axis=1)


def _names(fields: Sequence[tuple[str, pa.DataType]]) -> tuple[str, ...]:
    return tuple(name for name, _ in fields)
