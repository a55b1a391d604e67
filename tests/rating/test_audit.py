import json

from hypothesis import given
from hypothesis import strategies as st
import numpy as np

from dr_keras.rating import audit

SOURCES = ["web"] * 80 + ["books"] * 20
KEEP = [True] * 10 + [False] * 70 + [True] * 20
SCORES = np.r_[np.zeros(80), np.ones(20)]


def test_shares_and_means_are_those_of_the_documents():
    scores = SCORES.copy()
    scores[0] = np.nan
    found = audit.audit(audit.tally({"source": SOURCES}, scores, KEEP))
    assert (found["documents"], found["kept"], found["held_out"]) == (100, 30, None)
    web, books = (found["dimensions"]["source"][name] for name in ("web", "books"))
    assert web == {
        "documents": 80, "kept": 10, "mean_score": 0.0, "share_before": 0.8,
        "share_after": 10 / 30, "held_out_share": None,
    }  # fmt: skip
    assert (books["share_after"], books["mean_score"]) == (20 / 30, 1.0)
    lost, unknown = found["notes"]
    assert lost == ("by source, what is kept has less than half the share of 'web' (80.0% → 33.3%)")
    assert "not known" in unknown
    json.dumps(found, allow_nan=False)


def test_what_the_held_out_set_lacks_is_said_beyond_chance():
    tallies = audit.tally({"source": SOURCES}, SCORES)
    few = audit.audit(tallies, {"source": {"web": 10}}, chosen=False)
    assert few["notes"] == []  # none of ten may be chance where it is a fifth
    many = audit.audit(tallies, {"source": {"web": 980, "books": 20}}, chosen=False)
    (note,) = many["notes"]
    assert "'books' (20.0% → 2.0%)" in note and "20.0% of the corpus, 2.0% of the held-out" in note
    assert many["dimensions"]["source"]["books"]["held_out_share"] == 0.02
    assert "kept" not in many and "share_after" not in many["dimensions"]["source"]["web"]
    (foreign,) = audit.audit(
        tallies, {"source": {"web": 800, "books": 200, "law": 1000}}, chosen=False
    )["notes"]
    assert foreign.startswith("by source, 50% of the held-out set is of groups")
    (apart,) = audit.audit(tallies, {"source": {"law": 1000}}, chosen=False)["notes"]
    assert apart == "by source, the corpus and the held-out set have no group in common"


def test_what_some_shards_do_not_know_is_a_group_of_its_own():
    both: audit.Tallies = {}
    audit.add(both, audit.tally({"script": ["Latin"] * 3, "lang": ["en", "de", "en"]}, np.ones(3)))
    audit.add(both, audit.tally({"script": ["Greek"]}, np.array([5.0]), [False]))
    groups = audit.audit(both)["dimensions"]
    assert {n: g["documents"] for n, g in groups["lang"].items()} == {
        "en": 2, "de": 1, audit.UNKNOWN: 1,
    }  # fmt: skip
    assert groups["lang"][audit.UNKNOWN]["kept"] == 0
    assert groups["script"]["Greek"]["mean_score"] == 5.0


def test_groups_are_shown_by_size_and_lengths_in_their_order():
    lengths = ["256 to 1,023 bytes"] * 3 + ["under 64 bytes"] + ["64 to 255 bytes"] * 2
    groups = {"length": lengths, "lang": ["de", "en", "en", "en", "fr", "fr"]}
    found = audit.audit(audit.tally(groups, np.zeros(6)))["dimensions"]
    assert list(found["length"]) == ["under 64 bytes", "64 to 255 bytes", "256 to 1,023 bytes"]
    assert list(found["lang"]) == ["en", "fr", "de"]


def test_a_field_of_many_values_stays_small():
    many: audit.Tallies = {}
    for start in (0, 150, 300):
        names = [f"address {k}" for k in range(start, start + 150)]
        audit.add(many, audit.tally({"url": names}, np.ones(150)))
    assert len(many["url"]) == audit.MAXIMUM_GROUPS + 1
    assert many["url"][audit.OTHERS][0] == 450 - audit.MAXIMUM_GROUPS


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(-5, 5)), min_size=1),
    st.integers(0, 30),
)
def test_shards_add_up_to_the_whole_and_shares_to_one(rows, cut):
    names, keep, scores = map(list, zip(*rows))
    whole = audit.tally({"g": names}, np.array(scores), keep)
    parts: audit.Tallies = {}
    for part in (slice(None, cut), slice(cut, None)):
        if names[part]:
            audit.add(parts, audit.tally({"g": names[part]}, np.array(scores[part]), keep[part]))
    assert parts["g"].keys() == whole["g"].keys()
    for name, counts in parts["g"].items():
        np.testing.assert_allclose(counts, whole["g"][name], atol=1e-9)
    groups = audit.audit(parts)["dimensions"]["g"].values()
    assert abs(sum(g["share_before"] for g in groups) - 1) < 1e-9
    assert any(keep) == (abs(sum(g["share_after"] for g in groups) - 1) < 1e-9)


def test_a_strangers_counts_are_checked():
    assert audit.are_counts({"source": {"web": 3}})
    for wrong in (None, [], {"source": 3}, {"source": {"web": -1}}, {"source": {"web": 1.5}}):
        assert not audit.are_counts(wrong)
