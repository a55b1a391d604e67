"""`results.json` of the evidence protocol, in a versioned form of its own.

    {"schema_version": 1, "study": "evidence", "title", "created",
     "answer":   {"outcome", "text", "figures", "recommendation"},
     "corpus":   as in `results`,
     "rater":    {"source", "parameters", "fingerprint", "meta_step"?, "chosen"?, "quality"},
     "protocol": {"candidate", "reference", "baselines", "seeds", "core_arms", "more_arms",
                  "online_arms", "discard_fraction", "chosen_by", "same_as_unfiltered", "warnings"},
     "sweep":    {size: {"fractions": {fraction: {"validation", "test"}}, "best", "chosen"}},
     "sizes":    [rising: {"name", "parameters", "steps", "batch_size", "sequence_length",
                  "tokens_a_run", "forward_flops", "discard_fraction", "arms", "verdict",
                  "shorter_runs"?: {share of the steps: `shorter_run`}}],
     "compute":  {"counted", "rater_forward_flops", "meta_training", "score_corpus", "perplexity"},
     "tasks":    {task: {"questions", "available", "chance"}},
     "analysis"?: what the rater learned, "stages", "settings", "versions"}

An arm of a size holds what `comparison.compare` gives, and "budget", "metrics", "by_source" and
"account" (`compute.arm_account`). A figure that is not defined is null, with a "reason".
"""

from collections.abc import Mapping, Sequence
import datetime
import os

import numpy as np

from dr_keras.errors import DataError
from dr_keras.studies import results, verdict
from dr_keras.studies.comparison import compare, difference
from dr_keras.studies.compute import arm_account, recommendation, run_flops
from dr_keras.studies.forms import COUNT, FIGURE, FREE, NUMBER, POINTS, TEXT, Each, Listed, check
from dr_keras.studies.verdict import percent

SCHEMA_VERSION = 1

_AGAINST = Each({"difference": NUMBER, "margin": FIGURE, "outcome": TEXT, "reason?": TEXT})
_SUMMARY = {
    "mean": NUMBER,
    "spread": FIGURE,
    "by_seed": Each(NUMBER),
    "reason?": TEXT,
    "higher_is_better?": FREE,
    "against?": _AGAINST,
}
_RUN = {"training": NUMBER, "scoring": NUMBER, "total": NUMBER}
_ARM = {
    "description": TEXT,
    "seconds": NUMBER,
    "budget": {
        "pool_examples": NUMBER,
        "pool_tokens": NUMBER,
        "tokens_seen": NUMBER,
        "unique_tokens": NUMBER,
        "epochs": NUMBER,
        "passes": NUMBER,
    },
    "discard_fraction": NUMBER,
    "curves": Each(POINTS),
    "mean": POINTS,
    "spread": POINTS,
    "final": {**_SUMMARY, "step": COUNT},
    "match": FREE,
    "against": _AGAINST,
    "metrics": Each(_SUMMARY),
    "by_source": Each(_SUMMARY),
    "account": {
        "run": _RUN,
        "steps_share": FIGURE,
        "flops_share": FIGURE,
        "spread": FIGURE,
        "flops_share_by_seed": Each(FREE),
        "saving": FIGURE,
        "saving_shared": FIGURE,
        "runs_to_pay": FIGURE,
        "reason?": TEXT,
    },
}
_POINT = {"validation": _SUMMARY, "test": _SUMMARY}
_SCHEMA = {
    "schema_version": COUNT,
    "study": TEXT,
    "title": TEXT,
    "created": TEXT,
    "answer": {"outcome": TEXT, "text": TEXT, "figures": TEXT, "recommendation": TEXT},
    "corpus": FREE,
    "rater": FREE,
    "protocol": FREE,
    "sweep": Each({"fractions": Each(_POINT), "best": NUMBER, "chosen": NUMBER}),
    "sizes": Listed(
        {
            "name": TEXT,
            "parameters": COUNT,
            "steps": COUNT,
            "batch_size": COUNT,
            "sequence_length": COUNT,
            "tokens_a_run": COUNT,
            "forward_flops": COUNT,
            "discard_fraction": NUMBER,
            "arms": Each(_ARM),
            "verdict": {"outcome": TEXT, "text": TEXT, "figures?": TEXT},
            "shorter_runs?": Each(
                {"steps": COUNT, "flops_share": NUMBER, "final": _SUMMARY, "against": _AGAINST}
            ),
        }
    ),
    "compute": FREE,
    "tasks": Each({"questions": COUNT, "available": COUNT, "chance": NUMBER}),
    "analysis?": FREE,
    "stages": FREE,
    "settings": FREE,
    "versions": FREE,
}


def validate(found: Mapping) -> None:
    """Raises DataError, naming the place, unless `found` has the form described above."""
    if not isinstance(found, Mapping) or found.get("study") != "evidence":
        raise DataError("results: this is no results.json of dr-keras evaluate")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"results: schema_version is {found.get('schema_version')!r}, this dr_keras reads"
            f" {SCHEMA_VERSION}: use the version of dr_keras that wrote them"
        )
    check(found, _SCHEMA, "results")
    if not found["sizes"]:
        raise DataError("results: sizes is empty")


def write(found: Mapping, path: str | os.PathLike) -> None:
    """As `results.write_results`."""
    results.write_results(found, path, validate)


def read(path: str | os.PathLike) -> dict:
    """As `results.read_results`."""
    return results.read_results(path, validate)


def summary(by_seed: Mapping[int, float], higher_is_better: bool | None = None) -> dict:
    """Mean and spread (sample standard deviation) of one figure over seeds."""
    values = np.array(list(by_seed.values()), np.float64)
    found = {
        "mean": float(values.mean()),
        "spread": float(values.std(ddof=1)) if len(values) > 1 else None,
        "by_seed": {str(seed): float(value) for seed, value in by_seed.items()},
    }
    if len(values) < 2:
        found["reason"] = "one seed has no spread"
    if higher_is_better is not None:
        found["higher_is_better"] = higher_is_better
    return found


def add_outcomes(summaries: Mapping[str, dict], rivals: Sequence[str]) -> None:
    """Adds to the summaries of one metric, arm by arm, how each compares with the rivals.

    "better" and "worse" only where the means differ by more than the sum of both spreads.
    """
    for arm, found in summaries.items():
        sign = -1 if found.get("higher_is_better") else 1

        def final(name: str, sign=sign) -> dict:
            figures = summaries[name]
            return {"final": {"mean": sign * figures["mean"], "spread": figures["spread"]}}

        found["against"] = {}
        for rival in rivals:
            if rival != arm and rival in summaries:
                compared = difference(final(arm), final(rival))
                compared["difference"] *= sign
                found["against"][rival] = compared


def metrics_of(cell: Mapping) -> dict[str, tuple[float, bool]]:
    """Metric -> (figure, whether higher is better) of one cell."""
    found = {"validation loss": (cell["validation_loss"], False)}
    found |= {f"loss on {name}": (loss, False) for name, loss in cell["corpora"].items()}
    for task, figures in cell["tasks"].items():
        found[f"{task} accuracy"] = (figures["accuracy"], True)
        found[f"{task} likelihood"] = (figures["right_likelihood"], True)
    return found


def size_section(
    size: Mapping,
    cells: Mapping[str, Mapping[int, Mapping]],
    descriptions: Mapping[str, str],
    reference: str,
    candidate: str,
    baselines: Sequence[str],
    cost: Mapping[str, Mapping],
    too_small: str | None,
) -> dict:
    """One size of the results.

    Args:
      size: name, parameters, steps, batch_size, sequence_length, tokens_a_run, forward_flops,
        discard_fraction.
      cells: arm -> seed -> what came of the cell.
      descriptions: arm -> a few words.
      reference, candidate, baselines: names of arms.
      cost: arm -> {"scoring" (F of what scores), "scored" (steps -> examples), "meta_training"}.
      too_small: see `verdict.too_small_for_verdict`.
    """
    curves = {
        arm: {s: c["record"]["curve"] for s, c in found.items()} for arm, found in cells.items()
    }
    arms = compare(curves, reference=reference)
    rivals = [reference, *baselines]
    for arm, found in cells.items():
        first = next(iter(found.values()))
        arms[arm] |= {
            "description": descriptions[arm],
            "seconds": float(np.mean([c["record"]["seconds"] for c in found.values()])),
            "budget": {
                name: float(np.mean([c["budget"][name] for c in found.values()]))
                for name in first["budget"]
            },
            "discard_fraction": first["discard_fraction"],
            "metrics": {
                name: summary({s: metrics_of(c)[name][0] for s, c in found.items()}, higher)
                for name, (_, higher) in metrics_of(first).items()
            },
            "by_source": {
                source: summary(
                    {s: c["record"]["final_by_source"][source] for s, c in found.items()}
                )
                for source in first["record"]["final_by_source"]
            },
        }
        arms[arm]["account"] = arm_account(
            arms[arm],
            arms[reference],
            size["forward_flops"],
            size["batch_size"],
            cost[arm]["scoring"],
            cost[arm]["scored"],
            cost[arm]["meta_training"],
        )
    for group in ("metrics", "by_source"):
        for name in arms[reference][group]:
            add_outcomes({arm: found[group][name] for arm, found in arms.items()}, rivals)
    judged = verdict.judge(arms, candidate, reference, baselines, too_small)
    return {**size, "arms": arms, "verdict": judged}


def shorter_run(
    cells: Mapping[int, Mapping], section: Mapping, reference: str, cost: Mapping
) -> dict:
    """The candidate's runs of fewer steps, against the reference's full ones.

    Args:
      cells: seed -> what came of the cell.
      section: `size_section`.
      cost: of the candidate, as for `size_section`.

    Returns:
      "steps", "final" loss, "flops_share" of the reference's run with scoring, and "against" the
      reference, as of `comparison.difference`.
    """
    final = summary({s: c["record"]["curve"][-1][1] for s, c in cells.items()})
    steps = int(next(iter(cells.values()))["record"]["curve"][-1][0])
    whole = section["arms"][reference]
    spent = run_flops(
        steps, section["forward_flops"], section["batch_size"], cost["scoring"], cost["scored"]
    )
    return {
        "steps": steps,
        "flops_share": spent["total"] / whole["account"]["run"]["total"],
        "final": final,
        "against": {reference: difference({"final": final}, whole)},
    }


def sweep_section(by_fraction: Mapping[float, Mapping[int, Mapping]], chosen: float) -> dict:
    """The sweep at one size: fraction -> seed -> what came of the cell; best by validation loss."""
    fractions = {
        f"{fraction:g}": {
            "validation": summary({s: c["validation_loss"] for s, c in found.items()}),
            "test": summary({s: c["record"]["curve"][-1][1] for s, c in found.items()}),
        }
        for fraction, found in by_fraction.items()
    }
    return {"fractions": fractions, "best": best_fraction(by_fraction), "chosen": float(chosen)}


def best_fraction(by_fraction: Mapping[float, Mapping[int, Mapping]]) -> float:
    """The fraction with the lowest mean loss on the validation part; of equal ones the smaller."""
    losses = {
        fraction: float(np.mean([cell["validation_loss"] for cell in found.values()]))
        for fraction, found in sorted(by_fraction.items())
    }
    return float(min(losses, key=losses.get))


def answer(sizes: Sequence[Mapping], reference: str, candidate: str, baselines: Sequence[str]):
    """The `answer` section: one sentence on all sizes, figures of the largest, recommendation."""
    rivals = " and ".join([reference, *baselines])
    outcomes = [size["verdict"]["outcome"] for size in sizes]
    largest = sizes[-1]
    account = largest["arms"][candidate]["account"]
    if account["flops_share"] is None:
        reach = f"at {largest['name']} it never reached the {reference} model's final loss"
    else:
        spread = account["spread"]
        shown = "" if spread is None else f" ± {100 * spread:.0f}"
        reach = (
            f"at {largest['name']} it reached the {reference} model's final loss with"
            f" {100 * account['flops_share']:.0f}{shown}% of its FLOPs, scoring included"
        )
    reach += _reached_sooner(largest, reference)
    if "too_small" in outcomes:
        outcome = "too_small"
        judged = next(s["verdict"] for s in sizes if s["verdict"]["outcome"] == outcome)
        text = judged["text"]
    elif all(found == "better" for found in outcomes):
        outcome = "better"
        text = (
            f"Yes: trained on what the {candidate} kept, models beat {rivals} beyond the spread"
            f" over seeds at {_all(len(sizes))}; {reach}."
        )
    elif any(found == "worse" for found in outcomes):
        outcome = "worse"
        lost = [s["name"] for s in sizes if s["verdict"]["outcome"] == "worse"]
        text = (
            f"No: at {' and '.join(lost)}, models trained on what the {candidate} kept ended worse"
            f" than {rivals} or one of them; {reach}."
        )
    else:
        outcome = "undecided"
        better = [s["name"] for s in sizes if s["verdict"]["outcome"] == "better"]
        where = (
            f"the {candidate} arm is better at {' and '.join(better)} only"
            if better
            else (
                f"nowhere is the {candidate} arm better than {rivals} beyond the spread over seeds"
            )
        )
        text = f"No clear answer: {where}; {reach}."
    found = {
        size["name"]: {
            "account": size["arms"][candidate]["account"],
            "outcomes": {
                rival: size["arms"][candidate]["against"][rival]["outcome"]
                for rival in [reference, *baselines]
                if rival in size["arms"]
            },
        }
        for size in sizes
    }
    advice = recommendation(found, candidate, reference)
    if outcome == "too_small":
        advice = "None: the corpus is too small for a verdict."
    figures = f"{largest['name']}: {largest['verdict']['figures']}"
    return {"outcome": outcome, "text": text, "figures": figures, "recommendation": advice}


def _reached_sooner(size: Mapping, reference: str) -> str:
    """In words: the cheapest of the shorter runs that is no worse than the full reference."""
    for run in size.get("shorter_runs", {}).values():
        if run["final"]["mean"] <= size["arms"][reference]["final"]["mean"]:
            sure = "" if run["against"][reference]["outcome"] == "better" else ", within the spread"
            return f", and with {percent(run['flops_share'])} where planned to end there{sure}"
    return ""


def _all(count: int) -> str:
    return "the one size" if count == 1 else f"all {count} sizes"


def budget_warnings(sizes: Sequence[Mapping], reference: str, tolerance: float = 0.05) -> list[str]:
    """Arms whose tokens seen differ from the reference's by more than the tolerance."""
    found = []
    for size in sizes:
        seen = size["arms"][reference]["budget"]["tokens_seen"]
        for name, arm in size["arms"].items():
            share = arm["budget"]["tokens_seen"] / seen - 1
            if abs(share) > tolerance:
                found.append(
                    f"{size['name']}, {name}: {percent(abs(share), 1)}"
                    f" {'more' if share > 0 else 'fewer'} tokens seen than {reference}, because its"
                    " examples are longer or shorter; packing makes them equal"
                )
    return found


def assemble(**sections) -> dict:
    """Puts the sections together, adds version, date and versions, and validates."""
    found = {
        "schema_version": SCHEMA_VERSION,
        "study": "evidence",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **sections,
        "versions": results.versions(),
    }
    validate(found)
    return found
