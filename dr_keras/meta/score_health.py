"""What the scores of meta-training's own batches say of a rater: length, spread, sources.

A rater learns from anything that lowers the outer loss, the number of tokens in a padded window
included, and one that has learned nothing gives all examples the same score. Both show in the
scores that weighed the inner batches, at no cost. Weights are a softmax over a batch, which the
scores' common level does not change and which therefore wanders: scores are taken relative to the
mean of their batch here, so that batches of different meta-steps can be put together.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet

# Above this rank correlation, length explains about half of the order of the scores.
LENGTH_DOMINATES = 0.7
# Above this share of their variance as well, though most windows be full and ranks say little.
LENGTH_EXPLAINS = 0.5
# Below this standard deviation, weights of a softmax at temperature 1 differ by a twentieth.
NO_SPREAD = 0.05

_ROWS = 1024  # whose tokens are counted at once

LENGTH, SPREAD, OF_SOURCE = "score_length_correlation", "score_spread", "score_mean"
LENGTH_SHARE = "score_length_share"


def lengths(
    examples: ExampleSet, rows: np.ndarray, counts: Callable | None = None
) -> np.ndarray | None:
    """Tokens that some examples stand for, float64 [N]; None where there is nothing to count.

    Args:
      examples: a set.
      rows: [N], numbers of examples in it.
      counts: a loss's own, batch -> [N] or [N, S]; None counts what is not 0 in the set's `tokens`.
    """
    if counts is None:
        tokens = examples.features.get("tokens")
        return None if tokens is None else np.count_nonzero(tokens[rows], axis=1).astype(float)
    found = []
    for some in np.split(rows, range(_ROWS, len(rows), _ROWS)):
        values = counts({name: tf.constant(v[some]) for name, v in examples.features.items()})
        found.append(np.asarray(values, np.float64).reshape(len(some), -1).sum(axis=1))
    return np.concatenate(found)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of [N] values from 0, ties by their average; NumPy's alone, without SciPy."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[place]


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Spearman's correlation of two [N]; None where one of them is constant."""
    x, y = (r - r.mean() for r in (ranks(x), ranks(y)))
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else None


def explained_by_length(scores: np.ndarray, lengths: np.ndarray) -> float | None:
    """Share of the variance of scores [N] that a line in length and its logarithm explains.

    Unlike a rank correlation it says what few short examples do among many of one length. None
    where lengths or scores do not differ.
    """
    x = np.asarray(scores, np.float64) - np.mean(scores)
    by = np.stack([lengths, np.log(np.maximum(lengths, 1))], axis=1)
    by = by - by.mean(axis=0)
    if np.ptp(lengths) == 0 or np.ptp(scores) == 0:
        return None
    rest = x - by @ np.linalg.lstsq(by, x, rcond=None)[0]
    return float(1 - (rest @ rest) / (x @ x))


def figures(
    scores: np.ndarray,
    lengths: np.ndarray | None = None,
    sources: np.ndarray | None = None,
    shown: Sequence[str] = (),
) -> dict[str, float]:
    """What is logged of the scores of some batches; figures that are not defined are left out.

    Args:
      scores: [K, B], of K batches; a batch with a score that is not finite does not count.
      lengths: [K, B], see `lengths`.
      sources: [K, B] of strings.
      shown: sources that get figures of their own.

    Returns:
      "score_length_correlation": Spearman's, of score (relative to its batch) and length;
      "score_length_share": see `explained_by_length`.
      "score_spread": standard deviation within batches. With several sources it is made of
      "score_spread_between_sources", that of the sources' means, each as often as it was drawn, and
      "score_spread_within_sources": their squares add up to its own. "score_mean/<source>":
      relative to the mean of all; "score_spread/<source>": within batches.
    """
    whole = np.isfinite(scores).all(axis=1)
    scores = np.asarray(scores, np.float64)[whole]
    batches, size = scores.shape
    if not batches or size < 2:
        return {}
    x = (scores - scores.mean(axis=1, keepdims=True)).ravel()
    # Each score is a part of the mean that is taken off it, and lies closer to it than to the
    # mean of all that could have been drawn.
    unbiased = size / (size - 1)
    variance = unbiased * float(np.mean(np.square(x)))
    found = {SPREAD: float(np.sqrt(variance))}
    if lengths is not None:
        correlation = rank_correlation(x, lengths[whole].ravel())
        if correlation is not None:
            found[LENGTH] = correlation
        share = explained_by_length(x, lengths[whole].ravel())
        if share is not None:
            found[LENGTH_SHARE] = share
    if sources is None:
        return found
    names, place = np.unique(sources[whole].ravel(), return_inverse=True)
    if len(names) < 2:
        return found
    drawn = np.bincount(place)
    mean = unbiased * np.bincount(place, x) / drawn
    between = min(float(drawn @ np.square(mean)) / x.size, variance)
    found[f"{SPREAD}_between_sources"] = float(np.sqrt(between))
    found[f"{SPREAD}_within_sources"] = float(np.sqrt(variance - between))
    # A source's own spread is taken within batches, around its mean in each.
    group = place + len(names) * (np.arange(x.size) // size)
    together = np.maximum(np.bincount(group), 1)
    rest = np.bincount(place, np.square(x - (np.bincount(group, x) / together)[group]))
    free = drawn - np.bincount(np.unique(group) % len(names))
    for k, name in enumerate(names):
        if name in shown:
            found[f"{OF_SOURCE}/{name}"] = float(mean[k])
            if free[k]:
                found[f"{SPREAD}/{name}"] = float(np.sqrt(rest[k] / free[k]))
    return found


def warnings(logs: dict) -> list[str]:
    """Sentences for people about an epoch's figures, [] where nothing is wrong."""
    said = []
    length, share, spread = logs.get(LENGTH), logs.get(LENGTH_SHARE) or 0.0, logs.get(SPREAD)
    if length is not None and (abs(length) > LENGTH_DOMINATES or share > LENGTH_EXPLAINS):
        more = "long" if length > 0 else "short"
        said.append(
            f"scores follow length (rank correlation {length:.2f}, {100 * share:.0f}% of their"
            f" variance): the rater prefers {more} examples and may know little else. Count tokens"
            " at both levels (example_softmax.count_tokens = True, mean_loss.count_tokens = True)."
            " Where they are counted, leave short windows out of training"
            " (text_data.minimum_tokens = 32) or pack them (text_data.packing = True)."
        )
    if spread is not None and spread < NO_SPREAD:
        said.append(
            f"scores hardly differ (standard deviation {spread:.2g} within a batch): all examples"
            " weigh the same and the rater says next to nothing. Give it more meta-steps, more"
            " members, larger batches or a higher OuterAdam.learning_rate."
        )
    return said
