import pytest
import study

from dr_keras.studies.costs import Cost, run_flops
from dr_keras.studies.verdicts import recommendation

CURVES = {
    "unfiltered": {0: [[0, 5.0], [50, 3.0], [100, 2.0]], 1: [[0, 5.0], [50, 3.2], [100, 2.2]]},
    # mean reaches 2.1 at step 50; seed 0 there is at 2.0, seed 1 at 2.2
    "rater": {0: [[0, 5.0], [50, 2.0], [100, 1.8]], 1: [[0, 5.0], [50, 2.2], [100, 1.9]]},
    "random": {0: [[0, 5.0], [50, 3.3], [100, 2.3]], 1: [[0, 5.0], [50, 3.4], [100, 2.4]]},
}


def size(curves=CURVES, candidate="rater", baselines=("random",), scoring=4, making=9000.0):
    cost = Cost(scoring, lambda steps: 8 * steps, making)
    return study.size(
        curves,
        study.protocol(candidate=candidate, baselines=list(baselines)),
        cost=dict.fromkeys(curves, cost),
        name="1M",
        batch_size=2,
        forward_flops=10,
    )


def account(name, **changes):
    return size(**changes).arms[name].account


def test_run_by_hand():
    small = study.facts(batch_size=2, forward_flops=10)
    found = run_flops(5, small, Cost(4, lambda steps: 8 * steps, 0.0))
    assert (found.training, found.scoring, found.total) == (300.0, 160.0, 460.0)
    assert run_flops(5, small, Cost(0, lambda steps: 8 * steps, 0.0)).scoring == 0.0


def test_account_by_hand():
    found = account("rater")
    full, reached = 60 * 100, (60 + 32) * 50
    assert found.run.total == (60 + 32) * 100
    assert found.steps_share == pytest.approx(0.5)
    assert found.flops_share == pytest.approx(reached / full)
    assert found.saving == pytest.approx(full - reached)
    assert found.saving_shared == pytest.approx(full - 60 * 50)
    assert found.runs_to_pay == pytest.approx(9000 / (full - reached))
    # seed 0 passes 2.1 between 0 and 50, seed 1 between 50 and 100
    steps = [50 * (5 - 2.1) / 3, 50 + 50 * 0.1 / 0.3]
    shares = [92 * s / full for s in steps]
    assert list(found.flops_share_by_seed.values()) == pytest.approx(shares)
    assert found.spread == pytest.approx(abs(shares[0] - shares[1]) / 2**0.5)
    assert found.reason is None
    # Meta-training is 1.5 runs: with one run to pay for it, and with three.
    assert found.making == 9000
    assert found.total_share(full, 1) == pytest.approx(reached / full + 1.5)
    assert found.total_share(full, 3) == pytest.approx(reached / full + 0.5)
    assert account("random").total_share(full, 1) is None
    assert account("rater", making=None).total_share(full, 1) is None


def test_what_is_not_defined_is_none_with_a_reason():
    random = account("random")
    assert random.flops_share is None and "never reached 2.1" in random.reason
    assert random.run.total > 0
    unfiltered = account("unfiltered", scoring=0)
    assert unfiltered.flops_share == 1.0 and unfiltered.saving == 0.0
    dear = account("rater", scoring=400)
    assert dear.saving < 0 and dear.runs_to_pay is None
    assert "never paid for" in dear.reason
    assert "not known" in account("rater", making=None).reason
    assert "nothing was made" in account("rater", making=0.0).reason


def test_recommendation_says_what_to_do():
    def advice(candidate="rater", baselines=("random",), curves=(), **changes):
        given = study.protocol(candidate=candidate, baselines=list(baselines))
        # Every seed twice, for a verdict.
        four = {
            arm: found | {seed + 2: curve for seed, curve in found.items()}
            for arm, found in (CURVES | dict(curves)).items()
        }
        return recommendation([size(four, candidate, baselines, **changes)], given)

    def ends(low, high):
        return {0: [[0, 5.0], [50, 2.0], [100, low]], 1: [[0, 5.0], [50, 2.2], [100, high]]}

    assert advice() == (
        "At 1M, filtering saves 23% of a run and pays for meta-training from 7 runs on."
    )
    never = {0: [[0, 5.0], [50, 3.0], [100, 1.95]], 1: [[0, 5.0], [50, 3.0], [100, 2.4]]}
    assert (
        advice(curves={"rater": never})
        == "At 1M, do not filter: the unfiltered loss was never reached."
    )
    worse = advice(curves={"rater": ends(2.5, 2.6)})
    assert worse == "At 1M, do not filter: the rater arm ends worse."
    within = advice(curves={"rater": ends(1.9, 2.3)})
    assert "(not told from unfiltered)" in within
    lost = advice(curves={"random": ends(1.1, 1.2)})
    assert "but random does better" in lost
    lost = advice(curves={"classifier": ends(1.1, 1.2), "rater_inverted": ends(1.0, 1.1)})
    assert lost.endswith("from 7 runs on, but classifier does better.")
    assert "filtering saves nothing" in advice(scoring=400)
