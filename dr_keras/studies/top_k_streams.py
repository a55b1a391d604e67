"""Batch top-K while training: of every oversized batch of a stream the best examples."""

import dataclasses

import numpy as np

from dr_keras.data.examples import ExampleSet, objects
from dr_keras.data.full_windows import full_windows
from dr_keras.data.streams import BatchStream
from dr_keras.errors import ConfigurationError
from dr_keras.rating.fractions import Decimal, oversized_batch
from dr_keras.rating.rules import split_best
from dr_keras.studies.sizes import Budget
from dr_keras.training.target_counts import count_targets, total_targets


class TopKStream:
    """Batch top-K online: of every B_up examples of the stream the best-scored B.

    Of equal scores the earlier example stays; NaN ranks lowest. Within a batch the kept examples
    keep their order, and windows their padding.

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
        self.oversized = oversized_batch(batch_size, discard_fraction)
        self._inner = BatchStream(examples, self.oversized, seed)
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


class FullTopKStream:
    """What batch top-K keeps, in batches of full windows.

    The windows that a stream keeps, batch after batch, are taken until they fill the batches of a
    run; padded ones are joined in the order in which they were chosen, whichever their corpus. So
    a step reads more than one oversized batch, and the run sees as many tokens as any other.

    Args:
      chosen: of text windows some of which are padded.
      steps: of the run.

    Attributes:
      examples: the full windows, in the order of the batches.
      read_a_step: examples of the train part that a step reads on average, discarded ones included.
    """

    def __init__(self, chosen: TopKStream, steps: int):
        self.batch_size, self._pool = chosen.batch_size, chosen.examples
        tokens, wanted = self._pool.features["tokens"], steps * self.batch_size
        batches: list[np.ndarray] = []
        full = joined = 0
        while full + joined // tokens.shape[1] < wanted:  # the marks between them are more yet
            batches.append(chosen.indices(len(batches)))
            kept = np.count_nonzero(tokens[batches[-1]], axis=1)
            is_full = kept == tokens.shape[1]
            full, joined = full + int(is_full.sum()), joined + int(kept[~is_full].sum())
        self._rows = np.concatenate(batches)
        taken = self._pool.take(self._rows)
        taken = dataclasses.replace(taken, corpora=objects("" for _ in self._rows), weights=None)
        self.examples = full_windows(taken).take(slice(wanted))
        self.read_a_step = len(batches) * chosen.oversized / steps

    def indices(self, step: int) -> np.ndarray:
        """Row numbers of batch number `step`, int64 [B]."""
        return np.arange(step * self.batch_size, (step + 1) * self.batch_size)

    def budget(self, steps: int, train_size: int) -> Budget:
        """The budget of the run: of the whole train part, from which it chose."""
        targets = count_targets(self._pool)
        return Budget(
            pool_examples=len(targets),
            pool_tokens=int(targets.sum()),
            tokens_seen=total_targets(self.examples),
            epochs=len(self._rows) / len(targets),
            unique_tokens=int(targets[np.unique(self._rows)].sum()),
            passes=steps * self.read_a_step / train_size,
        )
