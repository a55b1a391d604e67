"""Spans of noise: where they are, how long, what stays as it was."""

import dataclasses

import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.noisy_spans import noisy_spans, with_noisy_spans
from dr_keras.errors import ConfigurationError, DataError

S = 40


def windows(count=400, name="train"):
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 50, (count, S)).astype(np.int32)
    tokens[::4, 30:] = 0
    ids = np.array([f"{name}{k}#0" for k in range(count)], object)
    return ExampleSet({"tokens": tokens}, ids, ids, ids, name=name)


def test_a_span_is_one_circular_run_of_a_quarter_to_three_quarters():
    before, after = windows(), with_noisy_spans(windows())
    noise, level = after.labels["noise"], after.labels["level"]
    tokens, clean = after.features["tokens"], before.features["tokens"]
    lengths = np.count_nonzero(clean, axis=1)
    np.testing.assert_array_equal(tokens[~noise], clean[~noise])
    np.testing.assert_array_equal(tokens == 0, clean == 0)
    np.testing.assert_allclose(level, noise.sum(1) / lengths, rtol=1e-6)
    assert level.min() < 0.3 and level.max() > 0.7
    assert level.min() > 0.23 and level.max() < 0.77  # rounded to whole tokens
    for row, length in zip(noise, lengths):
        run = row[:length]
        assert np.count_nonzero(run & ~np.roll(run, 1)) == 1 and not row[length:].any()
    # 49 ids: a noise token is the one that was there once in 49 times.
    assert 0.9 < (tokens[noise] != clean[noise]).mean() < 1


def test_positions_say_nothing():
    noise = with_noisy_spans(windows(4000).take(np.arange(1, 4000, 2))).labels["noise"]
    shares = noise[:, :30].mean(axis=0)
    assert abs(shares - 0.5).max() < 4 * 0.5 / np.sqrt(len(noise))


def test_spans_follow_the_id_and_the_seed_and_not_the_order():
    examples = windows()
    backwards = examples.take(np.arange(len(examples))[::-1])
    first = with_noisy_spans(examples).labels["noise"]
    np.testing.assert_array_equal(with_noisy_spans(backwards).labels["noise"][::-1], first)
    assert (with_noisy_spans(examples, seed=1).labels["noise"] != first).any()
    some = with_noisy_spans(examples, fraction=0.25).labels["level"] > 0
    assert 0.15 < some.mean() < 0.35


def test_the_train_part_alone_is_changed():
    names = [field.name for field in dataclasses.fields(Parts)][:4]
    parts = Parts(**{name: windows(20, name) for name in names})
    changed = noisy_spans(lambda: parts)
    assert changed.outer is parts.outer and changed.test is parts.test
    assert changed.train.labels["noise"].any() and changed.fingerprint != parts.fingerprint


def test_bad_input_is_refused():
    with pytest.raises(ConfigurationError, match="they are 0.8, 0.75 and 1.0"):
        with_noisy_spans(windows(), least=0.8)
    images = windows()
    images = dataclasses.replace(images, features={"image": images.features["tokens"]})
    with pytest.raises(DataError, match=r"has the features \['image'\].*needs windows of tokens"):
        with_noisy_spans(images)
