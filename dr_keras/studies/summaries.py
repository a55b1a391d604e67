"""From what came of the cells of a study to the sections of its results.

A *cell* is one training run of one arm from one seed. What came of it is a JSON object:

    {"record": a `TrainingRecord`, "discard_fraction": achieved,
     "budget": `Budget` of that run, "validation_loss"?, "corpora"?: {name: loss},
     "tasks"?: {task: {"accuracy", "right_likelihood"}},
     "task_curves"?: {task: the same with [[step, value]] for each}}

A *curve* is a list of (step, test loss) with rising steps; all arms of a size are evaluated at the
same steps. One arm, the reference, sets the loss that the others have to reach.

How arms are held against one another: `studies.paired`.

Steps to reach the reference's final loss are counted on curves whose learning rate follows the
schedule of the full run. At an early crossing the learning rate is still high, so a run planned to
end there would have got lower: the count is, if anything, too large for the better arm.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math

import numpy as np

from dr_keras.errors import ConfigurationError, NonFiniteError
from dr_keras.studies import costs, verdicts
from dr_keras.studies.paired import compared, difference, summary
from dr_keras.studies.sizes import (
    Arm,
    Budget,
    Curve,
    Dropped,
    Match,
    MetricCurve,
    Protocol,
    ShorterRun,
    Size,
    SizeFacts,
    Summary,
    Sweep,
    SweepPoint,
    percent,
)

Cells = Mapping[int, Mapping]  # seed -> what came of the cell


@dataclasses.dataclass(frozen=True)
class ArmFacts:
    """What is known of an arm apart from its runs.

    Attributes:
      description: a few words.
      cost: of its choice; None where costs are not counted.
      dropped, pool_by_source, pool_by_damage: see `sizes.Arm`.
    """

    description: str
    cost: costs.Cost | None = None
    dropped: Dropped | None = None
    pool_by_source: Mapping[str, int] = dataclasses.field(default_factory=dict)
    pool_by_damage: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def shown(self) -> dict:
        """The fields that an arm of the results has as well."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "cost"}


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


def metrics_of(cell: Mapping) -> dict[str, tuple[float, bool | None]]:
    """Metric -> (figure, whether higher is better) of one cell; None where nobody said."""
    found: dict[str, tuple[float, bool | None]] = {}
    if "validation_loss" in cell:
        found["validation loss"] = (cell["validation_loss"], False)
    found |= {f"loss on {name}": (loss, False) for name, loss in cell.get("corpora", {}).items()}
    for task, figures in cell.get("tasks", {}).items():
        found[f"{task} accuracy"] = (figures["accuracy"], True)
        found[f"{task} likelihood"] = (figures["right_likelihood"], True)
    return found | {name: (v, None) for name, v in cell["record"].get("metrics", {}).items()}


def _match(arm: Mapping, reference: Mapping) -> Match:
    """Steps of an arm's curves (`_curves`) to the reference's final mean loss."""
    last, target = reference["mean"][-1]
    if arm is reference:  # By definition; its noisy curve may cross its own end a little earlier.
        return Match(target, float(last), 1.0, dict.fromkeys(arm["curves"], 1.0))
    steps = steps_to_reach(target, arm["mean"])
    by_seed = {seed: steps_to_reach(target, curve) for seed, curve in arm["curves"].items()}
    never = [seed for seed, value in by_seed.items() if value is None]
    reason = None
    if steps is None:
        reason = f"never reached {target:.4f} within {arm['mean'][-1][0]} steps"
    elif never:
        reason = f"the mean gets there, but not seed {', '.join(never)}"
    shares = {seed: None if v is None else v / last for seed, v in by_seed.items()}
    return Match(target, steps, None if steps is None else steps / last, shares, reason)


def _curves(by_seed: Mapping[int, Curve], name: str) -> dict:
    """The fields "curves", "mean" and "spread" of an arm."""
    if not by_seed:
        raise ConfigurationError(f"{name} has no curves: give at least one seed")
    checked = {seed: check_curve(curve, f"{name}, seed {seed}") for seed, curve in by_seed.items()}
    first_seed, (steps, _) = next(iter(checked.items()))
    for seed, (other, _) in checked.items():
        if not np.array_equal(steps, other):
            raise ConfigurationError(
                f"{name}: seeds {first_seed} and {seed} were evaluated at different steps"
            )
    losses = np.stack([loss for _, loss in checked.values()])

    def points(values) -> Curve:
        return [(int(step), float(value)) for step, value in zip(steps, values)]

    return {
        "curves": {str(seed): points(loss) for seed, (_, loss) in checked.items()},
        "mean": points(losses.mean(axis=0)),
        "spread": points(losses.std(axis=0, ddof=1)) if len(losses) > 1 else [],
    }


def size_section(
    size: SizeFacts,
    cells: Mapping[str, Cells],
    arms: Mapping[str, ArmFacts],
    protocol: Protocol,
    too_small: str | None = None,
) -> Size:
    """One size of the results, with its verdict.

    Args:
      size: what is known of it.
      cells: arm -> seed -> what came of the cell.
      arms: arm -> what else is known of it.
      protocol: which arms are compared, and by which metric.
      too_small: see `verdicts.too_small_for_verdict`.

    Raises:
      ConfigurationError: curves that cannot be compared, or no reference or candidate among arms.
      NonFiniteError: a loss is not finite.
    """
    reference = protocol.reference
    if reference not in cells:
        raise ConfigurationError(
            f"the reference arm {reference!r} is not among the arms {sorted(cells)}"
        )
    curves = {
        arm: _curves({s: c["record"]["curve"] for s, c in found.items()}, f"arm {arm!r}")
        for arm, found in cells.items()
    }
    points = [step for step, _ in curves[reference]["mean"]]
    for name, found in curves.items():
        if [step for step, _ in found["mean"]] != points:
            raise ConfigurationError(
                f"arms {reference!r} and {name!r} were evaluated at different steps"
            )
    finals = compared({a: {s: c[-1][1] for s, c in f["curves"].items()} for a, f in curves.items()})
    metrics, by_source = _figures(cells, protocol)
    made: dict[str, Arm] = {}
    for name, found in cells.items():
        budgets = [cell["budget"] for cell in found.values()]
        made[name] = Arm(
            **arms[name].shown(),
            **curves[name],
            final=finals[name],
            match=_match(curves[name], curves[reference]),
            budget=Budget(**{key: float(np.mean([b[key] for b in budgets])) for key in budgets[0]}),
            discard_fraction=float(next(iter(found.values()))["discard_fraction"]),
            seconds=float(np.mean([cell["record"]["seconds"] for cell in found.values()])),
            metrics={metric: of_arm[name] for metric, of_arm in metrics.items()},
            by_source={source: of_arm[name] for source, of_arm in by_source.items()},
            metric_curves=_metric_curves(found),
            bits_per_byte=_bits_per_byte(finals[name], size.bytes_per_token),
        )
    for name, arm in made.items():
        if (cost := arms[name].cost) is not None:
            account = costs.arm_account(arm, made[reference], size, cost)
            made[name] = dataclasses.replace(arm, account=account)
    verdict = verdicts.judge(made, protocol, too_small)
    achieved = made[protocol.candidate].discard_fraction
    return Size(**dataclasses.asdict(size), discard_fraction=achieved, arms=made, verdict=verdict)


def _figures(
    cells: Mapping[str, Cells], protocol: Protocol
) -> tuple[dict[str, dict[str, Summary]], dict[str, dict[str, Summary]]]:
    """Metric -> arm -> summary, and source -> arm -> summary of the test loss."""
    first = next(iter(cells[protocol.reference].values()))
    rivals = [protocol.reference, *protocol.baselines]

    def of_all(figure: Callable[[Mapping], float], higher=None, against=rivals):
        figures = {arm: {seed: figure(c) for seed, c in f.items()} for arm, f in cells.items()}
        return compared(figures, higher, against, protocol.candidate)

    metrics = {}
    for name, (_, higher) in metrics_of(first).items():
        judged = name == protocol.metric
        higher = protocol.higher_is_better if judged else higher
        against = None if judged else rivals
        metrics[name] = of_all(lambda cell: metrics_of(cell)[name][0], higher, against)
    by_source = {
        source: of_all(lambda cell: cell["record"]["final_by_source"][source])
        for source in first["record"].get("final_by_source", {})
    }
    return metrics, by_source


def _metric_curves(found: Cells) -> dict[str, MetricCurve]:
    """Name as in `metrics_of` -> curve of an arm, over its seeds."""
    named = {"accuracy": "accuracy", "right_likelihood": "likelihood"}
    tasks = next(iter(found.values())).get("task_curves", {})
    curves = {}
    for task, figures in tasks.items():
        for figure in figures:
            of_seeds = {seed: cell["task_curves"][task][figure] for seed, cell in found.items()}
            made = _curves(of_seeds, f"{figure} of {task}")
            name = f"{task} {named.get(figure, figure)}"
            curves[name] = MetricCurve(made["mean"], made["spread"])
    return curves


def _bits_per_byte(final: Summary, bytes_per_token: float | None) -> Summary | None:
    """Nats per token in bits per byte; None where examples are no text."""
    if bytes_per_token is None:
        return None
    scale = 1 / (math.log(2) * bytes_per_token)
    return summary({seed: scale * loss for seed, loss in final.by_seed.items()}, False)


def _ended(cells: Cells) -> Summary:
    """Test loss at the end."""
    return summary({seed: cell["record"]["curve"][-1][1] for seed, cell in cells.items()})


def _validation(cells: Cells) -> Summary:
    return summary({seed: cell["validation_loss"] for seed, cell in cells.items()})


def shorter_run(cells: Cells, size: Size, reference: str, cost: costs.Cost) -> ShorterRun:
    """An arm's runs of fewer steps, against the reference's full ones.

    Args:
      cells: seed -> what came of the cell.
      size: with the full runs.
      reference: the arm that has them.
      cost: of the choice of the arm that runs shorter.
    """
    final = _ended(cells)
    steps = int(next(iter(cells.values()))["record"]["curve"][-1][0])
    whole = size.arms[reference]
    spent = costs.run_flops(steps, size, cost).total
    return ShorterRun(
        steps,
        spent / whole.account.run.total,
        dataclasses.replace(final, against={reference: difference(final, whole.final)}),
    )


def sweep_section(by_fraction: Mapping[float, Cells], chosen: float) -> Sweep:
    """The sweep at one size: fraction -> seed -> what came of the cell; best by validation loss."""
    fractions = {
        f"{fraction:g}": SweepPoint(validation=_validation(found), test=_ended(found))
        for fraction, found in by_fraction.items()
    }
    return Sweep(fractions, best_fraction(by_fraction), float(chosen))


def best_fraction(by_fraction: Mapping[float, Cells]) -> float:
    """The fraction with the lowest mean loss on the validation part; of equal ones the smaller."""
    return float(min(sorted(by_fraction), key=lambda f: _validation(by_fraction[f]).mean))


def budget_warnings(sizes: Sequence[Size], reference: str, tolerance: float = 0.05) -> list[str]:
    """Arms whose tokens seen differ from the reference's by more than the tolerance."""
    found = []
    for size in sizes:
        seen = size.arms[reference].budget.tokens_seen
        for name, arm in size.arms.items():
            share = arm.budget.tokens_seen / seen - 1
            if abs(share) > tolerance:
                found.append(
                    f"{size.name}, {name}: {percent(abs(share), 1)}"
                    f" {'more' if share > 0 else 'fewer'} tokens seen than {reference}, because its"
                    " examples are longer or shorter; packing makes them equal"
                )
    return found
