"""Compare arms by their test-loss curves: means, spread over seeds, and the steps they need.

A *curve* is a list of (step, loss) pairs with rising steps; all arms of a comparison are evaluated
at the same steps. An *arm* is one way of choosing training data; one of them, the reference
("unfiltered"), sets the loss that the others have to reach.

Two arms are called different only where their means are further apart than the sum of their
spreads (sample standard deviation over seeds), so a lucky seed does not make a winner. With one
seed there is no spread and hence no verdict.

Steps to reach the reference's final loss are counted on curves whose learning rate follows the
schedule of the full run. At an early crossing the learning rate is still high, so a run planned to
end there would have got lower: the count is, if anything, too large for the better arm.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from dr_keras.errors import ConfigurationError, NonFiniteError

Curve = Sequence[tuple[int, float]]


def check_curve(curve: Curve, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (int64 [P]) and losses (float64 [P]) of a curve that is long enough and finite."""
    if not len(curve):
        raise ConfigurationError(f"the curve of {name} is empty: nothing was evaluated")
    steps = np.asarray([step for step, _ in curve], dtype=np.int64)
    losses = np.asarray([loss for _, loss in curve], dtype=np.float64)
    if np.any(np.diff(steps) <= 0):
        raise ConfigurationError(f"the steps of the curve of {name} do not rise: {steps.tolist()}")
    if not np.isfinite(losses).all():
        bad = int(steps[~np.isfinite(losses)][0])
        raise NonFiniteError(
            f"the loss of {name} is not finite at step {bad}: lower the learning rate"
        )
    return steps, losses


def steps_to_reach(target: float, curve: Curve) -> float | None:
    """The first step, by linear interpolation, at which a curve is at or below a loss.

    Returns:
        A step count between two evaluations, the first evaluated step where the curve starts at or
        below `target`, or None where it never gets there.
    """
    steps, losses = check_curve(curve, "this arm")
    below = np.flatnonzero(losses <= target)
    if not below.size:
        return None
    k = int(below[0])
    if k == 0:
        return float(steps[0])
    part = (losses[k - 1] - target) / (losses[k - 1] - losses[k])
    return float(steps[k - 1] + part * (steps[k] - steps[k - 1]))


def aggregate(curves: Mapping[int, Curve], name: str = "this arm") -> dict:
    """Mean and spread over seeds of one arm's curves.

    Returns:
        {"curves": {seed: [[step, loss]]}, "mean": [[step, loss]], "spread": [[step, deviation]],
        "final": {"step", "mean", "spread", "by_seed"}}. The spread is the sample standard
        deviation (n - 1); with a single seed it is None, with a `reason`.
    """
    if not curves:
        raise ConfigurationError(f"{name} has no curves: give at least one seed")
    checked = {seed: check_curve(curve, f"{name}, seed {seed}") for seed, curve in curves.items()}
    first_seed, (steps, _) = next(iter(checked.items()))
    for seed, (other, _) in checked.items():
        if not np.array_equal(steps, other):
            raise ConfigurationError(
                f"{name}: seeds {first_seed} and {seed} were evaluated at different steps"
            )
    losses = np.stack([loss for _, loss in checked.values()])
    mean = losses.mean(axis=0)
    spread = losses.std(axis=0, ddof=1) if len(losses) > 1 else None
    final = {
        "step": int(steps[-1]),
        "mean": float(mean[-1]),
        "spread": None if spread is None else float(spread[-1]),
        "by_seed": {str(seed): float(loss[-1]) for seed, (_, loss) in checked.items()},
    }
    if spread is None:
        final["reason"] = "one seed has no spread"
    return {
        "curves": {
            str(seed): [[int(s), float(v)] for s, v in zip(steps, loss)]
            for seed, (_, loss) in checked.items()
        },
        "mean": [[int(s), float(v)] for s, v in zip(steps, mean)],
        "spread": [] if spread is None else [[int(s), float(v)] for s, v in zip(steps, spread)],
        "final": final,
    }


def steps_to_match(arm: dict, reference: dict) -> dict:
    """Steps an aggregated arm needs to reach the final mean loss of an aggregated reference.

    Returns:
        {"target", "steps", "share", "share_by_seed"}: `steps` on the arm's mean curve, `share` of
        the reference's steps, and the share of every seed by itself (None where a seed never gets
        there). `steps` and `share` are None, with a `reason`, where the mean curve never does.
    """
    target, last = reference["final"]["mean"], reference["final"]["step"]
    if arm is reference:  # By definition; its noisy curve may cross its own end a little earlier.
        ones = dict.fromkeys(arm["curves"], 1.0)
        return {"target": target, "steps": float(last), "share": 1.0, "share_by_seed": ones}
    steps = steps_to_reach(target, arm["mean"])
    by_seed = {seed: steps_to_reach(target, curve) for seed, curve in arm["curves"].items()}
    match = {
        "target": target,
        "steps": steps,
        "share": None if steps is None else steps / last,
        "share_by_seed": {s: None if v is None else v / last for s, v in by_seed.items()},
    }
    never = [seed for seed, value in by_seed.items() if value is None]
    if steps is None:
        match["reason"] = f"never reached {target:.4f} within {arm['final']['step']} steps"
    elif never:
        match["reason"] = f"the mean gets there, but not seed {', '.join(never)}"
    return match


def difference(arm: dict, other: dict) -> dict:
    """Final loss of `arm` minus that of `other`, and whether it is beyond the spread.

    Returns:
        {"difference", "margin", "outcome"}: outcome is "better", "worse" or "undecided"; `margin`
        is the sum of the two spreads (None, with a `reason`, with fewer than two seeds).
    """
    a, b = arm["final"], other["final"]
    gap = a["mean"] - b["mean"]
    if a["spread"] is None or b["spread"] is None:
        return {
            "difference": gap,
            "margin": None,
            "outcome": "undecided",
            "reason": "a verdict needs at least two seeds in both arms",
        }
    margin = a["spread"] + b["spread"]
    outcome = "undecided" if abs(gap) <= margin else ("better" if gap < 0 else "worse")
    return {"difference": gap, "margin": margin, "outcome": outcome}


def compare(
    curves: Mapping[str, Mapping[int, Curve]],
    facts: Mapping[str, Mapping[str, object]] | None = None,
    reference: str = "unfiltered",
) -> dict[str, dict]:
    """The `arms` of one comparison (one model size).

    Args:
        curves: arm -> seed -> curve.
        facts: arm -> what else is known of it (description, examples, unique_tokens, tokens_seen,
            epochs, discard_fraction ...), copied into the result.
        reference: the arm whose final loss the others have to reach.

    Returns:
        arm -> facts, `aggregate`, "match" (`steps_to_match`) and "against" ({other arm:
        `difference`}).
    """
    if reference not in curves:
        raise ConfigurationError(
            f"the reference arm {reference!r} is not among the arms {sorted(curves)}"
        )
    arms = {name: aggregate(by_seed, f"arm {name!r}") for name, by_seed in curves.items()}
    points = [step for step, _ in arms[reference]["mean"]]
    for name, arm in arms.items():
        if [step for step, _ in arm["mean"]] != points:
            raise ConfigurationError(
                f"arms {reference!r} and {name!r} were evaluated at different steps"
            )
    return {
        name: {
            **dict((facts or {}).get(name, {})),
            **arm,
            "match": steps_to_match(arm, arms[reference]),
            "against": {other: difference(arm, arms[other]) for other in arms if other != name},
        }
        for name, arm in arms.items()
    }
