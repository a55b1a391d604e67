"""What an arm trains on: batches from a subset, or the best of oversized batches.

Both give row numbers by (seed, step), so that the trainer needs to know nothing about arms.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
import dataclasses

import numpy as np

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.selection import Selection
from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream
from dr_keras.errors import ConfigurationError
from dr_keras.rating.fractions import Decimal, oversized_batch
from dr_keras.rating.rules import split_best
from dr_keras.studies.sizes import Budget
from dr_keras.training.trainers import count_targets

UNFILTERED, CANDIDATE, RANDOM = "unfiltered", "rater", "random"
# What chooses anew for every seed; the choice of the others depends on the data alone.
_DRAWN = ("random", "random_as_rater")
_REMEMBERED = 8
DESCRIPTIONS = {
    UNFILTERED: "all of the train part",
    "rater": "what the rater scores highest",
    "rater_inverted": "what the rater scores lowest: a check that its order means something",
    "random": "as much of every source, chosen by hash",
    "random_as_rater": "chosen by hash, as much of every source as the rater kept",
    "perplexity_lowest": "the likeliest text under a small model trained on other documents",
    "perplexity_middle": "text of middling likelihood under such a model",
    "perplexity_highest": "the least likely text under such a model",
    "heuristics_c4": "what breaks fewest of C4's rules",
    "heuristics_gopher": "what breaks fewest of Gopher's rules",
    "heuristics": "what breaks fewest of C4's and Gopher's rules",
    "heuristics_then_rater": "what breaks rules goes first, then what the rater scores lowest",
    "least_damaged": "the least damaged, as known from how the corpus was made: no filter, a limit",
    "classifier": "most like the outer part to a linear n-gram classifier",
    "conditional_loss": "what a small model of the train part finds likelier once tuned on the"
    " outer part (CoLoR-Filter)",
    "reference_loss": "the likeliest text under a small model tuned on the outer part",
    "rho": "what a small model of the outer part finds likelier than one of the train part"
    " (reducible holdout loss)",
    "influence": "what lowers the outer loss of a small model by one step, as a regression on"
    " n-grams tells it",
    "dsir": "of n-grams that the outer part has more often than the train part (DSIR)",
    "token_prior": "of token frequencies as usual in the outer part",
    "best_sources": "the sources most like the outer part by their n-grams, whole",
}


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


@dataclasses.dataclass(frozen=True, eq=False)
class Draw:
    """What the batches of one run are drawn from; small enough to be sent to another process.

    Attributes:
      discard_fraction: the share of the train part that is left out, as achieved.
      rows: of the train part, which stay; None: all of them.
      weights: of the corpora among them, see `Selection.examples`.
      online: whether the best of oversized batches are taken, and not a subset beforehand.
      scores: [N] of the train part, for an online arm; None takes any.
    """

    discard_fraction: float = 0.0
    rows: np.ndarray | None = None
    weights: Mapping[str, float] | None = None
    online: bool = False
    scores: np.ndarray | None = None

    @classmethod
    def of(cls, selection: Selection) -> "Draw":
        """From what an arm keeps."""
        kept = selection.examples()
        share = 1 - len(kept) / len(selection.candidates.examples)
        return cls(share, selection.rows, kept.weights)

    def stream(self, train: ExampleSet, asked: Decimal, batch_size: int, seed: int, name: str):
        """The batches of a run: anything with `examples` and `indices(step)`.

        Args:
          train: the train part.
          asked: the discard fraction as asked for, of which an online arm's batches are made.
          batch_size, seed: of the stream.
          name: of the arm, for messages.
        """
        if self.online:
            return TopKStream(train, self.scores, asked, batch_size, seed)
        if self.rows is not None:
            kept = train.take(self.rows, f"{name} arm")
            train = dataclasses.replace(kept, weights=self.weights)
        return BatchStream(train, batch_size, seed)


class Draws:
    """The draws of a study's arms, all of them out of one registry.

    Args:
      baselines: returns the registry; called when an arm first needs it.
      share: (size, discard fraction as asked for) -> the exact share that every arm drops.
      online: arms that choose in oversized batches and not beforehand.
    """

    def __init__(
        self,
        baselines: Callable[[], Baselines],
        share: Callable[[str, float], Decimal],
        online: Collection[str] = (),
    ):
        self._baselines, self._share, self._online = baselines, share, online
        self._selections: OrderedDict[tuple, Selection] = OrderedDict()

    def selection(self, arm: str, share: Decimal, seed: int) -> Selection:
        """What an arm keeps of the train part; the last few are remembered."""
        key = (arm, share, seed if arm in _DRAWN else 0)
        if key not in self._selections:
            while len(self._selections) > _REMEMBERED:
                self._selections.popitem(last=False)
            self._selections[key] = self._baselines().select(*key)
        return self._selections[key]

    def __call__(self, cell) -> Draw:
        """What the batches of a cell (`cells.Cell`) are drawn from."""
        if cell.arm == UNFILTERED:
            return Draw()
        share = self._share(cell.size, cell.fraction)
        if cell.arm not in self._online:
            return Draw.of(self.selection(cell.arm, share, cell.seed))
        scores = None
        if cell.arm not in _DRAWN:
            scores = self.selection(cell.arm, share, cell.seed).scores
        return Draw(float(share), online=True, scores=scores)


def data_budget(stream, steps: int, read_a_step: float, train_size: int) -> Budget:
    """The budget of `steps` batches of a stream.

    Args:
      read_a_step: examples that a step reads, those that are discarded included.
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
        epochs=drawn / len(targets),
        unique_tokens=int(targets[seen > 0].sum()),
        passes=steps * read_a_step / train_size,
    )


def is_unfiltered(steps: int, batch_size: int, discard_fraction: Decimal, examples: int) -> bool:
    """Whether a random choice in oversized batches is the unfiltered arm by another name.

    On a single pass it is: random examples of a stream that repeats nothing are a stream that
    repeats nothing.
    """
    return steps * oversized_batch(batch_size, discard_fraction) <= examples


def scored_examples(
    batch_size: int, discard_fraction: Decimal, online: bool, examples: int
) -> Callable[[float], float]:
    """steps -> examples that a run must have scored by then.

    Online, every example of every oversized batch; offline, each example once, and no more than
    the batches so far needed.
    """
    oversized = oversized_batch(batch_size, discard_fraction)
    return lambda steps: steps * oversized if online else min(steps * oversized, examples)
