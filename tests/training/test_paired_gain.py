"""The rule by which a difference counts: its parts by hand, and how often it is wrong."""

import numpy as np
import pytest

from dr_keras.training.paired_gain import PairedGain, paired_gain, two_errors


def test_the_standard_error_of_a_case_worked_out_by_hand():
    """Two pairs, three rows of two documents, of 1, 2 and 1 tokens."""
    reference = np.array([[3.0, 4.0, 2.0], [3.0, 5.0, 2.0]])
    candidate = np.array([[2.0, 2.0, 2.0], [3.0, 4.0, 1.0]])
    found = paired_gain(reference, candidate, [1, 2, 1], ["a", "b", "b"])
    # Saved: [1, 2, 0] and [0, 1, 1]; by pair 3/4 and 2/4, mean 5/8.
    assert found.gain == pytest.approx(5 / 8)
    of_pairs = ((3 / 4 - 5 / 8) ** 2 + (2 / 4 - 5 / 8) ** 2) / 1 / 2
    # Mean over pairs by row: [0.5, 1.5, 0.5], less 5/8 a token: document a -0.125, b +0.125.
    of_documents = 2 / 1 * (0.125**2 + 0.125**2) / 4**2
    assert found.standard_error == pytest.approx(np.sqrt(of_pairs + of_documents))
    assert found.threshold == pytest.approx(two_errors(1))  # both have one degree of freedom


def test_the_threshold_is_between_those_of_pairs_and_of_documents():
    """All noise by pair: that of few pairs; none by pair: that of many documents."""
    rng = np.random.default_rng(0)
    pair, document = rng.normal(size=(3, 1)), rng.normal(size=40)
    threshold = {
        name: paired_gain(saved, 0 * saved, np.ones(40), np.arange(40)).threshold
        for name, saved in {
            "pairs": np.repeat(pair, 40, axis=1),
            "documents": np.repeat(document[None], 3, axis=0),
            "both": pair / 6 + document,
        }.items()
    }
    assert threshold["pairs"] == pytest.approx(two_errors(2))
    assert threshold["documents"] == pytest.approx(two_errors(39))
    assert two_errors(39) < threshold["both"] < two_errors(2)


def test_two_standard_errors_are_more_where_pairs_are_few():
    """Quantiles of Student's t at 0.97725, from SciPy."""
    known = {1: 13.9677, 2: 4.5265, 3: 3.3068, 4: 2.8693, 9: 2.3198, 99: 2.0256}
    assert {f: round(two_errors(f), 4) for f in known} == known
    assert two_errors(10**7) == pytest.approx(2, abs=1e-4)
    assert two_errors(10**7, candidates=3) == pytest.approx(2.4283, abs=1e-3)


@pytest.mark.parametrize(
    "gain, error, outcome",
    [(0.3, 0.1, "better"), (-0.3, 0.1, "worse"), (0.2, 0.1, "undecided"), (0.3, None, "undecided"),
     (None, None, "worse"), (0.0, 0.0, "undecided")],
)  # fmt: skip
def test_outcomes(gain, error, outcome):
    threshold = None if error is None else 2.0
    assert PairedGain(gain, error, threshold).outcome == outcome


def test_what_cannot_be_known_is_not_said():
    one = np.array([[3.0, 4.0]])
    assert paired_gain(one, one - 1, [1, 1], ["a", "b"]) == PairedGain(1.0, None, None)
    two = np.concatenate([one, one])
    assert paired_gain(two, two - 1, [1, 1], ["a", "a"]) == PairedGain(1.0, None, None)
    assert paired_gain(two, two * np.nan, [1, 1], ["a", "b"]).outcome == "worse"
    assert paired_gain(two, two, [1, 1], ["a", "b"]).outcome == "undecided"


@pytest.mark.parametrize("pairs", [2, 3, 5, 10])
@pytest.mark.parametrize("by_pair, by_document", [(1.0, 0.0), (1.0, 1.0), (0.1, 1.0)])
def test_chance_is_taken_for_help_in_one_case_of_forty_at_most(pairs, by_pair, by_document):
    """Simulated: no gain on average, noise by pair, by document and by row."""
    rng = np.random.default_rng(pairs)
    cases, documents, rows = 1500, 40, 80
    owners = np.repeat(np.arange(documents), 2)
    counts = rng.integers(5, 20, rows).astype(float)
    wrong = {"better": 0, "worse": 0, "undecided": 0}
    for _ in range(cases):
        pair = by_pair * rng.normal(size=(pairs, 1)) / np.sqrt(documents)
        document = by_document * rng.normal(size=documents)[owners]
        saved = counts * (pair + document + 0.2 * rng.normal(size=(pairs, rows)))
        wrong[paired_gain(saved, 0 * saved, counts, owners).outcome] += 1
    # 2.3% are meant; three standard errors of a share of 1,500 cases are 1.2%.
    assert wrong["better"] <= 0.035 * cases
    assert wrong["worse"] <= 0.035 * cases


def test_a_gain_of_four_standard_errors_is_found():
    rng = np.random.default_rng(0)
    owners, counts = np.arange(50), np.ones(50)
    found = 0
    for _ in range(200):
        saved = 0.5 + 0.1 * rng.normal(size=(5, 1)) + 0.7 * rng.normal(size=(5, 50))
        found += paired_gain(saved, 0 * saved, counts, owners).outcome == "better"
    assert found > 190
