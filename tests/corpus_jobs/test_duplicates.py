"""Duplicates and what a target shares, in shards as in memory; however the shards are cut."""

import contextlib
import dataclasses
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pyarrow as pa
import pytest

from dr_keras.corpus_jobs.document_tables import (
    DOCUMENT_SCHEMA,
    Clusters,
    Exchange,
    document_columns,
    words_of,
)
from dr_keras.corpus_jobs.duplicates import STAYS, Merging, conflict_error
from dr_keras.corpus_jobs.shared_with_target import (
    DUPLICATE,
    PART_NAMES,
    Sharing,
    parts_without_target,
)
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.prepare import split_documents
from dr_keras.data.splits import PARTS
from dr_keras.data.targets import fractions_of_target, split_target
from dr_keras.errors import DataError

FRACTIONS = {"train": 0.6, "outer": 0.1, "validation": 0.1, "test": 0.2}


def records(least, ids=(0,)):
    """Lists of (text, document that it is a passage of or 0, group, id or 0 for one of its own)."""
    row = st.tuples(
        st.integers(0, 40),
        st.sampled_from([0, 0, 0, 1, 2]),
        st.sampled_from(["", "", "", *"abcdefgh"]),
        st.sampled_from(ids),
    )
    return st.lists(row, min_size=least, max_size=60)


cuts = st.lists(st.integers(0, 60), max_size=4)


def documents_of(name, rows):
    made = []
    for text, passage_of, group, identity in rows:
        document = make_document(f"{text} " * (1 + text % 3), name, None, group)
        key = make_document(f"document {passage_of}", name).key if passage_of else document.key
        id = f"{name}{identity}" if identity else f"{name} {text} {key}"
        made.append(dataclasses.replace(document, key=key, id=id, corpus=name))
    return made


def in_shards(documents, places):
    ends = [0, *sorted(min(place, len(documents)) for place in places), len(documents)]
    return [documents[start:end] for start, end in zip(ends, ends[1:])]


@contextlib.contextmanager
def merging(own, target=(), rows_a_bucket=5):
    """The rounds over shards of documents, in a folder that goes with the block."""
    shards = [*own, *target]
    tables = [pa.table(document_columns(s), DOCUMENT_SCHEMA) for s in shards]
    with tempfile.TemporaryDirectory() as folder:
        counts = len(shards), len(own), sum(map(len, shards))
        yield Merging(folder, tables.__getitem__, *counts, rows_a_bucket=rows_a_bucket)


def run(job, shards, order=1):
    """Does all rounds; returns the facts of each."""
    facts = {}
    for name, count in job.rounds():
        done = {unit: job.run(name, unit) for unit in list(range(count))[::order]}
        facts[name] = [done[unit] for unit in range(count)]
        if name == "resolve":
            conflicts = [found["conflict"] for found in facts[name]]
            error = conflict_error(conflicts, lambda shard, row: describe(shards, shard, row))
            if error is not None:
                raise error
    return facts


def describe(shards, shard, row):
    document = shards[shard][row]
    return document.id, document.source, f"shard {shard}, row {row}"


def outcome(make):
    try:
        return make()
    except DataError as error:
        # in shards an error says more about where
        return str(error).split(" but different content")[0]


def with_counts(shards, verdicts, parts):
    """Part -> documents, with what verdicts say."""
    found = {part: [] for part in PART_NAMES}
    for documents, verdict, codes in zip(shards, verdicts, parts):
        for document, code, count, group in zip(
            documents, codes.tolist(), verdict.count.tolist(), verdict.group
        ):
            if code >= 0:
                document = dataclasses.replace(document, count=count, group=group)
                found[PART_NAMES[code]].append(document)
    return found


@given(st.one_of(records(1), records(10, (0, 0, 0, 1, 2))), cuts)
@settings(max_examples=30)
def test_shards_merge_and_split_as_a_list_does(rows, places):
    documents = documents_of("mine", rows)
    corpus = Corpus("mine", lambda skipped: iter(documents))

    def sharded():
        shards = in_shards(documents, places)
        with merging(shards) as job:
            facts = run(job, shards, order=-1)
            verdicts = [job.verdicts(shard) for shard in range(len(shards))]
            parts = [
                parts_without_target(job.tables(n), verdict, FRACTIONS)
                for n, verdict in enumerate(verdicts)
            ]
        left_out = sum(collected["duplicates"] for collected in facts["collect"])
        assert left_out == sum(int((codes == DUPLICATE).sum()) for codes in parts)
        found = with_counts(shards, verdicts, parts)
        assert sum(map(len, found.values())) == len(documents) - left_out
        return {part: found[part] for part in PARTS}

    assert outcome(sharded) == outcome(lambda: split_documents(corpus, FRACTIONS))


@given(records(20), records(20), cuts, cuts, st.sampled_from([None, 0.5, 0.9]))
@settings(max_examples=25)
def test_a_target_takes_from_shards_what_it_takes_from_a_list(own, wanted, cut, others, share):
    own, wanted = documents_of("mine", own), documents_of("good", wanted)
    corpus = Corpus("mine", lambda skipped: iter(own))
    target = Corpus("good", lambda skipped: iter(wanted))

    def in_memory():
        split = split_documents(corpus, FRACTIONS)
        found = split_target(split, corpus, target, share)
        return {**found.documents, "own_test": found.own_test}, found.notes

    def sharded():
        shards = in_shards(own, cut), in_shards(wanted, others)
        with merging(*shards, rows_a_bucket=20) as job:
            both = Sharing(job, FRACTIONS, fractions_of_target(), share)
            shards = [*shards[0], *shards[1]]
            facts = run(both, shards)
            plan = both.plan(facts["settle"], "mine", "good")
            verdicts = [job.verdicts(shard) for shard in range(len(shards))]
            parts = [both.parts(shard, plan) for shard in range(len(shards))]
        return with_counts(shards, verdicts, parts), plan.notes

    assert outcome(sharded) == outcome(in_memory)


def test_the_first_of_documents_that_share_an_id_and_not_their_text_is_named():
    texts = [["a", "b", "a"], ["b", "c"], ["d"]]
    ids = [["1", "2", "1"], ["2", "1"], ["2"]]
    shards = [
        [make_document(text, f"file {n}", id) for text, id in zip(*row)]
        for n, row in enumerate(zip(texts, ids))
    ]
    for rows_a_bucket in (1, 100):
        with merging(shards, rows_a_bucket=rows_a_bucket) as job:
            with pytest.raises(DataError) as error:
                run(job, shards)
        assert str(error.value) == (
            "two documents have the id '1' but different content: shard 0, row 0 (source 'file 0')"
            " and shard 1, row 1 (source 'file 1'); make the ids unique, or read the corpus without"
            " its id field, and ids are made from the content"
        )
    with merging(shards[:1], shards[2:]) as job:  # a target has ids of its own
        run(job, [shards[0], shards[2]])


def test_a_text_repeated_without_end_makes_no_bucket_large():
    again = [make_document("again", "s", str(n), "g") for n in range(3000)]
    with merging([again, again], rows_a_bucket=1000) as job:
        run(job, [again, again])
        sent = sum(len(job._keys.receive(bucket)) for bucket in range(job.buckets))
        first, second = job.verdicts(0), job.verdicts(1)
    assert job.buckets == 6 and sent == 2
    assert first.count[0] == 6000 and (first.reason == STAYS).sum() == 1
    assert not (second.reason == STAYS).any()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 2)), max_size=30))
def test_rows_that_agree_are_together_in_the_order_they_came(rows):
    values = np.array(rows, np.int64).reshape(-1, 2)
    clusters = Clusters(values[:, 0], values[:, 1])
    found = [clusters.members(cluster).tolist() for cluster in range(len(clusters.starts))]
    assert found == [
        [row for row, one in enumerate(rows) if one == value] for value in sorted(set(rows))
    ]
    assert clusters.first.tolist() == [members[0] for members in found]
    assert clusters.sizes.tolist() == list(map(len, found))


def test_rows_reach_whom_they_are_sent_to_in_order(tmp_path):
    schema = pa.schema([("value", pa.int64())])
    exchange = Exchange(str(tmp_path), "rows", schema, 3, 4)
    for sender in range(3):
        rows = pa.table({"value": np.arange(10 * sender, 10 * sender + 5)}, schema)
        to = np.array([1, 3, 1, 0, 3])[: 5 * (sender != 1)]
        files = exchange.send(sender, rows.slice(0, len(to)), to)
        assert files == {f"rows-{sender:05d}": {"bytes": (tmp_path / [*files][0]).stat().st_size}}
    received = [exchange.receive(unit)["value"].to_pylist() for unit in range(4)]
    assert received == [[3, 23], [0, 2, 20, 22], [], [1, 4, 21, 24]]


def test_words_sort_as_bytes_do_in_slices_too():
    raw = [bytes([n, 255 - n] * 8) for n in (200, 3, 3, 128)]
    column = pa.chunked_array([pa.array(raw, pa.binary(16)).slice(1), pa.array([], pa.binary(16))])
    words = words_of(column)
    assert words.shape == (3, 2) and words.dtype == np.uint64
    assert [row.astype(">u8").tobytes() for row in words] == raw[1:]
