"""Duplicates and what a target shares, in shards as in memory; however the shards are cut."""

import contextlib
import dataclasses
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
import pyarrow as pa

from dr_keras.corpus_jobs import document_tables
from dr_keras.corpus_jobs.document_tables import document_columns
from dr_keras.corpus_jobs.duplicates import Merging, conflict_error
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
# (text, document that it is a passage of or 0, group, id or 0 for one that no other content has)
records = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from([0, 0, 0, 1, 2]),
        st.sampled_from(["", "", *"abcdef"]),
        st.sampled_from([0] * 30 + [1]),
    ),
    min_size=1,
    max_size=60,
)
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
    tables = [pa.table(document_columns(s), document_tables.DOCUMENT_SCHEMA) for s in shards]
    before, document_tables.ROWS_A_BUCKET = document_tables.ROWS_A_BUCKET, rows_a_bucket
    try:
        with tempfile.TemporaryDirectory() as folder:
            count = sum(map(len, shards))
            yield Merging(folder, tables.__getitem__, len(shards), len(own), count)
    finally:
        document_tables.ROWS_A_BUCKET = before


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


@given(records, cuts)
@settings(max_examples=40)
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


@given(records, records, cuts, cuts, st.sampled_from([None, 0.3, 0.9]))
@settings(max_examples=60)
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
        with merging(*shards) as job:
            both = Sharing(job, FRACTIONS, fractions_of_target(), share)
            shards = [*shards[0], *shards[1]]
            facts = run(both, shards)
            plan = both.plan(facts["settle"], "mine", "good")
            verdicts = [job.verdicts(shard) for shard in range(len(shards))]
            parts = [both.parts(shard, plan) for shard in range(len(shards))]
        return with_counts(shards, verdicts, parts), plan.notes

    assert outcome(sharded) == outcome(in_memory)
