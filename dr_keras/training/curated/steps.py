"""The two levels of a `CuratedModel`'s step as pure functions of tensors."""

from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

import tensorflow as tf

from dr_keras.meta import pytrees
from dr_keras.meta.meta_step import MemberStep
from dr_keras.meta.problem import InnerState, MetaProblem
from dr_keras.meta.seeds import derive_seed
from dr_keras.models.rater_scores import mean_of_tokens
from dr_keras.rating.rules import split_best
from dr_keras.training.curated.sets import HeldOut

# What a meta-step says of itself.
SAID = ("outer_loss", "meta_gradient_norm", "effective_sample_size")


class Chosen(NamedTuple):
    """What an update trains on.

    Attributes:
      rows: int32 [B], which of the batch that was scored, ascending.
      batch: their features.
      counts: tokens that each loss stands for, see `MetaProblem`.
      weights: of the losses.
    """

    rows: tf.Tensor
    batch: dict
    counts: tf.Tensor
    weights: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Choice:
    """Batch top-K, and what those that are kept weigh.

    Attributes:
      size: B.
      oversized: B_up.
      soft: weights by the scores of what is kept; else all scores count as equal.
      sampled: what is kept is drawn without replacement by the softmax of the scores, and not the
        best: Gumbel noise on the scores before the best are taken (Kool et al., 2019, arXiv
        1903.06059).
      seed: of these draws, which the model's age addresses.
    """

    size: int
    oversized: int
    soft: bool
    sampled: bool = False
    seed: int = 0

    @property
    def scores(self) -> bool:
        """Whether it asks the rater at all."""
        return self.soft or self.oversized > self.size

    def __call__(self, problem: MetaProblem, eta: list, state: InnerState, batch: dict) -> Chosen:
        """What the model trains on, of a batch of B_up."""
        counts = problem.counts(batch)
        scores = problem.scores(eta, state, batch) if self.scores else tf.zeros_like(counts)
        rows = tf.range(self.oversized)
        if self.oversized > self.size:
            by_example = scores if scores.shape.rank == 1 else mean_of_tokens(scores, counts > 0)
            if self.sampled:
                by_example += self._noise(by_example, state.age)
            rows, _ = split_best(by_example, self.size, self.oversized)
            batch = {name: tf.gather(values, rows) for name, values in batch.items()}
            scores, counts = tf.gather(scores, rows), tf.gather(counts, rows)
        weighed = scores if self.soft else tf.zeros_like(scores)
        return Chosen(rows, batch, counts, problem.weighting(weighed, counts))

    def _noise(self, scores: tf.Tensor, age: tf.Tensor) -> tf.Tensor:
        key = tf.stack([tf.constant(derive_seed(self.seed, "choice"), tf.int32), age])
        least = tf.constant(1e-12, scores.dtype)  # its logarithm is finite
        uniform = tf.random.stateless_uniform(scores.shape, key, least, 1, scores.dtype)
        return -tf.math.log(-tf.math.log(uniform))


@dataclasses.dataclass(frozen=True, eq=False)
class MetaLevel:
    """When and how the rater learns.

    Attributes:
      every: k, updates between two meta-steps.
      length: T, updates that a meta-gradient goes through.
      rows: of each batch that was scored, those that a meta-step goes through, from its first.
      held_out: what the model is judged by.
      outer_batch_size: of each held-out set.
      seed: of an estimator's random numbers.
      member: the meta-step of the one member that the model is.
    """

    every: int
    length: int
    rows: int
    held_out: HeldOut
    outer_batch_size: int
    seed: int
    member: MemberStep

    def first(self, eta: list, state: InnerState) -> dict:
        """What the rater's training has beside its weights, before its first meta-step."""
        zero = tf.constant(0, tf.int32)
        remember = getattr(self.member.estimator, "init", None)
        return {
            "slots": self.member.outer_optimizer.init(eta),
            "contributions": zero,
            "meta_step": zero,
            "memory": remember(state, eta) if remember else {},
        }

    def first_kept(self, state: InnerState, specs: Mapping[str, tf.TensorSpec]) -> dict:
        """What is kept for a meta-step, before the first update.

        Args:
          specs: of a batch.
        """
        if self.length == 1:
            return {}  # the update that is being made is all of it
        size = (self.length, self.rows)
        batches = {n: tf.zeros([*size, *s.shape[1:]], s.dtype) for n, s in specs.items()}
        return {"entering": state, "batches": batches}

    def keep(self, kept: dict, state: InnerState, batch: dict) -> dict:
        """What is kept, with an update that begins at `state`: the last T, oldest first.

        Once a meta-step is due, "entering" is the state before the first of them.
        """
        batches = {name: value[tf.newaxis, : self.rows] for name, value in batch.items()}
        if self.length == 1:
            return {"entering": state, "batches": batches}
        begins = tf.equal(state.age % self.every, self.every - self.length)
        earlier = kept["batches"]
        return {
            "entering": pytrees.where(begins, state, kept["entering"]),
            "batches": {n: tf.concat([earlier[n][1:], v], axis=0) for n, v in batches.items()},
        }

    def __call__(
        self, constants: dict, eta: list, outer: dict, kept: dict, age: tf.Tensor
    ) -> tuple[list, dict, list, tf.Tensor]:
        """A meta-step, if one is due.

        Args:
          constants: of the problem.
          eta: of the rater.
          outer: see `first`.
          kept: see `keep`.
          age: updates that the model has made, int32 scalar.

        Returns:
          (eta', outer', `SAID` as float32 scalars, whether there was a meta-step that counts)
        """
        return tf.cond(
            tf.equal(age % self.every, 0),
            lambda: self._step(constants, eta, outer, kept),
            lambda: (eta, outer, [tf.constant(0.0)] * len(SAID), tf.constant(False)),
        )

    def _step(self, constants, eta, outer, kept) -> tuple:
        number, optimizer = outer["meta_step"], self.member.outer_optimizer
        direction, state, slots, report = self.member.step(
            eta,
            constants,
            kept["entering"]._replace(memory=outer["memory"]),
            outer["slots"],
            outer["contributions"],
            kept["batches"],
            self.held_out.batches(number, self.outer_batch_size),
            tf.stack([tf.constant(derive_seed(self.seed, "key"), tf.int32), number]),
        )
        finite = report["finite"]
        moved = pytrees.where(finite, optimizer.apply(eta, direction, number), eta)
        after = {
            "slots": slots,
            "contributions": outer["contributions"] + tf.cast(finite, tf.int32),
            "meta_step": number + 1,
            "memory": state.memory,
        }
        said = [tf.where(finite, tf.cast(report[name], tf.float32), 0.0) for name in SAID]
        return moved, after, said, finite
