"""Exact sizes of oversized batches.

In floats `ceil(B / (1 - f))` is off by one in 3.6% of common cases (0.9 and 0.1 are not what they
say), so sizes are computed from the decimal that the user wrote.
"""

import decimal
import fractions
import math

from dr_keras.errors import ConfigurationError

Decimal = float | int | str | decimal.Decimal | fractions.Fraction


def exact_fraction(discard_fraction: Decimal) -> fractions.Fraction:
    """The share of examples to discard, as the decimal that was written.

    Args:
      discard_fraction: a number in [0, 1). A float stands for its shortest decimal: 0.1 is 1/10.

    Raises:
      ConfigurationError: not a number, or outside [0, 1).
    """
    try:
        # str of a float, of a NumPy float32 and of a Decimal is its shortest decimal
        exact = fractions.Fraction(str(discard_fraction))
    except (ValueError, ZeroDivisionError):
        exact = None
    if exact is None or not 0 <= exact < 1:
        raise ConfigurationError(
            f"discard_fraction is {discard_fraction!r}: give a number from 0 (keep everything) to"
            " just below 1, for example 0.5 to drop the worse half."
        )
    return exact


def oversized_batch(batch_size: int, discard_fraction: Decimal) -> int:
    """B_up: how many examples to score in order to keep `batch_size` of them.

    The exact ceiling of B / (1 - f).

    Raises:
      ConfigurationError: the batch size is not a positive integer, or the fraction is not in
        [0, 1).
    """
    exact = exact_fraction(discard_fraction)
    if isinstance(batch_size, bool) or batch_size != int(batch_size) or batch_size < 1:
        raise ConfigurationError(
            f"batch_size is {batch_size!r}: give the number of examples to keep of each oversized"
            " batch, an integer of at least 1."
        )
    return math.ceil(int(batch_size) / (1 - exact))


def achieved_fraction(batch_size: int, discard_fraction: Decimal) -> float:
    """The share that batch top-K really discards, 1 - B / B_up: at least `discard_fraction`."""
    oversized = oversized_batch(batch_size, discard_fraction)
    return float(1 - fractions.Fraction(int(batch_size), oversized))
