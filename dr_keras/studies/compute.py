"""What an arm costs and saves, in floating-point operations (see `dr_keras.training.flops`).

An arm's run of s steps costs 3 F B s for training and, where it chooses by a network, the scoring
of the examples it read until then. The saving is counted where the arm reaches the final loss of
the unfiltered arm; an arm that never does saves nothing, and its figures are null with a reason.
"""

from collections.abc import Callable, Mapping

import numpy as np

from dr_keras.studies.comparison import steps_to_reach
from dr_keras.studies.verdict import percent
from dr_keras.training.flops import training_flops


def run_flops(
    steps: float, forward: int, batch_size: int, scoring: int, scored: Callable[[float], float]
) -> dict[str, float]:
    """{"training", "scoring", "total"} of the first `steps` steps of a run.

    Args:
      forward: F of the model for one example.
      scoring: F of what scores for one example, 0 where nothing is scored.
      scored: steps -> examples scored by then.
    """
    training = float(training_flops(forward, 1) * batch_size * steps)
    selection = float(scoring * scored(steps)) if scoring else 0.0
    return {"training": training, "scoring": selection, "total": training + selection}


def arm_account(
    arm: Mapping,
    reference: Mapping,
    forward: int,
    batch_size: int,
    scoring: int,
    scored: Callable[[float], float],
    meta_training: float | None,
) -> dict:
    """What one arm costs, what it saves, and when meta-training has paid for itself.

    Args:
      arm, reference: as `comparison.compare` returned them.
      meta_training: operations of meta-training where the arm uses the rater, else 0; None where
        they are not known.
      (the others as for `run_flops`)

    Returns:
      "run": `run_flops` of the whole run; "steps_share" and "flops_share" of the reference's, with
      "flops_share_by_seed" and their "spread"; "saving", operations saved a run, scoring counted;
      "saving_shared", the same where the corpus was scored before and for many runs; "runs_to_pay":
      runs after which meta-training is paid for. Null with a "reason" where undefined.
    """
    last = arm["final"]["step"]
    target = reference["final"]["mean"]
    whole = run_flops(last, forward, batch_size, scoring, scored)
    full = training_flops(forward, 1) * batch_size * reference["final"]["step"]
    steps = arm["match"]["steps"]
    by_seed = {}
    for seed, curve in arm["curves"].items():
        reached = steps_to_reach(target, curve)
        cost = None if reached is None else run_flops(reached, forward, batch_size, scoring, scored)
        by_seed[seed] = None if cost is None else cost["total"] / full
    account = {
        "run": whole,
        "steps_share": None,
        "flops_share": None,
        "flops_share_by_seed": by_seed,
        "spread": None,
        "saving": None,
        "saving_shared": None,
        "runs_to_pay": None,
    }
    if arm is reference:
        ones = dict.fromkeys(by_seed, 1.0)
        return account | {
            "steps_share": 1.0,
            "flops_share": 1.0,
            "flops_share_by_seed": ones,
            "saving": 0.0,
            "saving_shared": 0.0,
            "reason": "the reference",
        }
    if steps is None:
        return account | {"reason": arm["match"]["reason"]}
    cost = run_flops(steps, forward, batch_size, scoring, scored)
    account |= {
        "steps_share": arm["match"]["share"],
        "flops_share": cost["total"] / full,
        "saving": full - cost["total"],
        "saving_shared": full - cost["training"],
    }
    reasons = []
    shares = [share for share in by_seed.values() if share is not None]
    if len(shares) == len(by_seed) and len(shares) > 1:
        account["spread"] = float(np.std(shares, ddof=1))
    elif len(shares) < len(by_seed):
        reasons.append(f"{len(by_seed) - len(shares)} of {len(by_seed)} seeds never get there")
    else:
        reasons.append("one seed has no spread")
    if meta_training is None:
        reasons.append("what meta-training cost is not known")
    elif not meta_training:
        reasons.append("no meta-training to pay for")
    elif account["saving"] <= 0:
        reasons.append("nothing is saved, so meta-training is never paid for")
    else:
        account["runs_to_pay"] = meta_training / account["saving"]
    return account | ({"reason": "; ".join(reasons)} if reasons else {})


def recommendation(sizes: Mapping[str, Mapping], candidate: str, reference: str) -> str:
    """What to do, in a sentence or two, from the accounts and outcomes of all sizes.

    Args:
      sizes: size -> {"account": of the candidate, "outcomes": other arm -> "better", ...}, in
        rising size.
    """
    parts = []
    for size, found in sizes.items():
        account, outcomes = found["account"], found["outcomes"]
        # Reaching a loss at the last step is no better loss: the arms' final figures decide.
        if outcomes.get(reference) == "worse":
            parts.append(f"at {size}, do not filter: the {candidate} arm ends worse")
        elif account["flops_share"] is None:
            parts.append(f"at {size}, do not filter: the {reference} loss was never reached")
        elif account["saving"] <= 0:
            parts.append(
                f"at {size}, filtering saves nothing: the {reference} loss takes"
                f" {percent(account['flops_share'])} of the FLOPs"
            )
        else:
            text = f"at {size}, filtering saves {percent(1 - account['flops_share'])} of a run"
            if account["runs_to_pay"] is not None:
                runs = max(1, int(np.ceil(account["runs_to_pay"])))
                text += f" and pays for meta-training from {runs:,} runs on"
            not_sure = [name for name, outcome in outcomes.items() if outcome == "undecided"]
            if not_sure:
                text += f" (within the spread of {' and '.join(not_sure)})"
            lost = [name for name, outcome in outcomes.items() if outcome == "worse"]
            if lost:
                text += f", but {' and '.join(lost)} does better"
            parts.append(text)
    return "; ".join(parts)[:1].upper() + "; ".join(parts)[1:] + "."
