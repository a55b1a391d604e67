"""The discard fraction that a rater has learned: what its weights leave of a batch."""

from collections.abc import Callable
import inspect

import numpy as np
import tensorflow as tf

from dr_keras.errors import DataError
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.meta.weighting import example_softmax, share_kept
import gin

LEARNED = "learned"


@gin.configurable(denylist=["scores", "counts"])
def learned_fraction(
    scores: np.ndarray,
    counts: np.ndarray | None = None,
    weighting: Callable | None = None,
    batch_size: int | None = None,
    batches: int = 200,
    seed: int = 0,
) -> dict[str, float]:
    """1 - share, of the share that weights keep of batches as meta-training drew them.

    What it comes to rest at is priced by `PricedShare`; without a price it is what the loss alone
    makes of it. In batches and not over the whole set, because that is what was optimised, and
    because a few outliers in a large set would have all of its weight.

    Args:
      scores: float [N], N >= 1.
      counts: [N], tokens that each example's loss stands for; None counts each as 1.
      weighting: of scores [B] and counts [B]; None: `example_softmax` as gin has it.
      batch_size: B, or N where that is less; None: that of the inner batches, as gin has it.
      batches: how many are drawn.
      seed: of the draws.

    Returns:
      "discard_fraction"; "deviation", of the share between batches; "batch_size".

    Raises:
      DataError: no scores, or one that is not finite.
    """
    weighting, scores = weighting or example_softmax(), np.asarray(scores, np.float64)
    if not len(scores) or not np.isfinite(scores).all():
        raise DataError(
            f"learned_fraction: of {len(scores)} scores {np.sum(~np.isfinite(scores))} are not"
            " finite: leave these examples out, and give it one at least."
        )
    size = min(batch_size or _inner_batch_size(), len(scores))
    counts = np.ones(len(scores)) if counts is None else np.asarray(counts, np.float64)
    rng, shares = np.random.default_rng(seed), []
    for _ in range(batches):
        rows = rng.choice(len(scores), size, replace=False)
        found, stands_for = tf.constant(scores[rows]), tf.constant(counts[rows])
        equal = weighting(tf.zeros_like(found), stands_for)
        shares.append(float(share_kept(weighting(found, stands_for), equal)))
    return {
        "discard_fraction": float(1 - np.mean(shares)),
        "deviation": float(np.std(shares)),
        "batch_size": int(size),
    }


def _inner_batch_size() -> int:
    default = inspect.signature(MetaTrainer).parameters["inner_batch_size"].default
    return gin.get_bindings(MetaTrainer, resolve_references=False).get("inner_batch_size", default)
