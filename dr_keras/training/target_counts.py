"""How many targets of next-token prediction a set and the batches of a run hold."""

import numpy as np

from dr_keras.data.columns import by_rows
from dr_keras.data.examples import ExampleSet


def count_targets(examples: ExampleSet) -> np.ndarray:
    """Targets of next-token prediction in every example, int64 [N]; 1 each without tokens.

    Of conversations those in responses, as in `models.losses.token_counts`.
    """
    tokens = examples.features.get("tokens")
    if tokens is None:
        return np.ones(len(examples), np.int64)
    if (responses := examples.features.get("responses")) is not None:
        return np.count_nonzero((tokens[:] != 0) & responses[:], axis=1) - (
            (tokens[:, 0] != 0) & responses[:, 0]
        )
    return by_rows(lambda rows: np.count_nonzero(rows[:, 1:], axis=1), tokens)


def mean_over_targets(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums [N] by their numbers of targets, float64 [N]; NaN where there is none."""
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def total_targets(examples: ExampleSet) -> int:
    """The sum of `count_targets`, for which a prepared corpus need not be read."""
    tokens = examples.features.get("tokens")
    known = getattr(tokens, "known_nonzero", None)
    if known is not None:  # the first token of a window is no target, and no padding
        return known - len(examples)
    return int(count_targets(examples).sum())


def targets_of_batches(examples: ExampleSet, rows: np.ndarray) -> tuple[int, int]:
    """(`total_targets`, targets in all batches of a run, repetitions counted).

    Args:
      rows: of the batches, int [steps, B].
    """
    tokens = examples.features.get("tokens")
    if tokens is None or isinstance(tokens, np.ndarray):
        targets = count_targets(examples)
        return int(targets.sum()), int(targets[rows].sum())
    # counts of all rows of a column would be a table as long as the set
    seen = sum(np.count_nonzero(tokens[batch][:, 1:]) for batch in rows)
    return total_targets(examples), int(seen)
