"""What an arm trains on: batches from a subset, or the best of oversized batches.

Both give row numbers by (seed, step), so that the trainer needs to know nothing about arms. Batches
may be of full windows alone, so that all arms see as many tokens; those from a subset may have a
share of text that every arm trains on, such as that of a target.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
import dataclasses
import os

import numpy as np

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.kept_files import write_kept
from dr_keras.baselines.selection import Selection
from dr_keras.data.columns import Runs, concatenated
from dr_keras.data.examples import ExampleSet
from dr_keras.data.full_windows import full_windows, has_padding
from dr_keras.data.streams import BatchStream
from dr_keras.rating.fractions import Decimal, exact_fraction, oversized_batch
from dr_keras.studies.sizes import Budget
from dr_keras.studies.top_k_streams import FullTopKStream, TopKStream
from dr_keras.training.target_counts import count_targets

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
    "source_weights": "of every source as much as the learned mixture has, chosen by hash",
}


@dataclasses.dataclass(frozen=True, eq=False)
class MixedIn:
    """Text that all arms train on beside what they chose.

    Attributes:
      examples: M windows of it.
      share: of the examples of a run, in (0, 1).
    """

    examples: ExampleSet
    share: float

    def into(self, chosen: ExampleSet) -> ExampleSet:
        """A set of both, the M windows last, with weights that give them their share.

        The corpora of what was chosen keep their weights among themselves.
        """
        corpora = chosen.corpora
        if chosen.weights is None:
            corpora, weights = Runs(["chosen"], [len(chosen)]), {"chosen": 1.0}
        else:
            weights = {name: float(weight) for name, weight in chosen.weights.items()}
        total = sum(weights.values())
        weights = {name: (1 - self.share) * w / total for name, w in weights.items()}
        name = "target"
        while name in weights:
            name += "'"
        both = [chosen, self.examples]
        return dataclasses.replace(
            chosen,
            features={
                key: concatenated([part.features[key] for part in both]) for key in chosen.features
            },
            ids=concatenated([part.ids for part in both]),
            sources=concatenated([part.sources for part in both]),
            corpora=concatenated([corpora, Runs([name], [len(self.examples)])]),
            labels={},
            weights={**weights, name: self.share},
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Draw:
    """What the batches of one run are drawn from; small enough to be sent to another process.

    It is sent with a bit for every example in the place of the rows.

    Attributes:
      discard_fraction: the share of the train part that is left out, as achieved.
      rows: of the train part, which stay, ascending; None: all of them.
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

    def __getstate__(self) -> dict:
        if self.rows is None or not len(self.rows):
            return dict(self.__dict__)
        kept = np.zeros(int(self.rows[-1]) + 1, bool)
        kept[self.rows] = True
        return {**self.__dict__, "rows": np.packbits(kept), "packed": len(kept)}

    def __setstate__(self, state: dict) -> None:
        count = state.pop("packed", None)
        if count is not None:
            state["rows"] = np.flatnonzero(np.unpackbits(state["rows"], count=count))
        self.__dict__.update(state)

    def stream(
        self,
        train: ExampleSet,
        asked: Decimal,
        batch_size: int,
        seed: int,
        name: str,
        full: bool = False,
        mixed_in: MixedIn | None = None,
        steps: int = 0,
    ):
        """The batches of a run: anything with `examples` and `indices(step)`.

        Args:
          train: the train part.
          asked: the discard fraction as asked for, of which an online arm's batches are made.
          batch_size, seed: of the stream.
          name: of the arm, for messages.
          full: whether padded windows are joined, see `full_windows`: before they are drawn, those
            of an online arm once they are chosen.
          mixed_in: what else every batch has a share of; not with an online arm.
          steps: of the run, for a full online arm, which is chosen in whole.

        Raises:
          DataError: too few examples for a batch.
        """
        if self.online:
            chosen = TopKStream(train, self.scores, asked, batch_size, seed)
            return FullTopKStream(chosen, steps) if full and has_padding(train) else chosen
        if self.rows is not None:
            kept = train.take(self.rows, f"{name} arm")
            train = dataclasses.replace(kept, weights=self.weights)
        if full:
            train = full_windows(train)
        return BatchStream(mixed_in.into(train) if mixed_in else train, batch_size, seed)

    def read_a_step(self, stream, train_size: int, mixed_in: MixedIn | None = None) -> float:
        """Examples of the train part that a step of a stream reads, discarded ones included.

        A window that joins several is all of them; what is mixed in is not of the train part.

        Args:
          stream: what `stream` returned for the same text to mix in.
          train_size: examples in the train part.
        """
        if isinstance(stream, FullTopKStream):
            return stream.read_a_step
        if self.online:
            return stream.batch_size / (1 - self.discard_fraction)
        share, more = (mixed_in.share, len(mixed_in.examples)) if mixed_in else (0.0, 0)
        return stream.batch_size * (1 - share) * train_size / (len(stream.examples) - more)


class Draws:
    """The draws of a study's arms, all of them out of one registry.

    Args:
      baselines: returns the registry; called when an arm first needs it.
      share: (size, discard fraction as asked for) -> the exact share that every arm drops.
      online: arms that choose in oversized batches and not beforehand.
      folder: where what arms keep is written, a bit an example; None writes nothing.
    """

    def __init__(
        self,
        baselines: Callable[[], Baselines],
        share: Callable[[str, float], Decimal],
        online: Collection[str] = (),
        folder: str | os.PathLike | None = None,
    ):
        self._baselines, self._share, self._online = baselines, share, online
        self._folder = folder
        self._selections: OrderedDict[tuple, Selection] = OrderedDict()

    def selection(self, arm: str, share: Decimal, seed: int) -> Selection:
        """What an arm keeps of the train part; the last few are remembered."""
        key = (arm, share, seed if arm in _DRAWN else 0)
        if key not in self._selections:
            while len(self._selections) > _REMEMBERED:
                self._selections.popitem(last=False)
            found = self._selections[key] = self._baselines().select(*key)
            if self._folder is not None and found.candidates.examples is not None:
                name = f"{arm}-{float(100 * exact_fraction(share)):.6g}-{key[2]}.npz"
                write_kept(os.path.join(self._folder, name), found)
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


def data_budget(
    stream, steps: int, read_a_step: float, train_size: int, mixed_in: int = 0
) -> Budget:
    """The budget of `steps` batches of a stream.

    Args:
      read_a_step: examples that a step reads, those that are discarded included.
      train_size: examples in the train part.
      mixed_in: how many of the stream's examples, the last ones, every arm trains on.
    """
    if isinstance(stream, FullTopKStream):
        return stream.budget(steps, train_size)
    targets = count_targets(stream.examples)
    seen = np.zeros(len(targets), np.int64)
    for step in range(steps):
        np.add.at(seen, stream.indices(step), 1)
    chosen = len(targets) - mixed_in
    pool, drawn, more = targets[:chosen], seen[:chosen], seen[chosen:]
    return Budget(
        pool_examples=chosen,
        pool_tokens=int(pool.sum()),
        tokens_seen=int((targets * seen).sum()),
        epochs=int(drawn.sum()) / chosen,
        unique_tokens=int(pool[drawn > 0].sum()),
        passes=steps * read_a_step / train_size,
        target_tokens_seen=int((targets[chosen:] * more).sum()),
        target_epochs=int(more.sum()) / mixed_in if mixed_in else 0.0,
    )


def is_unfiltered(steps: int, batch_size: int, discard_fraction: Decimal, examples: int) -> bool:
    """Whether a random choice in oversized batches is the unfiltered arm by another name.

    On a single pass it is: random examples of a stream that repeats nothing are a stream that
    repeats nothing.
    """
    return steps * oversized_batch(batch_size, discard_fraction) <= examples


def scored_examples(read_a_step: float, online: bool, examples: int) -> Callable[[float], float]:
    """steps -> examples that a run must have scored by then.

    Online, every example that was read; offline, each example once, and no more than the batches
    so far needed.

    Args:
      read_a_step: examples that a step reads, those that are discarded included.
      online: whether the arm chooses while training.
      examples: in the train part.
    """
    return lambda steps: steps * read_a_step if online else min(steps * read_a_step, examples)
