import re

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
import study

from dr_keras.errors import ConfigurationError, NonFiniteError
from dr_keras.studies import summaries
from dr_keras.studies.verdicts import judge, too_small_for_verdict

CURVE = [(0, 5.0), (10, 3.0), (20, 2.0), (30, 2.5)]


@pytest.mark.parametrize(
    "target, expected", [(4.0, 5.0), (3.0, 10.0), (2.5, 15.0), (6.0, 0.0), (1.9, None)]
)
def test_steps_to_reach_interpolates_the_first_crossing(target, expected):
    assert summaries.steps_to_reach(target, CURVE) == expected


@given(st.lists(st.floats(0.1, 9), min_size=2, max_size=9), st.floats(0.1, 9))
def test_steps_to_reach_lies_between_the_evaluations_around_it(losses, target):
    curve = [(7 * k, loss) for k, loss in enumerate(losses)]
    found = summaries.steps_to_reach(target, curve)
    if found is None:
        assert min(losses) > target
    else:
        k = next(k for k, loss in enumerate(losses) if loss <= target)
        assert max(7 * (k - 1), 0) <= found <= 7 * k


def finals(**by_arm):
    """arm -> seed -> a curve that ends there."""
    return {
        arm: {seed: [(0, 5.0), (100, value)] for seed, value in enumerate(values)}
        for arm, values in by_arm.items()
    }


def test_a_size_has_means_spreads_and_shares():
    found = study.size(
        finals(unfiltered=[3.0, 3.2, 3.4], rater=[2.2, 2.4, 2.6], random=[3.3, 3.2, 3.7])
    ).arms
    unfiltered, rater, random = found["unfiltered"], found["rater"], found["random"]
    assert unfiltered.final.mean == pytest.approx(3.2)
    assert unfiltered.final.spread == pytest.approx(0.2)
    assert unfiltered.match.share == 1.0 and rater.steps == 100
    assert rater.mean == [(0, 5.0), (100, pytest.approx(2.4))]
    assert rater.spread == [(0, 0.0), (100, pytest.approx(0.2))]
    assert rater.description == "the half with the highest scores"
    assert (rater.budget.pool_tokens, rater.budget.tokens_seen) == (812_000, 1_620_000)
    assert rater.by_source["numpy"].mean == pytest.approx(2.5)
    # From 5.0 to 2.4 in 100 steps: 3.2 is met at 1.8 / 2.6 of them.
    assert rater.match.steps == pytest.approx(100 * 1.8 / 2.6)
    assert rater.match.share_by_seed["0"] == pytest.approx(1.8 / 2.8)
    against = rater.final.against["unfiltered"]
    assert against.difference == pytest.approx(-0.8)
    assert against.standard_error == pytest.approx(0.0, abs=1e-9)
    assert against.outcome == "better"
    assert random.match.steps is None and "never reached 3.2" in random.match.reason
    assert random.final.outcome("unfiltered") == "undecided"  # by 0.3, 0 and 0.3
    assert random.final.outcome("rater") == "worse"


def test_a_metric_is_compared_with_its_rivals_and_the_judged_one_with_all():
    cells = {
        arm: {
            seed: study.cell(
                [(0, 5.0), (9, 2.0)], metrics={"accuracy": mean + seed / 100}, validation_loss=mean
            )
            for seed in (0, 1, 2)
        }
        for arm, mean in {"unfiltered": 0.5, "rater": 0.9, "random": 0.7, "oracle": 1.0}.items()
    }
    judged = study.protocol(metric="accuracy", higher_is_better=True)
    arms = study.size(cells, judged).arms
    rater = arms["rater"]
    assert set(rater.metrics["accuracy"].against) == {"unfiltered", "random", "oracle"}
    assert set(arms["oracle"].metrics["validation loss"].against) == {"unfiltered", "random"}
    assert rater.metrics["accuracy"].outcome("oracle") == "worse"
    assert set(rater.metrics["validation loss"].against) == {"unfiltered", "random", "oracle"}
    assert rater.metrics["validation loss"].outcome("random") == "worse"


def test_bad_curves_are_refused():
    def arms(**curves):
        return study.size({arm: {0: curve} for arm, curve in curves.items()})

    with pytest.raises(ConfigurationError, match="not among the arms"):
        arms(rater=CURVE)
    with pytest.raises(ConfigurationError, match="no verdict without the arms .'rater'"):
        arms(unfiltered=CURVE)
    with pytest.raises(ConfigurationError, match="empty"):
        study.size({"unfiltered": {0: study.cell(CURVE) | {"record": {"curve": []}}}})
    with pytest.raises(ConfigurationError, match="no curves: give at least one seed"):
        study.size({"unfiltered": {}})
    with pytest.raises(ConfigurationError, match="do not rise"):
        summaries.steps_to_reach(1.0, [(1, 2.0), (1, 1.0)])
    with pytest.raises(NonFiniteError, match="rater.*step 10"):
        arms(unfiltered=CURVE, rater=[(0, 1.0), (10, np.nan)])
    with pytest.raises(ConfigurationError, match="different steps"):
        arms(unfiltered=CURVE, rater=CURVE[:-1])
    with pytest.raises(ConfigurationError, match="seeds 0 and 1"):
        study.size({"unfiltered": {0: CURVE, 1: CURVE[:-1]}})


@pytest.mark.parametrize(
    "given, outcome, words",
    [
        (dict(unfiltered=3.0, random=3.1, rater=2.0), "better", "of the steps"),
        (dict(unfiltered=3.0, random=3.1, rater=4.0), "worse", "never reached"),
        (dict(unfiltered=3.0, random=2.0, rater=2.0), "undecided", "to random is within two"),
        (dict(unfiltered=3.0, random=1.0, rater=2.0), "worse", "than random"),
    ],
)
def test_verdict(given, outcome, words):
    losses = {arm: [loss, loss + 0.1, loss + 0.2] for arm, loss in given.items()}
    verdict = study.size(finals(**losses)).verdict
    assert verdict.outcome == outcome
    assert words in verdict.text
    assert verdict.figures.startswith("Final test loss in nats per token, lower is better: rater ")


def test_too_small_overrides_any_figure():
    why = too_small_for_verdict(train_examples=100, test_tokens=500, steps=400, batch_size=32)
    assert "500 tokens" in why and "100 training examples" in why and "128 times" in why
    found = study.size(finals(unfiltered=[3, 3.1], rater=[2, 2.1]), too_small=why)
    assert found.verdict.outcome == "too_small"
    assert found.verdict.text.startswith("This corpus is too small for a verdict: the test part")
    assert too_small_for_verdict(10_000, 50_000, steps=400, batch_size=32) is None
    with pytest.raises(ConfigurationError, match="without the arms"):
        judge(found.arms, study.protocol(candidate="perplexity"))


@pytest.mark.parametrize(
    "unfiltered, random, outcome, text",
    [
        (0.5, 0.6, "better", "Yes: without the 50% of .* beat unfiltered and random 50% by more"),
        (0.5, 0.9, "undecided", "No clear answer: the difference to random 50% is within"),
        (0.99, 0.5, "worse", "The rater did not help: rater 50% was worse than unfiltered"),
        (0.99, 0.9, "worse", "was worse than unfiltered"),
    ],
)
def test_a_verdict_by_a_metric_is_better_only_than_all(unfiltered, random, outcome, text):
    means = {"unfiltered": unfiltered, "rater 50%": 0.9, "random 50%": random}
    figures = {arm: {0: m - 0.01, 1: m, 2: m + 0.01} for arm, m in means.items()}
    cells = {
        arm: {s: study.cell(CURVE, metrics={"accuracy": v}) for s, v in by_seed.items()}
        for arm, by_seed in figures.items()
    }
    protocol = study.protocol(
        candidate="rater 50%", baselines=["random 50%"], metric="accuracy", higher_is_better=True
    )
    verdict = study.size(cells, protocol).verdict
    assert verdict.outcome == outcome
    assert re.search(text, verdict.text)
    assert verdict.figures.startswith("Test accuracy: rater 50% 0.9000 ± 0.0100, unfiltered")


def test_one_seed_gives_no_verdict_by_a_metric():
    cells = {
        arm: {0: study.cell(CURVE, metrics={"accuracy": 0.5})}
        for arm in ("unfiltered", "rater 50%")
    }
    protocol = study.protocol(candidate="rater 50%", metric="accuracy", higher_is_better=True)
    text = study.size(cells, protocol).verdict.text
    assert text == "No clear answer: a verdict needs at least 3 seeds that both arms have."


def test_the_answer_on_all_sizes():
    found = study.evidence()
    assert found.answer.outcome == "better"
    assert found.answer.text.startswith(
        "Yes: trained on what the rater kept, models beat unfiltered and random by more than two"
        " standard errors of the paired differences at all 2 sizes; at 100k it reached the"
        " unfiltered model's final loss with"
    )
    assert found.answer.recommendation.startswith("At 30k, filtering saves ")
    assert found.answer.figures.startswith("100k: Final test loss")
    assert "Over all sizes and rival arms rater was better in 5 of 5" in found.answer.figures
    assert study.results().answer == study.results().sizes[0].verdict


def test_shorter_runs_are_held_against_the_full_reference():
    size = study.evidence().sizes[0]
    cost = study.Cost(50_000, lambda steps: 64 * steps, 1e12)
    cells = {s: study.cell([(0, 5.0), (200, 2.2 + s / 1000)]) for s in study.SEEDS}
    run = summaries.shorter_run(cells, size, "unfiltered", cost)
    assert run.steps == 200 and run.final.mean == pytest.approx(2.201)
    assert run.flops_share == pytest.approx((3e6 * 32 + 50_000 * 64) * 200 / (3e6 * 32 * 400))
    assert run.final.against["unfiltered"].outcome == "better"
    assert study.evidence().sweep["30k"].best == 0.25


def test_budgets_that_differ_are_named():
    cells = {
        arm: {0: study.cell(CURVE, tokens_seen=seen)}
        for arm, seen in {"unfiltered": 1000, "rater": 1100, "random": 1040}.items()
    }
    (warning,) = summaries.budget_warnings([study.size(cells)], "unfiltered")
    assert warning.startswith("byte model, rater: 10.0% more tokens seen than unfiltered")
