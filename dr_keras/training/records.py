"""What a training run leaves behind, wherever it was made."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import NamedTuple

import numpy as np

from dr_keras.data.examples import ExampleSet
from dr_keras.training.target_counts import targets_of_batches


class Losses(NamedTuple):
    """Losses of a set: summed by example, float64 [N], and what they are summed over [N]."""

    sums: np.ndarray
    counts: np.ndarray

    @property
    def mean(self) -> float:
        """Per target; 0 where there is none."""
        return float(self.sums.sum() / max(self.counts.sum(), 1))


@dataclasses.dataclass(frozen=True)
class TrainingRecord:
    """What one training run leaves behind, all of it JSON.

    Attributes:
        seed: of initial weights and of the order of the batches.
        curve: [step, test loss] from step 0 (before training) to the last step.
        train_curve: [step, mean training loss since the previous entry].
        final_by_source: source -> test loss at the end.
        examples: size of the training set.
        unique_tokens: targets in the training set, each counted once.
        tokens_seen: targets trained on, repetitions counted.
        epochs: examples trained on per example there is.
        seconds: wall time of the run, evaluation included.
        metrics: name -> mean over the test examples at the end, of the trainer's `metrics`.
    """

    seed: int
    curve: list[list[float]]
    train_curve: list[list[float]]
    final_by_source: dict[str, float]
    examples: int
    unique_tokens: int
    tokens_seen: int
    epochs: float
    seconds: float
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        seed: int,
        examples: ExampleSet,
        rows: np.ndarray,
        curve: list[list[float]],
        train_curve: list[list[float]],
        sources: Sequence,
        final: Losses,
        seconds: float,
        metrics: Mapping[str, float] | None = None,
    ) -> "TrainingRecord":
        """The record of a run.

        Args:
          examples: the training set.
          rows: of its batches, int [steps, B].
          sources: of the test set.
          final: losses on it at the end.
        """
        unique_tokens, tokens_seen = targets_of_batches(examples, rows)
        return cls(
            seed=seed,
            curve=curve,
            train_curve=train_curve,
            final_by_source=_by_source(sources, final),
            examples=len(examples),
            unique_tokens=unique_tokens,
            tokens_seen=tokens_seen,
            epochs=rows.size / len(examples),
            seconds=seconds,
            metrics=dict(metrics or {}),
        )


def _by_source(sources: Sequence, losses: Losses) -> dict[str, float]:
    names = np.asarray(sources).astype(str)
    return {
        str(name): float(losses.sums[chosen].sum() / losses.counts[chosen].sum())
        for name in np.unique(names)
        for chosen in [names == name]
        if losses.counts[chosen].sum()
    }
