"""A batch in parts, one after the other, where examples have nothing to do with each other.

The inner gradient, its derivative along a direction and the outer gradient are sums over examples,
and a rater gives each example a score of its own, so that a loop over parts of the batch gives the
same numbers with the activations of one part.
"""

from collections.abc import Callable, Mapping
import math

import tensorflow as tf

from dr_keras.differentiation.recomputing_scan import recomputing_scan
from dr_keras.errors import ConfigurationError


def check_parts(parts: int, sizes: Mapping[str, int], statistics: list, estimator) -> None:
    """Raises ConfigurationError where `parts` cannot divide a batch, or would change values.

    Args:
      parts: how many.
      sizes: kind of batch, "inner" or "outer" -> examples in it.
      statistics: tensors or variables of the inner model; statistics over a batch are floating.
      estimator: whose setting it is, for the message.
    """
    if parts == 1:
        return
    name = f"{type(estimator).__name__}.micro_batches"
    leaves = tf.nest.flatten(statistics)
    averages = sum(tf.as_dtype(leaf.dtype).is_floating for leaf in leaves)
    if averages:
        raise ConfigurationError(
            f"{name} is {parts}, but the inner model keeps {averages} statistics over its"
            " batches (BatchNormalization does): in parts it would be another model. Leave"
            " micro_batches at 1, or use a normalisation within examples."
        )
    for kind, size in sizes.items():
        if size % parts:
            common = math.gcd(*sizes.values())
            near = _nearest_divisors(common, parts)
            raise ConfigurationError(
                f"{name} is {parts}, which does not divide the {kind} batch of {size}"
                f" examples (MetaTrainer.{kind}_batch_size): make it {' or '.join(map(str, near))},"
                f" or the batch a multiple of {parts}."
            )


def _nearest_divisors(size: int, parts: int) -> list[int]:
    """The next smaller divisor of `size`, and the next greater one if there is one."""
    divisors = [number for number in range(1, size + 1) if size % number == 0]
    below = [number for number in divisors if number < parts][-1:]
    return below + [number for number in divisors if number > parts][:1]


def over_parts(
    parts: int, function: Callable, examples, statistics: list
) -> tuple[list, list, list]:
    """Sums and per-example values of `function` over parts of a batch.

    Args:
      parts: number of parts, a divisor of B; 1 calls `function` once, without a loop.
      function: (part of `examples`, statistics) -> (sums: list of tensors, values: list of
        tensors [B / parts, ...], new statistics).
      examples: pytree of tensors [B, ...].
      statistics: handed from part to part: seeds of dropout move on.

    Returns:
      (sums, values [B, ...], statistics after the last part)
    """
    if parts == 1:
        return function(examples, statistics)

    def at(index):
        return tf.nest.map_structure(lambda leaf: tf.gather(_split(leaf, parts), index), examples)

    # Shapes and dtypes of the results, from a trace whose operations nobody uses.
    sums, values, _ = (
        tf.function(lambda: function(at(0), statistics), autograph=False)
        .get_concrete_function()
        .structured_outputs
    )

    def body(index, total, arrays, statistics):
        more, found, after = function(at(index), statistics)
        total = [a + tf.cast(b, a.dtype) for a, b in zip(total, more, strict=True)]
        for leaf, like in zip(total, sums):
            leaf.set_shape(like.shape)
        arrays = [a.write(index, v) for a, v in zip(arrays, found, strict=True)]
        return index + 1, total, arrays, list(after)

    _, total, arrays, statistics = tf.while_loop(
        lambda index, *_: index < parts,
        body,
        (
            tf.constant(0),
            [tf.zeros(leaf.shape, leaf.dtype) for leaf in sums],
            [tf.TensorArray(v.dtype, parts, element_shape=v.shape) for v in values],
            list(statistics),
        ),
    )
    values = [tf.reshape(a.stack(), [-1, *v.shape[1:]]) for a, v in zip(arrays, values)]
    return total, values, statistics


def recomputed_in_parts(parts: int, function: Callable, parameters: list, examples) -> tf.Tensor:
    """`function(parameters, examples)` [B, ...], in parts that every derivative runs again.

    Args:
      parts: number of parts, a divisor of B; 1 calls `function` once, without a loop.
      function: (parameters, pytree of tensors [B / parts, ...]) -> [B / parts, ...], each row of
        which depends on its own example only.
      parameters: list of floating tensors; what has derivatives.
      examples: pytree of tensors [B, ...].
    """
    if parts == 1:
        return function(parameters, examples)

    def step(carry, part, parameters):
        return carry, [function(parameters, tf.nest.pack_sequence_as(examples, part))]

    leaves = [_split(leaf, parts) for leaf in tf.nest.flatten(examples)]
    _, (values,) = recomputing_scan(step, [], leaves, list(parameters), parts)
    return tf.reshape(values, [-1, *values.shape[2:]])


def _split(leaf: tf.Tensor, parts: int) -> tf.Tensor:
    """[parts, B / parts, ...] of [B, ...]."""
    return tf.reshape(leaf, [parts, leaf.shape[0] // parts, *leaf.shape[1:]])
