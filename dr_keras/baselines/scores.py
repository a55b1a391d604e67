"""Scores by which arms choose, and what they cost: the one form of all that rates candidates.

A *scorer* is a function `(candidates, outer, seed=) -> Scores`, a file of its own in this package
or in a module of yours. It is at once an arm (`arms.Baselines.more_scorers`), which keeps what it
scores highest, and a teacher that a rater can be fitted to (`runs.fitting`). What it needs to train
models is its own gin bindings; `outer` are candidates of the outer part, None where there are none.
"""

from collections.abc import Callable, Mapping
import dataclasses
import hashlib
import json
import pathlib
from typing import Protocol
import zipfile

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.system import whole_files

_WEIGHT = "weight/"  # of a name in a file of scores


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """What a scorer says of every candidate.

    Attributes:
      values: float64 [N]; NaN where it has nothing to say. A teacher's are higher for what is
        better.
      training_flops: operations of making what scores, such as training reference models.
      forward_flops: operations of scoring one example (a window).
      facts: what else is known, JSON-able.
      tokens: float [rows of the candidates' examples, S], what single tokens add: their mean over
        an example is its value. NaN where nothing is said of a token; None of a scorer that knows
        no more than the whole. A rater learns more from these (`runs.fitting`).
      weights: name -> values, of the model that scores; None where it has none to give.
    """

    values: np.ndarray
    training_flops: float = 0.0
    forward_flops: float = 0.0
    facts: Mapping = dataclasses.field(default_factory=dict)
    tokens: np.ndarray | None = None
    weights: Mapping[str, np.ndarray] | None = None


class Scorer(Protocol):
    """What is called to score candidates."""

    def __call__(
        self, candidates: Candidates, outer: Candidates | None, *, seed: int = 0
    ) -> Scores:
        """Scores every candidate; `seed` decides folds, initial weights and batches."""


def require_outer(outer: Candidates | None, scorer: str) -> Candidates:
    """The outer candidates, or ConfigurationError where a scorer that needs them has none."""
    if outer is None:
        raise ConfigurationError(
            f"'{scorer}' scores by what the outer part looks like: give outer."
        )
    return outer


def require_windows(candidates: Candidates, scorer: str) -> None:
    """Raises DataError where a scorer that reads tokens has candidates without any."""
    if candidates.examples is None:
        raise DataError(
            f"'{scorer}' reads windows of tokens, and these candidates are whole documents without"
            " them: choose among window_candidates or joined_candidates."
        )


def cached(folder, name: str, key: tuple[str, ...], work: Callable[[], Scores]) -> Scores:
    """`work()`, or what an earlier call with this key stored in the folder (None stores nothing).

    A file that cannot be read is written anew.
    """
    if folder is None:
        return work()
    digest = hashlib.sha256("\n".join(key).encode("utf-8", "replace")).hexdigest()[:16]
    path = pathlib.Path(folder) / f"{name}-{digest}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            known = json.loads(str(stored["known"]))
            weights = {name.removeprefix(_WEIGHT): stored[name] for name in stored.files
                       if name.startswith(_WEIGHT)}  # fmt: skip
            tokens = stored["tokens"] if "tokens" in stored.files else None
            return Scores(stored["values"], **known, tokens=tokens, weights=weights or None)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        scores = work()
    known = {
        field.name: getattr(scores, field.name)
        for field in dataclasses.fields(Scores)
        if field.name not in ("values", "tokens", "weights")
    }
    arrays = {_WEIGHT + name: value for name, value in (scores.weights or {}).items()}
    if scores.tokens is not None:
        arrays["tokens"] = scores.tokens
    arrays |= {"values": scores.values, "known": json.dumps(known)}
    whole_files.write_arrays(path, arrays)
    return scores
