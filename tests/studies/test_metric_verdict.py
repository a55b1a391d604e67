"""Verdicts by a metric of the test set."""

import re

import pytest

from dr_keras.studies.verdict import judge_metric


def arms(**outcomes):
    figures = {"mean": 0.9, "spread": 0.01}
    against = {
        name: {"difference": 0.0, "margin": 0.0, "outcome": outcome}
        for name, outcome in outcomes.items()
    }
    others = {name: {"metrics": {"accuracy": figures}} for name in outcomes}
    return {"rater 50%": {"metrics": {"accuracy": {**figures, "against": against}}}, **others}


@pytest.mark.parametrize(
    "unfiltered, random, outcome, text",
    [
        ("better", "better", "better", "Yes: without the 50% .* beat unfiltered and random beyond"),
        ("better", "undecided", "undecided", "No clear answer: the difference to random is within"),
        ("worse", "better", "worse", "The rater did not help: rater 50% was worse than unfiltered"),
        ("worse", "undecided", "worse", "was worse than unfiltered"),
    ],
)
def test_better_only_than_all(unfiltered, random, outcome, text):
    found = judge_metric(
        arms(unfiltered=unfiltered, random=random),
        "accuracy",
        "rater 50%",
        ["unfiltered", "random"],
    )
    assert found["outcome"] == outcome and re.search(text, found["text"])
    assert found["figures"].startswith("Test accuracy: rater 50% 0.9000 ± 0.0100, unfiltered")


def test_one_seed_gives_no_verdict():
    made = arms(unfiltered="undecided")
    against = made["rater 50%"]["metrics"]["accuracy"]["against"]["unfiltered"]
    against["reason"] = "a verdict needs at least two seeds in both arms"
    found = judge_metric(made, "accuracy", "rater 50%", ["unfiltered"])
    assert found["text"] == "No clear answer: a verdict needs at least two seeds in both arms."
