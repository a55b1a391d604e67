"""What can be known before training: models, losses and data that do not fit one another."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError, DataError
from dr_keras.meta.checks import at_least, probe_batch
from dr_keras.meta.estimators import Recompute


def constant_rater(outputs: int):
    def build():
        x = keras.Input((3,), name="x")
        return keras.Model({"x": x}, keras.layers.Dense(outputs)(x), name="wide")

    return build


def tokens_with(example_set, name, *, largest=8, length=6):
    tokens = np.ones((30, length), np.int32)
    tokens[17, 2] = largest  # neither first nor last
    return example_set({"tokens": tokens}, name)


@pytest.mark.parametrize("part", ["train", "outer"])
def test_a_token_beyond_the_vocabulary_is_found_wherever_it_is(
    part, text_trainer, text_sets, example_set
):
    sets = dict(zip(("train", "outer"), text_sets))
    sets[part] = tokens_with(example_set, part, largest=9)
    with pytest.raises(
        ConfigurationError,
        match=rf"The rater 'text_rater' does not take the examples of '{part}' \(tokens: int32"
        r" \(6,\), values 1 to 9\): .*indices.* = 9 is not in \[0, 9\).*vocabulary",
    ):
        text_trainer().fit(sets["train"], sets["outer"], 1)


def test_the_inner_models_vocabulary_is_checked_too(text_trainer, example_set, monkeypatch):
    sets = [tokens_with(example_set, name, largest=20) for name in ("train", "outer")]
    trainer = text_trainer()
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    trainer.rater = keras.Model(
        {"tokens": tokens}, keras.ops.mean(keras.ops.cast(tokens, "float32"), axis=1)
    )
    with pytest.raises(ConfigurationError, match="The inner model 'language_model' does not take"):
        trainer.fit(*sets, 1)


@pytest.mark.parametrize(
    "length, what",
    [
        (4, r"inner model.*expected shape=\(None, 6\), found shape=\(\d+, 4\)"),
        (9, r"rater.*Expected size\[0\] in \[0, 6\], but got 9"),
    ],
)
def test_a_wrong_sequence_length_is_named(length, what, text_trainer, example_set):
    """A rater takes shorter windows than it was built for, the inner model does not."""
    sets = [tokens_with(example_set, name, length=length) for name in ("train", "outer")]
    with pytest.raises(
        ConfigurationError,
        match=rf"does not take the examples of 'train' \(tokens: int32 \({length},\)"
        r".*sequence length those of the data",
    ) as caught:
        text_trainer().fit(*sets, 1)
    assert re.search(what, str(caught.value))


def test_a_missing_feature_is_named(regression_trainer, example_set):
    sets = [example_set({"y": np.zeros((20, 3), np.float32)}, n) for n in ("train", "outer")]
    with pytest.raises(ConfigurationError, match="The rater 'rater' does not take the examples of"):
        regression_trainer().fit(*sets, 1)


def test_two_scores_an_example_are_refused(regression_trainer, regression_sets):
    trainer = regression_trainer(rater=constant_rater(2))
    with pytest.raises(
        ConfigurationError,
        match=r"The rater 'wide' gave an output of shape \(2, 2\) for 2 examples: it must give one"
        r" score an example, \[B\] or \[B, 1\]",
    ):
        trainer.fit(*regression_sets, 1)


@pytest.mark.parametrize(
    "loss, shape",
    [
        (lambda outputs, batch: tf.reduce_mean(tf.square(outputs - batch["target"])), r"\(\)"),
        (lambda outputs, batch: tf.square(outputs - batch["target"]), r"\(2, 1\)"),
        (keras.losses.MeanSquaredError(), r"\(\)"),
    ],
    ids=["mean", "column", "keras"],
)
def test_a_loss_must_be_one_number_an_example(loss, shape, regression_trainer, regression_sets):
    def my_loss(outputs, batch):
        if isinstance(loss, keras.losses.Loss):
            return loss(batch["target"], outputs)
        return loss(outputs, batch)

    trainer = regression_trainer(per_example_loss=my_loss)
    with pytest.raises(
        ConfigurationError,
        match=rf"The loss my_loss gave shape {shape} for 2 examples: .*\(2,\).*reduction='none'",
    ):
        trainer.fit(*regression_sets, 1)


def test_nothing_has_moved_when_a_check_fails(regression_trainer, regression_sets):
    trainer = regression_trainer(rater=constant_rater(2))
    with pytest.raises(ConfigurationError):
        trainer.fit(*regression_sets, 1)
    assert int(trainer.meta_step) == 0 and trainer.population.ages() == [0, 0]


def test_probe_rows_hold_the_extremes_of_whole_numbers():
    tokens = np.full((50, 3), 5)
    tokens[31, 1], tokens[12, 2] = 99, -4
    batch = probe_batch({"tokens": tokens, "x": np.arange(50.0)})
    assert batch["tokens"].numpy().max() == 99 and batch["tokens"].numpy().min() == -4
    assert set(batch["x"].numpy()) == {0.0, 1.0, 12.0, 31.0}
    assert probe_batch({"x": np.zeros((1, 2))})["x"].shape == (1, 2)


@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, None, "2", float("nan")])
def test_whole_numbers_of_at_least_one(value):
    with pytest.raises(ConfigurationError, match="size is .* a whole number of at least 1"):
        at_least("size", value, 1)


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_good_numbers_pass_down_to_the_least(value):
    at_least("size", value, value)
    with pytest.raises(ConfigurationError, match=f"size is {value}: .* of at least {value + 1}"):
        at_least("size", value, value + 1)


@pytest.mark.parametrize(
    "parts, batches, message",
    [
        (5, (32, 32), "inner batch of 32 examples (MetaTrainer.inner_batch_size): make it 4 or 8,"),
        (16, (32, 24), "outer batch of 24 examples (MetaTrainer.outer_batch_size): make it 8,"),
        (3, (7, 21), "inner batch of 7 examples (MetaTrainer.inner_batch_size): make it 1 or 7,"),
        (99, (8, 8), "make it 8, or the batch a multiple of 99."),
    ],
)
def test_parts_that_do_not_divide_the_batches_are_refused_before_anything_is_traced(
    parts, batches, message, regression_trainer
):
    sizes = dict(zip(("inner_batch_size", "outer_batch_size"), batches))
    with pytest.raises(ConfigurationError) as caught:
        regression_trainer(estimator=Recompute(micro_batches=parts), **sizes)
    said = str(caught.value)
    assert said.startswith(f"Recompute.micro_batches is {parts}, which does not divide the ")
    assert message in said


def test_an_error_of_a_traced_function_reaches_the_user_as_it_was_raised(
    regression_trainer, regression_sets
):
    def loss(outputs, batch):
        if not tf.executing_eagerly():
            raise DataError("the loss does not like these examples")
        return tf.reduce_mean(tf.square(outputs - batch["target"]), axis=-1)

    trainer = regression_trainer(per_example_loss=loss, population_size=1, unroll_length=1)
    with pytest.raises(DataError) as caught:
        trainer.fit(*regression_sets, 1)
    assert str(caught.value) == "the loss does not like these examples"
