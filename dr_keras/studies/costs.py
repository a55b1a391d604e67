"""What an arm costs and saves, in floating-point operations (see `dr_keras.training.flops`).

An arm's run of s steps costs 3 F B s for training and, where it chooses by a network, the scoring
of the examples it read until then. The saving is counted where the arm reaches the final loss of
the reference; an arm that never does saves nothing, and its figures are null with a reason.
"""

from collections.abc import Callable
import dataclasses

import numpy as np

from dr_keras.studies.sizes import Account, Arm, Run, SizeFacts
from dr_keras.training.flops import training_flops


@dataclasses.dataclass(frozen=True)
class Cost:
    """What choosing costs an arm.

    Attributes:
      scoring: F of what scores for one example, 0 where nothing is scored.
      scored: steps -> examples scored by then.
      making: operations of making what scores, such as meta-training; 0 where nothing is made, None
        where they are not known.
    """

    scoring: int
    scored: Callable[[float], float]
    making: float | None


def run_flops(steps: float, size: SizeFacts, cost: Cost) -> Run:
    """Operations of the first `steps` steps of a run."""
    training = float(training_flops(size.forward_flops, 1) * size.batch_size * steps)
    scoring = float(cost.scoring * cost.scored(steps)) if cost.scoring else 0.0
    return Run(training, scoring, training + scoring)


def arm_account(arm: Arm, reference: Arm, size: SizeFacts, cost: Cost) -> Account:
    """What one arm costs, what it saves, and when the making of what scores has paid for itself.

    Returns:
      `run`: of the whole run; `steps_share` and `flops_share` of the reference's, with
      `flops_share_by_seed` and their `spread`; `saving`, operations saved a run, scoring counted;
      `saving_shared`, the same where the corpus was scored before and for many runs; `making`: of
      what scores, once; `runs_to_pay`: runs after which that is paid for. None with a `reason`
      where undefined.
    """
    whole = run_flops(arm.steps, size, cost)
    full = training_flops(size.forward_flops, 1) * size.batch_size * reference.steps
    by_seed = {
        seed: None if share is None else run_flops(share * reference.steps, size, cost).total / full
        for seed, share in arm.match.share_by_seed.items()
    }
    undefined = Account(whole, None, None, by_seed, None, None, None, None, making=cost.making)
    if arm is reference:
        ones = dict.fromkeys(by_seed, 1.0)
        return Account(whole, 1.0, 1.0, ones, None, 0.0, 0.0, None, "the reference", cost.making)
    if arm.match.steps is None:
        return dataclasses.replace(undefined, reason=arm.match.reason)
    reached = run_flops(arm.match.steps, size, cost)
    saving, spread, runs, reasons = full - reached.total, None, None, []
    shares = [share for share in by_seed.values() if share is not None]
    if len(shares) == len(by_seed) and len(shares) > 1:
        spread = float(np.std(shares, ddof=1))
    elif len(shares) < len(by_seed):
        reasons.append(f"{len(by_seed) - len(shares)} of {len(by_seed)} seeds never get there")
    else:
        reasons.append("one seed has no spread")
    if cost.making is None:
        reasons.append("what the making of what scores cost is not known")
    elif not cost.making:
        reasons.append("nothing was made that has to be paid for")
    elif saving <= 0:
        reasons.append("nothing is saved, so what scores is never paid for")
    else:
        runs = cost.making / saving
    return Account(
        run=whole,
        steps_share=arm.match.share,
        flops_share=reached.total / full,
        flops_share_by_seed=by_seed,
        spread=spread,
        saving=saving,
        saving_shared=full - reached.training,
        runs_to_pay=runs,
        reason="; ".join(reasons) or None,
        making=cost.making,
    )
