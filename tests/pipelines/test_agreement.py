"""Batch top-K and the filter by percentile keep what the formula says, decile by decile."""

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.pipelines.transformations import filter_by_percentile, top_k
from dr_keras.rating.fractions import keep_probability, oversized_batch
from dr_keras.rating.reference import ReferenceDistribution

SIZES = [(0.5, 8), (0.1, 32), (0.75, 4), ("0.9", 1), (0.3, 64)]
UNIFORM = ReferenceDistribution(np.linspace(0, 1, 1001))  # a percentile is the score itself
# Standard errors that a test may be off. By chance one of the 50 deciles of a transformation is
# in fewer than one of 3000 runs, were seeds not fixed.
LIMIT = 4.5


def residual_errors(kept, percentiles, oversized, expected):
    """How many standard errors each decile's kept share is from its mean keep probability.

    Which examples top-K keeps of one batch is not independent, so the errors are taken between
    whole batches; or as of independent draws where those are larger, because what never happened
    in the sample says nothing of how often it may. Both shares are of the same examples, so chance
    in percentiles cancels out.
    """
    expected = expected.numpy()
    decile = np.minimum((percentiles * 10).astype(int), 9)
    errors = []
    for d in range(10):
        sums = np.where(decile == d, kept - expected, 0).reshape(-1, oversized).sum(axis=1)
        independent = np.where(decile == d, expected * (1 - expected), 0).sum()
        variance = max(len(sums) * sums.var(ddof=1), independent)
        errors.append(abs(sums.sum()) / np.sqrt(variance) if variance else 0.0)
    return np.array(errors)


def sample(oversized, seed):
    """Percentiles of whole oversized batches, about 100 000."""
    count = 100_000 // oversized * oversized
    return np.random.default_rng(seed).uniform(size=count).astype(np.float32)


def marked(rows, count):
    kept = np.zeros(count)
    kept[rows] = 1
    return kept


def check_shares(kept, percentiles, batch_size, oversized):
    expected = keep_probability(percentiles, batch_size, oversized)
    assert residual_errors(kept, percentiles, oversized, expected).max() < LIMIT
    # and neighbouring sizes are told apart, so the test can fail
    for wrong in (oversized - max(1, oversized // 16), oversized + max(1, oversized // 16)):
        expected = keep_probability(percentiles, min(batch_size, wrong), wrong)
        assert residual_errors(kept, percentiles, oversized, expected).max() > LIMIT


@pytest.mark.parametrize("discard_fraction, batch_size", SIZES)
def test_top_k_keeps_the_betainc_share_of_every_decile(table, discard_fraction, batch_size):
    oversized = oversized_batch(batch_size, discard_fraction)
    percentiles = sample(oversized, 5)
    rows = tf.data.Dataset.range(len(percentiles)).apply(
        top_k(table(percentiles), discard_fraction, batch_size)
    )
    kept = marked(np.concatenate(list(rows.as_numpy_iterator())), len(percentiles))
    assert kept.sum() * oversized == len(percentiles) * batch_size
    check_shares(kept, percentiles, batch_size, oversized)


@pytest.mark.parametrize("discard_fraction, batch_size", SIZES)
def test_the_filter_keeps_the_betainc_share_of_every_decile(table, discard_fraction, batch_size):
    oversized = oversized_batch(batch_size, discard_fraction)
    percentiles = sample(oversized, 6)
    settings = dict(reference=UNIFORM, rows_a_call=4096)
    rows = (
        tf.data.Dataset.range(len(percentiles))
        .batch(4096)
        .apply(
            filter_by_percentile(table(percentiles), discard_fraction, batch_size, 3, **settings)
        )
    )
    kept = marked(np.concatenate(list(rows.as_numpy_iterator())), len(percentiles))
    check_shares(kept, percentiles, batch_size, oversized)
