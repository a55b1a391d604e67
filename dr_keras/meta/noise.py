"""How much of the meta-gradient is signal: ratios to its noise, and how far the rater moved.

A *signal-to-noise ratio* here is |E x|^2 / trace(Cov x) of a random vector x, the squared length of
what all draws share over the squared length of what a single draw adds to it. It is 0 for pure
noise and 1 where both are as long. Estimates are corrected for the length that noise alone gives to
a mean, and *not* clipped at 0: around 0 they are negative as often as positive, so that their mean
over meta-steps tells "no signal" from "little". The correction for the gradient noise scale is that
of McCandlish et al., 2018 (arXiv 1812.06162, appendix A), of which the ratio is the inverse.

There are two such figures, and they ask different questions:

- *across members*: do the members agree on where to move the rater? x is a member's Adam direction,
  because that is what is averaged: a meta-gradient itself differs in scale between a young and an
  old member, and the sum of raw ones would speak of the largest. Each direction has been smoothed
  over 1 / (1 - beta_1) meta-steps already, so the figure is higher than that of single
  meta-gradients (up to (1 + beta_1) / (1 - beta_1) = 19 times at 0.9). The mean of P members, which
  moves the rater, has P times the ratio. What is shared need not be useful: members that are all of
  one age may share a bias of that age.
- *over steps*: does a member's meta-gradient point the same way for some meta-steps? x is one
  meta-gradient as it enters Adam (clipped). It needs one member only and no memory but Adam's own.
  Signal is what lasts for 1 / (1 - beta_1) meta-steps. Squares are remembered for longer,
  1 / (1 - beta_2): while meta-gradients shrink the figure is too low, while they grow too high.
"""

import tensorflow as tf

from dr_keras.meta import pytrees

# Noise below this share of the whole is rounding; it also bounds the ratios at a million.
_LEAST = 1e-6


def squared_norm(vector: list) -> tf.Tensor:
    """Sum of squares of all leaves, a scalar of their dtype."""
    return tf.add_n([tf.reduce_sum(tf.square(leaf)) for leaf in vector])


def across_members(total: list, squares: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Signal-to-noise ratio of one member's vector, from sums that replicas can add up.

    With the unbiased N = trace(Cov) = (squares - |total|^2 / count) / (count - 1) and
    S = |total / count|^2 - N / count it is S / N.

    Args:
      total: list of tensors, the sum over members of their vectors.
      squares: scalar, the sum over members of `squared_norm` of their vectors.
      count: int scalar, members in both sums.

    Returns:
      Scalar of the dtype of `total`; at most 1e6, may be negative; NaN where fewer than two members
      count, or all vectors are zero.
    """
    members = tf.cast(count, total[0].dtype)
    of_mean = squared_norm(total) / tf.square(members)
    noise = (squares - members * of_mean) / (members - 1)
    noise = tf.maximum(noise, _LEAST * of_mean)
    return _known(count, (of_mean - noise / members) / noise)


def over_steps(slots: dict, count: tf.Tensor, beta_1: float, beta_2: float) -> tf.Tensor:
    """Signal-to-noise ratio of a member's meta-gradients over its last meta-steps.

    With m and v without their bias, E |m|^2 = S + r N and E sum(v) = S + N for steady gradients,
    where r = (1 - beta_1) (1 + beta_1^count) / ((1 + beta_1) (1 - beta_1^count)) is the sum of the
    squared weights of the mean m. Solved for S / N.

    Args:
      slots: {"m", "v"}, of `OuterAdam`, after an update.
      count: int scalar, updates in them, that one included.
      beta_1, beta_2: of that Adam.

    Returns:
      Scalar of the dtype of the slots; at most 1e6, may be negative; NaN where `count` is below 2,
      or all gradients were zero.
    """
    dtype = slots["m"][0].dtype
    updates = tf.cast(count, dtype)
    power_1 = tf.pow(tf.constant(beta_1, dtype), updates)
    power_2 = tf.pow(tf.constant(beta_2, dtype), updates)
    share = (1 - beta_1) / (1 + beta_1) * (1 + power_1) / (1 - power_1)
    of_mean = squared_norm(slots["m"]) / tf.square(1 - power_1)
    squares = tf.add_n([tf.reduce_sum(leaf) for leaf in slots["v"]]) / (1 - power_2)
    noise = tf.maximum(squares - of_mean, _LEAST * squares)
    return _known(count, (of_mean - share * squares) / noise)


def update_norm(new: list, old: list) -> tf.Tensor:
    """Global norm of what an update changed, a scalar: learning rate, decay and all."""
    return pytrees.global_norm([after - before for after, before in zip(new, old)])


def _known(count, ratio: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.greater(count, 1), ratio, tf.constant(float("nan"), ratio.dtype))
