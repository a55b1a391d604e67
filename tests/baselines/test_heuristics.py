"""Arms by rules: which examples go, in which order, and how far the fraction is from the rules'."""

import numpy as np
import pool
import pytest

from dr_keras.baselines.heuristics import FEATURES, PASSES_C4, SPANS, heuristics, heuristics_arm
from dr_keras.baselines.rules import Rule, Text
from dr_keras.errors import ConfigurationError, DataError
import gin

GOOD = "a line of text that breaks nothing at all"
TEXTS = [
    GOOD + " one",
    "curly { bracket in a line of text",
    GOOD + " two",
    "{ # # #",  # curly bracket, hash marks, short line, words without letters
    GOOD + " three",
    "lorem ipsum in a line of ordinary text",
    GOOD + " four",
    GOOD + " five",
]


@pytest.fixture
def found():
    return pool.candidates(8, TEXTS, passages=True)


def test_what_breaks_most_rules_goes_first(found):
    chosen = heuristics_arm(found, 0.125)
    assert chosen.ids == {f"d{k}" for k in range(8)} - {"d3"}
    assert chosen.facts["broke_a_rule"] == 3 and chosen.facts["broke_a_rule_share"] == 3 / 8
    assert chosen.facts["by_rule"]["c4_curly_bracket"] == 2
    assert chosen.facts["kept_in_spite"] == 2
    assert chosen.reasons[1] == "kept: in spite of a broken rule" and chosen.reasons[0] == "kept"
    assert chosen.reasons[3] == "c4_short_lines"


def test_below_the_rules_own_fraction_the_rest_goes_at_random(found):
    chosen = heuristics_arm(found, 0.5, seed=0)
    assert not {"d1", "d3", "d5"} & chosen.ids and len(chosen.ids) == 4
    assert chosen.reasons[5] == "c4_lorem_ipsum"
    assert sorted(chosen.reasons.tolist()).count("breaks no rule; dropped at random") == 1
    others = {frozenset(heuristics_arm(found, 0.5, seed=s).ids) for s in range(8)}
    assert len(others) > 1


def test_heuristics_then_rater(found):
    scores = np.array([1, 9, 2, 9, 3, 8, 4, 5.0])
    chosen = heuristics_arm(found, 0.5, scores=scores)
    assert chosen.ids == {"d2", "d4", "d6", "d7"}
    assert chosen.reasons[0] == "breaks no rule; scored lowest"
    # fewer may go than break a rule: the best-scored of those that break fewest stay
    chosen = heuristics_arm(found, 0.25, scores=scores)
    assert chosen.ids == {f"d{k}" for k in range(8)} - {"d3", "d5"}
    # no score is the lowest score
    scores[6] = np.nan
    assert heuristics_arm(found, 0.5, scores=scores).ids == {"d0", "d2", "d4", "d7"}
    with pytest.raises(DataError, match="8 examples but scores of shape"):
        heuristics_arm(found, 0.5, scores=scores[:3])


def test_rules_are_chosen_by_name_and_by_family(found):
    assert list(heuristics(["c4_curly_bracket"]).broken(found)) == ["c4_curly_bracket"]
    assert all(n.startswith("gopher_") for n in heuristics(families=("gopher",)).rules)
    assert SPANS in heuristics().measure(found)
    both = heuristics(["c4_curly_bracket", SPANS])
    assert both.spans and list(both.rules) == ["c4_curly_bracket"]
    with pytest.raises(ConfigurationError, match="'c4_curly', which is no rule"):
        heuristics(["c4_curly"])
    with pytest.raises(ConfigurationError, match="no rule of gopher is left"):
        heuristics(["c4_curly_bracket"], families=("gopher",))
    gin.parse_config("heuristics.rules = ['c4_lorem_ipsum']\nheuristics.bad_words = ['curly']")
    assert heuristics_arm(found, 0.25).ids == {f"d{k}" for k in range(8)} - {"d1", "d5"}


def test_a_rule_of_ones_own(found):
    short = Rule("short", lambda text: float(len(text.text)), low=10)
    broken = heuristics(["c4_lorem_ipsum"], more_rules=[short]).broken(found)
    assert np.flatnonzero(broken["short"]).tolist() == [3]


def test_whole_documents_are_held_to_the_length_rules_and_passages_are_not():
    texts = [GOOD, GOOD + " and no more"]
    passages = pool.candidates(2, texts, passages=True)
    assert not heuristics().broken(passages)["gopher_word_count"].any()
    assert heuristics(passages=False).broken(passages)["gopher_word_count"].all()
    assert heuristics().broken(pool.candidates(2, texts))["gopher_word_count"].all()


def test_which_copy_of_a_span_is_the_repeated_one_does_not_depend_on_the_order():
    text = "One two three. Four five six. Seven eight nine."
    found = pool.candidates(3, [text, "other. text. here.", text])
    rules = heuristics([SPANS])
    assert rules.broken(found)[SPANS].tolist() == [False, False, True]
    assert rules.broken(found.take([2, 1, 0]))[SPANS].tolist() == [True, False, False]


def test_features():
    text = Text("It is 1. Is É 2, (no)\nthat is all.")
    figures = {name: measure(text) for name, measure in FEATURES.items()}
    assert figures["words"] == 10 and figures["lines"] == 2 and figures["sentences"] == 2
    assert figures["characters"] == 25 and figures["words_a_sentence"] == 5
    # it is 1 is é 2 no that is all: "is" three times
    assert figures["distinct_words"] == pytest.approx(8 / 10)
    assert figures["digits"] == 2 / 34 and figures["non_ascii"] == 1 / 34
    assert figures["upper_case"] == 3 / 34 and figures["white_space"] == 9 / 34
    assert figures["non_alphanumeric"] == 5 / 34 == figures["punctuation"]
    assert figures["unique_characters"] == len(set(text.text))
    assert (
        FEATURES["empty_lines"](Text("a\n\n  \nb")) == 2 / 4
        and FEATURES["empty_lines"](Text("")) == 0
    )
    measured = heuristics().measure(pool.candidates(3), features=True)
    assert set(FEATURES) - set(measured) == {"words", "sentences"}  # rules measure the same
    assert all(len(v) == 3 for v in measured.values())
    gopher = heuristics(families=("gopher",)).measure(pool.candidates(3), features=True)
    assert PASSES_C4 not in gopher
    c4 = heuristics(families=("c4",)).measure(pool.candidates(3), features=True)
    assert set(FEATURES) - set(c4) == {"sentences"}


def test_what_passes_all_rules_of_c4_in_use(found):
    measured = heuristics().measure(found, features=True)
    broken = heuristics(families=("c4",)).broken(found)
    assert measured[PASSES_C4].tolist() == [1, 0, 1, 0, 1, 0, 1, 1]
    assert np.array_equal(measured[PASSES_C4] == 0, np.any(list(broken.values()), axis=0))
    only = heuristics(["c4_lorem_ipsum"]).measure(found, features=True)
    assert only[PASSES_C4].tolist() == [1, 1, 1, 1, 1, 0, 1, 1]
    assert PASSES_C4 not in heuristics().measure(found)
