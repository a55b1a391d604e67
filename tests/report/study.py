"""Made-up studies with the shape of real ones, shared by the tests of results and reports."""

import dataclasses

import numpy as np

from dr_keras.studies import summaries, verdicts
from dr_keras.studies.costs import Cost
from dr_keras.studies.results import Compute, Quality, Rater, Results, read
from dr_keras.studies.sizes import LOSS, Protocol, Size, SizeFacts
from dr_keras.studies.summaries import ArmFacts
from dr_keras.training.metrics import rater_quality

KINDS = ("random_characters", "ocr_confusions", "shuffled_words", "boilerplate", "number_tables")
DESCRIPTIONS = {
    "unfiltered": "all training text",
    "random": "a random half",
    "rater": "the half with the highest scores",
}
SEEDS = (0, 1, 2)


def cell(curve, **changes) -> dict:
    """What came of a cell, with this curve."""
    record = {
        "curve": [list(point) for point in curve],
        "train_curve": [],
        "final_by_source": {"stdlib": curve[-1][1] - 0.1, "numpy": curve[-1][1] + 0.1},
        "examples": 6420,
        "unique_tokens": 812_000,
        "tokens_seen": 1_620_000,
        "epochs": 2.0,
        "seconds": 40.0,
        "metrics": {},
    }
    own = {"discard_fraction": 0.5}
    for key, value in changes.items():
        (record if key in record else own)[key] = value
    budget = {
        "pool_examples": record["examples"],
        "pool_tokens": record["unique_tokens"],
        "tokens_seen": record["tokens_seen"],
        "epochs": record["epochs"],
    }
    return {"record": record, "budget": budget, **own}


def curves(final: dict[str, float], seeds=SEEDS, steps: int = 400) -> dict:
    """Falling curves that end close to the given losses: arm -> seed -> curve."""
    rng = np.random.default_rng(0)
    points = np.arange(0, steps + 1, steps // 20)
    return {
        arm: {
            seed: [
                [int(s), float(end + (5.55 - end) * np.exp(-s / 55) + rng.normal(0, 0.004))]
                for s in points
            ]
            for seed in seeds
        }
        for arm, end in final.items()
    }


def scored(count: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, levels and kinds of examples, half of them damaged."""
    rng = np.random.default_rng(1)
    levels = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0.05, 0.95, count))
    kinds = np.where(levels > 0, rng.choice(KINDS, count), "clean").astype(object)
    return rng.normal(0.6, 0.5, count) - 3.0 * levels, levels, kinds


def protocol(**changes) -> Protocol:
    """Of three arms, the rater's in question."""
    given = {"reference": "unfiltered", "candidate": "rater", "baselines": ["random"]}
    return Protocol(**(given | {"seeds": list(SEEDS)} | changes))


def facts(**changes) -> SizeFacts:
    """Of a small model."""
    given = dict(name="byte model", parameters=124_800, steps=400, batch_size=32)
    return SizeFacts(**(given | {"sequence_length": 128} | changes))


def size(
    by_arm: dict[str, dict], given: Protocol | None = None, too_small=None, cost=None, **changes
) -> Size:
    """A size from arm -> seed -> curve, or arm -> seed -> what came of the cell."""
    cells = {
        arm: {s: c if isinstance(c, dict) else cell(c) for s, c in found.items()}
        for arm, found in by_arm.items()
    }
    arms = {arm: ArmFacts(DESCRIPTIONS.get(arm, "another"), (cost or {}).get(arm)) for arm in cells}
    return summaries.size_section(facts(**changes), cells, arms, given or protocol(), too_small)


def results(final: dict[str, float] | None = None, **changes) -> Results:
    """Results of the quick start's form."""
    final = final or {"unfiltered": 2.31, "random": 2.33, "rater": 2.19}
    made = size(curves(final))
    scores, levels, kinds = scored()
    part = {"documents": 9000, "examples": 6420, "unique_tokens": 812_000}
    quality = read(Quality, rater_quality(scores, levels, kinds, measured_on="training texts"))
    arguments = dict(
        study="quickstart",
        title="dr_keras quick start: the prose of this Python installation",
        answer=verdicts.answer([made], protocol()),
        corpus={
            "name": "embedded",
            "fingerprint": "5f3c9a17b2e44d0c" * 4,
            "parts": {
                "train": {
                    **part,
                    "by_source": {"stdlib": 2100, "numpy": 2300, "keras": 2020},
                    "by_damage": {"clean": 3210, **dict.fromkeys(KINDS, 642)},
                },
                **{
                    name: {"documents": 520, "examples": 377, "unique_tokens": 47_900}
                    for name in ("outer", "validation", "test")
                },
            },
        },
        rater=Rater(124_000, "f" * 64, quality, meta_step=60, chosen="lowest loss"),
        protocol=protocol(),
        sizes=[made],
        stages={
            "meta_train": {"seconds": 92.4, "peak_memory_bytes": 1_900_000_000},
            "compare": {"seconds": 131.0, "peak_memory_bytes": 1_400_000_000},
        },
        settings={"discard_fraction": 0.5},
    )
    return Results.assemble(**(arguments | changes))


def evidence(**changes) -> Results:
    """Results of two sizes, costs counted."""
    cost = {
        "unfiltered": Cost(0, lambda steps: 32 * steps, 0.0),
        "random": Cost(0, lambda steps: 64 * steps, 0.0),
        "rater": Cost(50_000, lambda steps: 64 * steps, 1e12),
    }
    finals = {
        "30k": {"unfiltered": 2.31, "random": 2.33, "rater": 2.19, "heuristics_c4": 2.30},
        "100k": {"unfiltered": 2.11, "random": 2.13, "rater": 2.02},
    }
    cost["heuristics_c4"] = cost["random"]
    extra = dict(
        validation_loss=2.5,
        corpora={"letters": 3.0},
        tasks={"toy": {"accuracy": 0.6, "right_likelihood": -1.2}},
    )
    made = []
    for name, final in finals.items():
        cells = {
            arm: {seed: cell(curve, **extra) for seed, curve in found.items()}
            for arm, found in curves(final, range(5) if name == "30k" else SEEDS).items()
        }
        size_facts = dict(name=name, forward_flops=1_000_000, tokens_a_run=400 * 32 * 128)
        whole = size(cells, cost=cost, bytes_per_token=1.0, **size_facts)
        short = {seed: cell([(0, 5.0), (200, 2.2)], **extra) for seed in SEEDS}
        runs = {
            arm: summaries.shorter_run(short, whole, "unfiltered", cost[arm])
            for arm in ("unfiltered", "rater")
        }
        made.append(dataclasses.replace(whole, shorter_runs={"0.5": runs}))
    swept = {f: {0: cell([(0, 5.0), (9, 2.0)], validation_loss=2 + f)} for f in (0.25, 0.5)}
    given = dict(
        study="evidence",
        sizes=made,
        answer=verdicts.answer(made, protocol()),
        protocol=protocol(discard_fraction=0.5, chosen_by="the user", warnings=["30k: more"]),
        sweep={"30k": summaries.sweep_section(swept, 0.5)},
        compute=Compute("products", 50_000, 6420, 321_000_000, {"total": 1e12}),
        tasks={"toy": {"questions": 6, "available": 8, "chance": 0.5}},
    )
    return results(**(given | changes))


def retraining(**changes) -> Results:
    """Results of a study judged by accuracy."""
    accuracy = {"unfiltered": 0.8, "rater 50%": 0.9, "random 50%": 0.7}
    cells = {
        arm: {
            seed: cell([(0, 5.0), (400, 3 - mean)], metrics={"accuracy": mean + seed / 100})
            for seed in SEEDS
        }
        for arm, mean in accuracy.items()
    }
    given = protocol(
        candidate="rater 50%", baselines=["random 50%"], metric="accuracy", higher_is_better=True
    )
    made = size(cells, given)
    more = dict(
        study="retraining", sizes=[made], protocol=given, answer=verdicts.answer([made], given)
    )
    assert given.metric != LOSS
    return results(**(more | changes))
