"""A student beside its teacher: whether they choose the same, what both cost, what it has learned.

<output_dir>/distillation.json   what `compared` returns
"""

import json
import os
import pathlib

import numpy as np

from dr_keras.baselines.candidates import joined_candidates
from dr_keras.baselines.exported_raters import text_raters
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError
from dr_keras.meta.scoring import Scorer
from dr_keras.runs.distillation import Distilled
from dr_keras.runs.telling_ngrams import telling_ngrams
from dr_keras.serving.loaded_text import LoadedTextRater
from dr_keras.studies.agreement import agreement
from dr_keras.studies.scoring_speed import megabytes_a_second
from dr_keras.system import whole_files
from dr_keras.training.flops import scoring_flops
import gin

FIGURES = "distillation.json"


@gin.configurable("compare_distilled", allowlist=["timed_bytes", "ngrams"])
def compared(
    made: Distilled, output_dir: str | os.PathLike, timed_bytes: int = 200_000, ngrams: int = 20
) -> dict:
    """Holds a student against its teacher on what neither has learned from, and writes that down.

    Args:
      made: by `runs.distillation.distill`.
      output_dir: of that.
      timed_bytes: about so much of the held-out text is scored to measure speed; 0 measures none.
      ngrams: the most telling n-grams of each sign, of a student of n-grams.

    Returns:
      "fit" (of fit.json), "agreement" (`studies.agreement`), "raters": "student" and each teacher
      with "path", "parameters", "flops" (of a window; None with a "reason" where they cannot be
      counted) and "speed" (`scoring_speed`, MB a CPU second), and "ngrams" (`telling_ngrams`).
    """
    held = made.held
    damage = held.labels.get("damage")
    scores = Scorer(made.rater)(held)
    texts = _texts(held, timed_bytes) if timed_bytes else []
    found = {
        "fit": made.fit,
        "agreement": agreement(
            scores, made.taught, held.sources, None if damage is None else np.asarray(damage)
        ),
        "raters": {"student": _costs(*text_raters([made.path]), held, texts)},
        "ngrams": telling_ngrams(made.rater, held, ngrams),
    }
    for number, path in enumerate(made.teachers):
        name = "teacher" if len(made.teachers) == 1 else f"teacher {number + 1}"
        found["raters"][name] = _costs(*text_raters([path]), held, texts)
    place = pathlib.Path(output_dir) / FIGURES
    whole_files.write_text(place, json.dumps(found, indent=1) + "\n")
    return found


def _texts(held: ExampleSet, size: int) -> list[str]:
    """Whole documents of the held-out windows, about `size` bytes of them."""
    candidates = joined_candidates(held)
    texts, total = [], 0
    for row in range(len(candidates)):
        if total >= size and texts:
            break
        texts.append(candidates.text(row))
        total += len(texts[-1].encode("utf-8", "replace"))
    return texts


def _costs(rater: LoadedTextRater, held: ExampleSet, texts: list[str]) -> dict:
    window = {"tokens": ((int(held.features["tokens"].shape[1]),), np.int32)}
    found: dict = {"path": rater.path, "parameters": rater.metadata["parameters"]}
    try:
        found["flops"] = scoring_flops(rater, window)
    except ConfigurationError as error:
        found |= {"flops": None, "reason": str(error)}
    if texts:
        found["speed"] = megabytes_a_second(rater, texts)
    return found
