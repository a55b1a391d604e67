"""Near-duplicates: which documents are near, and that shards leave out what a list would."""

import random
import sys
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pyarrow as pa
import pytest

from dr_keras.corpus_jobs.document_tables import document_columns
from dr_keras.corpus_jobs.duplicates import NEAR_DUPLICATE, Merging
from dr_keras.corpus_jobs.near_duplicates import NearDuplicates, shingles_of
from dr_keras.corpus_jobs.shared_with_target import PART_NAMES, Sharing
from dr_keras.data.documents import make_document, merge_duplicates
from dr_keras.data.splits import PARTS, part_of
from dr_keras.data.targets import HELD_OUT, fractions_of_target
from dr_keras.errors import ConfigurationError

FRACTIONS = {"train": 0.6, "outer": 0.1, "validation": 0.1, "test": 0.2}


@pytest.fixture(scope="module")
def near():
    return NearDuplicates()


def bands_of(near, text):
    raw = near.column([text])[0].as_py()
    return [raw[n : n + 8] for n in range(0, len(raw), 8)] if raw else []


def are_near(near, one, other):
    return not set(bands_of(near, one)).isdisjoint(bands_of(near, other))


def words(seed, count=400):
    return [str(number) for number in random.Random(seed).sample(range(10**9), count)]


@pytest.mark.parametrize("similarity, least, most", [(0.5, 0, 0.02), (0.8, 0.2, 0.6), (0.95, 1, 1)])
def test_pairs_are_near_as_often_as_their_similarity_says(similarity, least, most):
    # of runs of one word: two sets of n with m in common have the similarity m / (2n - m)
    near = NearDuplicates(shingle_words=1)
    count = 400
    common = round(2 * count * similarity / (1 + similarity))
    found = []
    for seed in range(40):
        one, other = words(seed), words(seed + 1000)
        found.append(are_near(near, " ".join(one), " ".join(one[:common] + other[common:])))
    assert least <= np.mean(found) <= most


def test_what_is_no_difference():
    near = NearDuplicates()
    text = "The cat sat on the mat, and looked at the ﬁrst moon of May."
    same = "  the CAT sat\n on the mat -- and looked at the first moon of May"
    assert bands_of(near, text) == bands_of(near, same) != []
    assert bands_of(near, " -- ?\n") == []  # no words: near nothing
    assert are_near(near, "hello world", "Hello, World!")
    assert not are_near(near, "hello world", "hello")


def test_runs_of_words():
    assert shingles_of("A b, c\u00a0D", 3) == {b"a b c", b"b c d"}
    assert shingles_of("a b", 3) == {b"a b"}
    assert shingles_of("a a a a", 2) == {b"a a"}
    assert shingles_of("...", 3) == set()


def test_bands_are_what_they_always_were(near):
    # so that folders prepared by different versions agree
    assert (near.bands, near.rows) == (9, 13)
    first = bands_of(near, "one two three four five six seven")[0].hex()
    assert first == "22213ba68895095a"


def test_settings_that_make_no_sense_are_refused(monkeypatch):
    for wrong in ({"threshold": 1.0}, {"permutations": 1}, {"shingle_words": 0}):
        with pytest.raises(ConfigurationError, match=f"NearDuplicates.{next(iter(wrong))}"):
            NearDuplicates(**wrong)
    with pytest.raises(ConfigurationError, match="threshold = 0.99 with 4 permutations"):
        NearDuplicates(0.99, 4)
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'dr_keras\[near_duplicates\]'"):
        NearDuplicates()


# (text, its bands: the same texts have the same ones; None for no words)
texts = st.lists(st.integers(0, 30), min_size=1, max_size=50)
bands = st.lists(
    st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=31, max_size=31
)
cuts = st.lists(st.integers(0, 50), max_size=4)


def table_of(numbers, documents, bands):
    raw = [
        bands[n] and b"".join(hash_of(place, value) for place, value in enumerate(bands[n]))
        for n in numbers
    ]
    return pa.table({**document_columns(documents), "bands": pa.array(raw, pa.binary(16))})


def hash_of(place, value):
    # spread over the buckets, which go by the first bits
    return bytes([value * 25, place, *[0] * 5, value])


class Made:
    """Documents in a list and in shards, and which of them are near-duplicates."""

    def __init__(self, name, numbers, bands, places):
        self.documents = [make_document(f"text {n}", name) for n in numbers]
        self.bands = {
            d.key: set(enumerate(bands[n] or ())) for n, d in zip(numbers, self.documents)
        }
        self.alone, seen = [], set()
        for document in merge_duplicates(self.documents):
            if seen.isdisjoint(self.bands[document.key]):
                self.alone.append(document)
            seen |= self.bands[document.key]
        ends = [0, *sorted(min(place, len(numbers)) for place in places), len(numbers)]
        self.tables = [
            table_of(numbers[start:end], self.documents[start:end], bands)
            for start, end in zip(ends, ends[1:])
        ]


def run(job):
    return {name: [job.run(name, unit) for unit in range(count)] for name, count in job.rounds()}


@given(texts, bands, cuts)
@settings(max_examples=30)
def test_the_first_of_near_documents_stays_however_shards_are_cut(numbers, bands, places):
    made = Made("mine", numbers, bands, places)
    shards = len(made.tables)
    with tempfile.TemporaryDirectory() as folder:
        job = Merging(folder, made.tables.__getitem__, shards, shards, len(numbers), True, 5)
        facts = run(job)["collect"]
        verdicts = [job.verdicts(shard) for shard in range(shards)]
    reasons = np.concatenate([verdict.reason for verdict in verdicts])
    stays = [d.id for d, reason in zip(made.documents, reasons) if not reason]
    assert stays == [document.id for document in made.alone]
    near = len(merge_duplicates(made.documents)) - len(made.alone)
    assert near == int((reasons == NEAR_DUPLICATE).sum())
    assert near == sum(found["near_duplicates"] for found in facts)


@given(texts, texts, bands, cuts, cuts, st.sampled_from([0.5, 1.0]))
@settings(max_examples=30)
def test_what_is_nearly_held_out_is_not_trained_on(own, wanted, bands, cut, others, share):
    own, wanted = Made("mine", own, bands, cut), Made("good", wanted, bands, others)
    tables = [*own.tables, *wanted.tables]
    with tempfile.TemporaryDirectory() as folder:
        counts = len(tables), len(own.tables), len(own.documents) + len(wanted.documents)
        job = Merging(folder, tables.__getitem__, *counts, near=True, rows_a_bucket=20)
        job = Sharing(job, FRACTIONS, fractions_of_target(), share)
        settled = run(job)["settle"]
        counted = sum(found["counts"][0].get("taken", 0) for found in settled)
        # a plan as it would be if the parts were large enough
        plan = type("Plan", (), {"share": share, "fractions": fractions_of_target()[True]})
        codes = np.concatenate([job.parts(shard, plan) for shard in range(len(tables))])
    found = {part: [] for part in PART_NAMES}
    for document, code in zip([*own.documents, *wanted.documents], codes.tolist()):
        if code >= 0:
            found[PART_NAMES[code]].append(document.id)
    held = [d for d in wanted.alone if d.id in {id for part in HELD_OUT for id in found[part]}]
    assert share < 1 or held == wanted.alone
    keys = {document.key for document in held}
    linked = set().union(*(wanted.bands[document.key] for document in held))

    def kept(part):
        of_part = [d for d in own.alone if part_of(d.key, FRACTIONS) == part]
        stays = [d for d in of_part if d.key not in keys and linked.isdisjoint(own.bands[d.key])]
        return [d.id for d in stays], len(of_part) - len(stays)

    assert (found["train"], counted) == kept(PARTS[0])
    assert found["own_test"] == kept("test")[0]
