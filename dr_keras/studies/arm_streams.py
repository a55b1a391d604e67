"""What an arm trains on: batches from an offline subset, or the best of oversized batches.

Both give row numbers by (seed, step), so that the trainer needs to know nothing about arms.
"""

from collections.abc import Callable
import dataclasses

import numpy as np

from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream
from dr_keras.errors import ConfigurationError
from dr_keras.rating.fractions import Decimal, oversized_batch
from dr_keras.rating.rules import split_best
from dr_keras.training.repeated_training import count_targets


class TopKStream:
    """Batch top-K online: of every B_up examples of the stream the best-scored B.

    Of equal scores the earlier example stays; NaN ranks lowest. Within a batch the kept examples
    keep their order.

    Args:
      examples: the whole train part.
      scores: [N], higher is better; None keeps the first B of each batch, which is a random choice.
      discard_fraction: f; B_up = B / (1 - f), exactly.
      batch_size: B.
      seed: of the stream.
    """

    def __init__(
        self, examples: ExampleSet, scores, discard_fraction: Decimal, batch_size: int, seed: int
    ):
        self.examples, self.batch_size = examples, batch_size
        oversized = oversized_batch(batch_size, discard_fraction)
        self._inner = BatchStream(examples, oversized, seed)
        self._scores = None
        if scores is not None:
            scores = np.asarray(scores, np.float64)
            if scores.shape != (len(examples),):
                raise ConfigurationError(
                    f"batch top-K: {len(examples)} examples but scores of shape {scores.shape}: an"
                    " arm without a score an example is offline only."
                )
            self._scores = scores

    def indices(self, step: int) -> np.ndarray:
        """Row numbers of batch number `step`, int64 [B]."""
        rows = self._inner.indices(step)
        if self._scores is None:
            return rows[: self.batch_size]
        return rows[split_best(self._scores[rows], self.batch_size, len(rows))[0]]


@dataclasses.dataclass(frozen=True)
class Budget:
    """The data budget of one run, all of it JSON.

    Attributes:
      pool_examples, pool_tokens: what there was to draw from, each once: all of the train part for
        an online arm, what the arm keeps for an offline one.
      tokens_seen: targets trained on, repetitions counted.
      unique_tokens: targets trained on, each counted once.
      epochs: examples trained on per example in the pool; below 1 the run never saw all of it.
      passes: examples read, those that were discarded included, per example of the train part.
    """

    pool_examples: int
    pool_tokens: int
    tokens_seen: int
    unique_tokens: int
    epochs: float
    passes: float


def data_budget(stream, steps: int, read_a_step: float, train_size: int) -> Budget:
    """The budget of `steps` batches of a stream.

    Args:
      read_a_step: examples that a step reads: B_up, or B for the unfiltered arm.
      train_size: examples in the train part.
    """
    targets = count_targets(stream.examples)
    seen = np.zeros(len(targets), np.int64)
    drawn = 0
    for step in range(steps):
        rows = stream.indices(step)
        np.add.at(seen, rows, 1)
        drawn += len(rows)
    return Budget(
        pool_examples=len(targets),
        pool_tokens=int(targets.sum()),
        tokens_seen=int((targets * seen).sum()),
        unique_tokens=int(targets[seen > 0].sum()),
        epochs=drawn / len(targets),
        passes=steps * read_a_step / train_size,
    )


def is_unfiltered(steps: int, batch_size: int, discard_fraction: Decimal, examples: int) -> bool:
    """Whether a random choice in oversized batches is the unfiltered arm by another name.

    On a single pass it is: random examples of a stream that repeats nothing are a stream that
    repeats nothing.
    """
    return steps * oversized_batch(batch_size, discard_fraction) <= examples


Scored = Callable[[float], float]


def scored_examples(
    batch_size: int, discard_fraction: Decimal, online: bool, examples: int
) -> Scored:
    """steps -> examples that a run must have scored by then.

    Online, every example of every oversized batch; offline, each example once, and no more than
    the batches so far needed.
    """
    oversized = oversized_batch(batch_size, discard_fraction)
    return lambda steps: steps * oversized if online else min(steps * oversized, examples)
