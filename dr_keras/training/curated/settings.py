"""Settings of a `CuratedModel` that contradict each other, each named with its remedy."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError
from dr_keras.meta import checks


def check_meta(
    *,
    meta_every: int,
    unroll_length: int,
    meta_batch_size: int,
    outer_batch_size: int,
    oversized: int,
    held_out: Mapping[str, ExampleSet],
) -> None:
    """Raises ConfigurationError for settings of the meta level out of their range.

    Args:
      meta_every, unroll_length, meta_batch_size, outer_batch_size: as `CuratedModel` has them.
      oversized: B_up.
      held_out: sets by name.
    """
    counts = {
        "meta_every": meta_every,
        "unroll_length": unroll_length,
        "meta_batch_size": meta_batch_size,
        "outer_batch_size": outer_batch_size,
    }
    for name, count in counts.items():
        checks.at_least(f"CuratedModel.{name}", count, 1)
    if unroll_length > meta_every:
        raise ConfigurationError(
            f"CuratedModel.unroll_length is {unroll_length}, more than the {meta_every} updates"
            " between two meta-steps: raise meta_every."
        )
    if meta_batch_size > oversized:
        raise ConfigurationError(
            f"CuratedModel.meta_batch_size is {meta_batch_size}, more than the {oversized} examples"
            " that are scored: lower it, or leave it at None."
        )
    if not held_out:
        raise ConfigurationError(
            "CuratedModel.held_out is missing: the rater learns from the loss on it. Name a"
            " dataset, or set meta_every to None for a rater that stays as it is."
        )
    for name, examples in held_out.items():
        if len(examples) < outer_batch_size:
            raise ConfigurationError(
                f"The held-out set '{name}' has {len(examples)} examples, and outer_batch_size is"
                f" {outer_batch_size}: add examples, or lower it."
            )


def check_one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Raises ConfigurationError unless a setting is one of those known."""
    if value not in known:
        raise ConfigurationError(
            f"CuratedModel.{name} is {value!r}: it must be one of {', '.join(known)}."
        )


def check_one_replica() -> None:
    """Raises ConfigurationError inside the scope of a strategy of several replicas."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        raise ConfigurationError(
            f"A CuratedModel trains on one device, and the strategy has {replicas} replicas: make,"
            " compile and fit it outside of strategy.scope()."
        )
