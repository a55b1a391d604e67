"""What arms keep: exactly as many, for the right reason, whatever the order of the examples."""

from fractions import Fraction
import json

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pool
import pytest

from dr_keras.baselines.candidates import joined_candidates, window_candidates
from dr_keras.baselines.selection import (
    batch_fraction,
    folds_of,
    kept_count,
    proportional_counts,
    random_arm,
    select_by_score,
)
from dr_keras.data.documents import make_document
from dr_keras.data.streams import BatchStream
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.data.windows import window_documents
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating.fractions import achieved_fraction


def test_kept_count_is_exact_where_floats_are_not():
    assert kept_count(10, 0.1) == 9 and kept_count(30, 0.9) == 3 and kept_count(7, 0.5) == 4
    assert 100 - int(100 * 0.29) == 72 and kept_count(100, 0.29) == 71  # 0.29 * 100 = 28.999...
    assert kept_count(5, 0) == 5
    for total, kept in ((7, 3), (1000, 333), (3, 3)):
        assert kept_count(total, Fraction(total - kept, total)) == kept
    assert batch_fraction(32, 0.3) == Fraction(14, 46)
    assert float(batch_fraction(32, 0.3)) == achieved_fraction(32, 0.3)


def test_sides_of_a_ranking():
    found = pool.candidates(6)
    scores = [5, 1, 4, 2, 3, 0]
    kept = {k: select_by_score("x", found, scores, 0.5, keep=k).ids
            for k in ("highest", "lowest", "middle")}  # fmt: skip
    assert kept["highest"] == {"d0", "d2", "d4"}
    assert kept["lowest"] == {"d5", "d1", "d3"}
    # an odd number goes: two above, one below
    assert kept["middle"] == {"d1", "d3", "d4"}
    middle = select_by_score("x", found, scores, Fraction(2, 6), keep="middle")
    assert middle.ids == {"d1", "d2", "d3", "d4"}


def test_what_has_no_score_goes_first():
    found = pool.candidates(6)
    for keep in ("highest", "lowest", "middle"):
        chosen = select_by_score("x", found, [5, np.nan, 4, 2, np.nan, 0], 0.5, keep=keep)
        assert not {"d1", "d4"} & chosen.ids and chosen.kept.sum() == 3
        assert chosen.reasons[1] == "no score"
    with pytest.raises(DataError, match="none of the 6 scores is a number"):
        select_by_score("x", found, [np.nan] * 6, 0.5)
    with pytest.raises(ConfigurationError, match="6 examples but scores of shape"):
        select_by_score("x", found, [1.0], 0.5)
    with pytest.raises(ConfigurationError, match="keep is 'best'"):
        select_by_score("x", found, np.ones(6), 0.5, keep="best")


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 40),
    st.sampled_from([0, 0.1, 0.25, 0.5, 0.75, 0.9]),
    st.integers(0, 3),
    st.sampled_from(["highest", "lowest", "middle"]),
    st.sampled_from(["threshold", "keep_probability"]),
    st.randoms(),
)
def test_every_arm_keeps_the_same_number_in_any_order(count, fraction, seed, keep, method, random):
    found = pool.candidates(count)
    scores = np.array([random.choice([0.0, 1.0, 2.0, 3.0]) for _ in range(count)])
    chosen = select_by_score("x", found, scores, fraction, seed, keep, method, 8)
    assert chosen.kept.sum() == random_arm(found, fraction, seed).kept.sum()
    assert chosen.kept.sum() == kept_count(count, fraction)
    order = np.array(random.sample(range(count), count))
    again = select_by_score("x", found.take(order), scores[order], fraction, seed, keep, method, 8)
    assert again.ids == chosen.ids
    drawn = random_arm(found, fraction, seed)
    assert random_arm(found.take(order), fraction, seed).ids == drawn.ids


def test_keep_probability_keeps_some_middling_ones():
    found = pool.candidates(2000)
    scores = np.arange(2000.0)
    chosen = select_by_score("x", found, scores, 0.5, method="keep_probability", batch_size=4)
    assert chosen.kept.sum() == 1000
    share = chosen.kept.reshape(10, 200).mean(axis=1)
    assert share[0] < 0.05 and share[-1] > 0.95 and 0.2 < share[4] < 0.6
    # mean chance of a percentile p with B = 4 of 8: about 0.25 at p = 0.35
    assert 0.1 < share[3] < 0.35


def test_random_keeps_each_source_in_its_share():
    found = pool.candidates(40)  # 30 of a, 10 of b
    budget = random_arm(found, 0.3, seed=1).budget()
    assert budget["by_source"] == {
        "a": {"examples": 30, "kept": 21},
        "b": {"examples": 10, "kept": 7},
    }
    assert random_arm(found, 0.3, seed=1).ids != random_arm(found, 0.3, seed=2).ids
    assert proportional_counts({"x": 1, "y": 1, "z": 1}, 2) == {"x": 1, "y": 1, "z": 0}


def test_random_can_match_the_sources_of_another_arm():
    found = pool.candidates(40)
    only_b = select_by_score("rater", found, [k % 4 == 3 for k in range(40)], 0.75)
    assert only_b.budget()["by_source"]["b"]["kept"] == 10
    matched = random_arm(found, 0.75, match=only_b)
    assert matched.ids == only_b.ids and matched.facts["matched"] == "rater"
    some = random_arm(found, 0.75, match={"a": 6, "b": 4})
    assert some.budget()["by_source"]["a"]["kept"] == 6
    with pytest.raises(ConfigurationError, match="keeps 9 examples and the fraction 10"):
        random_arm(found, 0.75, match={"a": 9})
    with pytest.raises(ConfigurationError, match="11 examples of the source 'b'"):
        random_arm(found, 0.75, match={"b": 11})


def test_budget_counts_what_is_kept_and_is_json():
    chosen = select_by_score("x", pool.candidates(4), [1, 2, 3, 4], 0.5, facts={"more": 1})
    budget = json.loads(json.dumps(chosen.budget()))
    assert budget["unique_tokens"] == 3 + 4 and budget["tokens_before"] == 10
    assert budget["kept"] == 2 and budget["discard_fraction"] == 0.5 == chosen.achieved_fraction
    assert budget["by_source"] == {"a": {"examples": 3, "kept": 1}, "b": {"examples": 1, "kept": 1}}
    assert budget["reasons"] == {"kept": 2, "not among the highest by x": 2}
    assert budget["more"] == 1 and budget["keep"] == "highest"


def test_windows_give_an_example_set_and_weights_follow_what_stays():
    examples = pool.windows(4, each=2, weights={"a": 1.0, "b": 3.0})
    found = window_candidates(examples)
    assert found.documents.tolist()[:3] == ["doc0", "doc0", "doc1"]
    assert found.tokens.tolist() == [7] * 8  # one target fewer than tokens
    # all of a stays, half of b
    scores = [9, 9, 1, 5, 9, 9, 1, 5]
    kept = select_by_score("x", found, scores, 0.25).examples()
    assert kept.ids.tolist() == ["doc0#0", "doc0#1", "doc1#1", "doc2#0", "doc2#1", "doc3#1"]
    assert kept.weights == {"a": 1.0, "b": 1.5} and kept.name == "x arm"
    # a corpus of which nothing stays leaves the batches instead of stopping them
    none_of_b = select_by_score("x", found, [9, 9, 1, 1, 9, 9, 1, 1], 0.5).examples()
    assert none_of_b.weights == {"a": 1.0, "b": 0.0}
    assert len(BatchStream(none_of_b, 4).indices(0)) == 4


def test_joined_windows_stay_or_go_together():
    tokenizer = byte_tokenizer()
    texts = ["A first document of two windows.", "short one", "Third document with some words."]
    documents = [make_document(text, "s", f"id{k}") for k, text in enumerate(texts)]
    examples = window_documents(documents, tokenizer, 16)
    found = joined_candidates(examples)
    assert found.ids.tolist() == ["id0", "id1", "id2"] and found.texts == texts
    assert not found.passages and window_candidates(examples).passages
    assert found.tokens.tolist() == [30, 8, 29]
    chosen = select_by_score("x", found, [1, 0, 2], Fraction(1, 3))
    assert chosen.rows.tolist() == [0, 1, 3, 4]
    assert chosen.budget()["unique_tokens"] == 59
    # figures of windows become those of documents: the mean, by tokens if told
    assert found.of_examples([1, 3, 5, 7, 8]).tolist() == [2, 5, 7.5]
    assert found.of_examples([1, 3, 5, 7, 8], [1, 3, 1, 1, 0]).tolist() == [2.5, 5, 7]
    with pytest.raises(ConfigurationError, match="there are 5 examples"):
        found.of_examples([1, 2, 3])


def test_what_is_in_no_windows_has_ids_alone():
    found = pool.candidates(2, ["abc", "de"])
    chosen = select_by_score("x", found, [1, 2], 0.5)
    assert chosen.ids == {"d1"}
    with pytest.raises(DataError, match="not in windows"):
        chosen.examples()
    with pytest.raises(DataError, match="share an id"):
        found.take([0, 0])
    with pytest.raises(DataError, match="the set is empty"):
        found.take([])


def test_folds_are_equal_keep_documents_whole_and_depend_on_nothing_else():
    documents = np.array([f"doc{k // 3}" for k in range(30)])
    fold = folds_of(documents, 2, seed=0)
    assert np.bincount(fold).tolist() == [15, 15]
    assert (fold.reshape(10, 3) == fold.reshape(10, 3)[:, :1]).all()
    assert (folds_of(documents[::-1], 2, seed=0)[::-1] == fold).all()
    assert (folds_of(documents, 2, seed=1) != fold).any()
    with pytest.raises(DataError, match="1 documents cannot be cut into 2 folds"):
        folds_of(["a", "a"], 2, 0)
    with pytest.raises(ConfigurationError, match="folds is 1"):
        folds_of(documents, 1, 0)
