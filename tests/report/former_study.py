"""A small made-up study with the shape of a real one, shared by the tests of the report."""

import numpy as np

from dr_keras.studies.comparison import compare
from dr_keras.studies.former_results import assemble
from dr_keras.studies.verdict import judge
from dr_keras.training.metrics import rater_quality

KINDS = ("random_characters", "ocr_confusions", "shuffled_words", "boilerplate", "number_tables")


def curves(final: dict[str, float], seeds=(0, 1, 2), steps: int = 400) -> dict:
    """Falling curves that end close to the given losses."""
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


def results(final: dict[str, float] | None = None, **changes) -> dict:
    """Results of the quick start's form."""
    final = final or {"unfiltered": 2.31, "random": 2.33, "rater": 2.19}
    facts = {
        "unfiltered": {"description": "all training text", "unique_tokens": 812_000},
        "random": {"description": "a random half", "unique_tokens": 405_100},
        "rater": {"description": "the half with the highest scores", "unique_tokens": 409_900},
    }
    for name, fact in facts.items():
        fact.update(
            tokens_seen=1_620_000 + len(name),
            epochs=2.0,
            discard_fraction=0.0 if name == "unfiltered" else 0.5,
        )
    arms = compare(curves(final), facts)
    scores, levels, kinds = scored()
    part = {"documents": 9000, "examples": 6420, "unique_tokens": 812_000}
    arguments = dict(
        study="quickstart",
        title="dr_keras quick start: the prose of this Python installation",
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
        rater=rater_quality(scores, levels, kinds, measured_on="training texts"),
        comparisons=[
            {
                "name": "byte model",
                "model": {"parameters": 124_800},
                "steps": 400,
                "batch_size": 32,
                "sequence_length": 128,
                "reference": "unfiltered",
                "candidate": "rater",
                "seeds": [0, 1, 2],
                "arms": arms,
                "verdict": judge(arms),
            }
        ],
        stages={
            "meta_train": {"seconds": 92.4, "peak_memory_bytes": 1_900_000_000},
            "compare": {"seconds": 131.0, "peak_memory_bytes": 1_400_000_000},
        },
        settings={"discard_fraction": 0.5},
    )
    return assemble(**(arguments | changes))


def panels() -> dict:
    """Curves as meta-training leaves them."""
    rng = np.random.default_rng(2)
    steps = range(1, 201)
    loss = {
        f"member {m}": [(s, 2.4 + 2 * np.exp(-s / 50) + rng.normal(0, 0.03)) for s in steps]
        for m in (0, 1)
    }
    return {
        "outer loss": loss,
        "meta-evaluation": {"validation loss": [(s, 3 - s / 300) for s in range(0, 201, 50)]},
        "effective sample size": {"mean": [(s, 32 - s / 20) for s in steps]},
    }
