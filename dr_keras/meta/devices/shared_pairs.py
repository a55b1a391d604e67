"""A member whose antithetic pairs are shared by the replicas that carry it together.

Every replica brings the whole of the member's batches together, runs its share of the pairs on
them, and an all-reduce gives all of them every outcome; then another adds up what the shares say.
Which noise a pair has follows from the member's key and the pair's number, so that nothing of it
travels, and the numbers are those of one device. The run without noise each does for itself.
"""

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.devices.placement import Group
from dr_keras.meta.estimators.evolution import EvolutionStrategies
from dr_keras.meta.meta_step import MemberStep
from dr_keras.meta.micro_batches import check_parts
from dr_keras.meta.problem import InnerState


def check_shared(
    group: Group, estimator: EvolutionStrategies, statistics: list, sizes: dict[str, int]
) -> None:
    """Raises ConfigurationError where the group's replicas cannot share pairs or batches equally.

    Args:
      group, statistics, sizes: as `check_split`.
    """
    parts = group.parts
    remedy = f"have as many members as replicas, or fewer devices ({parts} carry a member now)"
    if estimator.pairs % parts:
        raise ConfigurationError(
            f"EvolutionStrategies.pairs is {estimator.pairs}, which {parts} replicas cannot share"
            f" equally: make it a multiple of {parts}, or {remedy}."
        )
    for kind, size in sizes.items():
        if size % parts:
            raise ConfigurationError(
                f"{kind}_batch_size is {size}, which {parts} replicas cannot read equal parts of:"
                f" make it a multiple of {parts}, or {remedy}."
            )
    check_parts(estimator.micro_batches, sizes, statistics, estimator)


class SharedPairs:
    """The meta-step of a member, called within a replica with that replica's part of the batches.

    Args:
      group: of replicas.
      member: what one replica would do; its estimator is an EvolutionStrategies.
      jit_compile: compile each piece with XLA.
    """

    def __init__(self, group: Group, member: MemberStep, jit_compile: bool):
        self._group, self._member, self._estimator = group, member, member.estimator
        self._share = self._estimator.pairs // group.parts

        def piece(function):
            return tf.function(function, jit_compile=jit_compile, autograph=False)

        self._outcomes = piece(self._outcomes_function)
        self._followed = piece(self._followed_function)
        self._finish = piece(self._finish_function)
        self._advance = piece(member.advance)

    # --- pieces: tensors in, tensors out, no sums over replicas ------------------------------

    def _outcomes_function(self, eta, constants, state, inner, outer, key, first):
        problem = self._member.problem_of(constants)
        return self._estimator.outcomes(
            problem, InnerState(*state), eta, inner, outer, key, first, self._share
        )

    def _followed_function(self, eta, constants, inner, key, losses, first):
        slopes = self._estimator.slopes(losses)[first : first + self._share]
        problem = self._member.problem_of(constants)
        return self._estimator.followed(problem, eta, inner, key, slopes, first, self._share)

    def _finish_function(
        self, eta, constants, state, outer_slots, contributions, inner, outer, followed, losses
    ):
        problem, state = self._member.problem_of(constants), InnerState(*state)
        estimate = self._estimator.finished(problem, state, eta, inner, outer, followed, losses)
        return self._member.taken(problem, estimate, state, outer_slots, contributions, inner)

    # --- between the pieces ------------------------------------------------------------------

    def _whole(self, batch: dict, axis: int = 0) -> dict:
        """Features of the whole batch, of which this replica has a part along `axis`, 0 or 1."""

        def sent(leaf):
            # Sums of bytes and truth values are asked of none of TensorFlow's strategies.
            leaf = tf.cast(leaf, tf.int32) if _is_small(leaf.dtype) else leaf
            return _swapped(leaf) if axis else leaf

        whole = self._group.gathered([sent(leaf) for leaf in batch.values()])
        whole = [_swapped(leaf) for leaf in whole] if axis else whole
        return {
            name: tf.cast(leaf, batch[name].dtype) for name, leaf in zip(batch, whole, strict=True)
        }

    def advance(self, eta, constants, state, batch):
        """As `MemberStep.advance`, which every replica of the group does for itself."""
        return self._advance(eta, constants, state, self._whole(batch))

    def step(
        self, eta, constants, state, outer_slots, contributions, inner_batches, outer_batches, key
    ):
        """As `MemberStep.step`: (direction, state', outer slots', report)."""
        inner = self._whole(inner_batches, axis=1)
        outer = {name: self._whole(batch) for name, batch in outer_batches.items()}
        first = self._group.place() * self._share
        (losses,) = self._group.gathered(
            [self._outcomes(eta, constants, state, inner, outer, key, first)]
        )
        followed = self._group.sum(self._followed(eta, constants, inner, key, losses, first))
        return self._finish(
            eta, constants, state, outer_slots, contributions, inner, outer, followed, losses
        )


def _is_small(dtype: tf.DType) -> bool:
    return dtype == tf.bool or (dtype.is_integer and dtype.size < 4)


def _swapped(leaf: tf.Tensor) -> tf.Tensor:
    """Its first two axes in each other's place."""
    return tf.transpose(leaf, [1, 0, *range(2, leaf.shape.rank)])
