import pytest

from dr_keras.studies.comparison import compare
from dr_keras.studies.compute import arm_account, recommendation, run_flops

CURVES = {
    "unfiltered": {0: [[0, 5.0], [50, 3.0], [100, 2.0]], 1: [[0, 5.0], [50, 3.2], [100, 2.2]]},
    # mean reaches 2.1 at step 50; seed 0 there is at 2.0, seed 1 at 2.2
    "rater": {0: [[0, 5.0], [50, 2.0], [100, 1.8]], 1: [[0, 5.0], [50, 2.2], [100, 1.9]]},
    "random": {0: [[0, 5.0], [50, 3.3], [100, 2.3]], 1: [[0, 5.0], [50, 3.4], [100, 2.4]]},
}


def account(name, **changes):
    arms = compare(CURVES)
    settings = {
        "forward": 10,
        "batch_size": 2,
        "scoring": 4,
        "scored": lambda steps: 8 * steps,
        "meta_training": 9000.0,
        **changes,
    }
    return arm_account(arms[name], arms["unfiltered"], **settings)


def test_run_by_hand():
    found = run_flops(5, forward=10, batch_size=2, scoring=4, scored=lambda steps: 8 * steps)
    assert found == {"training": 300.0, "scoring": 160.0, "total": 460.0}
    assert run_flops(5, 10, 2, 0, lambda steps: 8 * steps)["scoring"] == 0.0


def test_account_by_hand():
    found = account("rater")
    full, reached = 60 * 100, (60 + 32) * 50
    assert found["run"]["total"] == (60 + 32) * 100
    assert found["steps_share"] == pytest.approx(0.5)
    assert found["flops_share"] == pytest.approx(reached / full)
    assert found["saving"] == pytest.approx(full - reached)
    assert found["saving_shared"] == pytest.approx(full - 60 * 50)
    assert found["runs_to_pay"] == pytest.approx(9000 / (full - reached))
    # seed 0 passes 2.1 between 0 and 50, seed 1 between 50 and 100
    steps = [50 * (5 - 2.1) / 3, 50 + 50 * 0.1 / 0.3]
    shares = [92 * s / full for s in steps]
    assert list(found["flops_share_by_seed"].values()) == pytest.approx(shares)
    assert found["spread"] == pytest.approx(abs(shares[0] - shares[1]) / 2**0.5)
    assert "reason" not in found


def test_what_is_not_defined_is_null_with_a_reason():
    random = account("random")
    assert random["flops_share"] is None and "never reached 2.1" in random["reason"]
    assert random["run"]["total"] > 0
    unfiltered = account("unfiltered", scoring=0)
    assert unfiltered["flops_share"] == 1.0 and unfiltered["saving"] == 0.0
    dear = account("rater", scoring=400)
    assert dear["saving"] < 0 and dear["runs_to_pay"] is None
    assert "never paid for" in dear["reason"]
    assert "not known" in account("rater", meta_training=None)["reason"]
    assert "no meta-training" in account("rater", meta_training=0.0)["reason"]


def test_recommendation_says_what_to_do():
    good = {"account": account("rater"), "outcomes": {"unfiltered": "better", "random": "better"}}
    never = {"account": account("random"), "outcomes": {"unfiltered": "undecided"}}
    worse = {"account": account("rater"), "outcomes": {"unfiltered": "worse"}}
    close = {"account": account("rater"), "outcomes": {"unfiltered": "undecided"}}
    lost = {"account": account("rater"), "outcomes": {"unfiltered": "better", "random": "worse"}}
    text = recommendation({"1M": good}, "rater", "unfiltered")
    assert text == "At 1M, filtering saves 23% of a run and pays for meta-training from 7 runs on."
    assert "do not filter: the unfiltered loss was never reached" in recommendation(
        {"1M": never}, "rater", "unfiltered"
    )
    assert "do not filter: the rater arm ends worse" in recommendation(
        {"1M": worse}, "rater", "unfiltered"
    )
    assert "within the spread of unfiltered" in recommendation({"1M": close}, "rater", "unfiltered")
    assert "but random does better" in recommendation({"1M": lost}, "rater", "unfiltered")
    dear = {"account": account("rater", scoring=400), "outcomes": {}}
    assert "filtering saves nothing" in recommendation({"1M": dear}, "rater", "unfiltered")
