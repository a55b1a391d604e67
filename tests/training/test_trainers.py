import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.columns import Joined
from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream
from dr_keras.errors import ConfigurationError, DataError, NonFiniteError
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.models.losses import next_token_loss, next_token_sums, token_loss
from dr_keras.models.text_models import language_model
from dr_keras.training import batches
from dr_keras.training.target_counts import count_targets
from dr_keras.training.trainers import LanguageModelTrainer, example_sums

LENGTH, VOCABULARY = 12, 17


def model_fn(dropout=0.1):
    return language_model(VOCABULARY, LENGTH, width=16, layer_count=1, heads=2, dropout=dropout)


def examples(count, seed=0, name="train"):
    """Rows that count upwards from a random start; some are shorter and padded."""
    rng = np.random.default_rng(seed)
    tokens = (rng.integers(0, 16, (count, 1)) + np.arange(LENGTH)) % 16 + 1
    tokens[::5, LENGTH // 2 :] = 0
    sources = np.array(["even" if k % 2 == 0 else "odd" for k in range(count)], object)
    ids = np.array([f"{name}{k}#0" for k in range(count)], object)
    return ExampleSet({"tokens": tokens.astype(np.int32)}, ids, sources, sources, name=name)


@pytest.fixture(scope="module")
def trainer():
    return LanguageModelTrainer(
        model_fn, steps=40, batch_size=8, learning_rate=1e-2, evaluate_every=10
    )


@pytest.fixture(scope="module")
def cells(trainer):
    """Three cells; the first and the last are the same."""
    test = examples(21, 1, "test")
    seen = []
    first = trainer.train(examples(50), test, 3, lambda *args: seen.append(args))
    other = trainer.train(examples(64, 5), test, 4)
    again = trainer.train(examples(50), test, 3)
    return first, other, again, seen, test


def test_training_learns_and_evaluates_where_asked(cells):
    first, other, _, _, _ = cells
    assert [step for step, _ in first.curve] == [0, 10, 20, 30, 40]
    assert [step for step, _ in first.train_curve] == [10, 20, 30, 40]
    assert first.curve[0][1] == pytest.approx(math.log(VOCABULARY), abs=0.05)
    assert first.curve[-1][1] < 1.2
    assert other.curve[0][1] != first.curve[0][1]


def test_all_cells_share_one_compiled_step(trainer, cells):
    assert trainer.traces == {"train": 1, "evaluation": 1}


def test_a_cell_does_not_depend_on_the_cells_before_it(cells):
    first, other, again, _, _ = cells
    assert again.curve == first.curve
    assert again.train_curve == first.train_curve


def test_record_counts_tokens(cells):
    first, _, _, _, _ = cells
    train = examples(50)
    targets = np.array([sum(1 for t in row[1:] if t) for row in train.features["tokens"]])
    stream = BatchStream(train, 8, 3)
    assert first.unique_tokens == targets.sum()
    assert first.tokens_seen == sum(targets[stream.indices(k)].sum() for k in range(40))
    assert first.epochs == pytest.approx(40 * 8 / 50)
    assert first.examples == 50


def test_progress_is_reported_between_and_at_evaluations(cells):
    seen = cells[3]
    assert seen[0][0] == 0 and "test_loss" in seen[0][2]
    assert seen[-1][:2] == (40, 40)
    assert [step for step, _, _ in seen] == sorted({step for step, _, _ in seen})


def test_losses_weigh_real_tokens(trainer, cells):
    again, test = cells[2], cells[4]
    sums, counts = trainer.losses(test)
    tokens = test.features["tokens"]
    logits = trainer.model({"tokens": tf.constant(tokens)}, training=False).numpy()
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = [
        -sum(log_p[i, j, row[j + 1]] for j in range(LENGTH - 1) if row[j + 1])
        for i, row in enumerate(tokens)
    ]
    np.testing.assert_allclose(sums, expected, rtol=1e-4)
    np.testing.assert_array_equal(counts, count_targets(test))
    assert again.curve[-1][1] == pytest.approx(np.sum(expected) / counts.sum(), rel=1e-5)
    even = np.arange(len(test)) % 2 == 0
    assert again.final_by_source == {
        "even": pytest.approx(sums[even].sum() / counts[even].sum()),
        "odd": pytest.approx(sums[~even].sum() / counts[~even].sum()),
    }


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_fit_takes_the_steps_of_a_plain_loop(share):
    """A run equals the textbook loop with Keras' AdamW and the documented schedule."""
    train, test = examples(40), examples(8, 1, "test")
    build = lambda: model_fn(dropout=0.0)  # noqa: E731
    trainer = LanguageModelTrainer(
        build,
        steps=8,
        batch_size=4,
        learning_rate=1e-2,
        warmup_steps=2,
        evaluate_every=4,
        weight_decay=0.1,
        clip_norm=1.0,
        jit_compile=False,
    )
    trainer.train(train, test, 0, steps_share=0.5 if share == 1 else 1.0)  # leaves nothing behind
    trainer.train(train, test, 0, steps_share=share)
    trained = [v.numpy() for v in trainer.model.trainable_variables]
    trainer.reset(0)
    model = trainer.model
    optimizer = keras.optimizers.AdamW(0.0, weight_decay=0.1, global_clipnorm=1.0)
    stream = BatchStream(train, 4, 0)
    for step in range(round(8 * share)):
        place = step / share  # in the whole schedule
        cosine = 0.1 + 0.9 * (1 + math.cos(math.pi * (place - 2) / 6)) / 2
        optimizer.learning_rate = 1e-2 * (place / 2 if place < 2 else cosine)
        batch = {name: tf.constant(v) for name, v in stream.batch(step).items()}
        with tf.GradientTape() as tape:
            sums, counts = next_token_sums(model(batch, training=True), batch)
            loss = tf.reduce_sum(sums) / tf.reduce_sum(counts)
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
    for got, expected in zip(trained, model.trainable_variables):
        np.testing.assert_allclose(got, expected.numpy(), atol=2e-5)


def test_training_goes_on_from_given_weights(trainer, cells):
    test = cells[-1]
    first = trainer.train(examples(50), test, 3)
    learned = trainer.model.get_weights()
    on = trainer.train(examples(64, 5), test, 4, initial=learned)
    assert on.curve[0][1] == first.curve[-1][1]  # begins where the other ended
    assert on.curve[-1][1] < first.curve[-1][1]
    # nothing but the weights is taken over: the optimizer and dropout are those of the seed
    trainer.train(examples(50), test, 9)
    again = trainer.train(examples(64, 5), test, 4, initial=learned)
    assert again.curve == on.curve and trainer.traces == {"train": 1, "evaluation": 1}
    with pytest.raises(ConfigurationError, match="weights to go on from do not fit the model"):
        trainer.train(examples(50), test, initial=learned[:-1])


class Failing(Joined):
    """A column whose rows cannot be read any more after so many times."""

    reads = 10**9

    def read(self, rows):
        self.reads -= 1
        if self.reads < 0:
            raise DataError("tokens-00001-of-00003.npy is cut short")
        return super().read(rows)


def test_columns_and_large_sets_are_read_ahead_and_train_alike(trainer, cells, monkeypatch):
    first, test = cells[0], cells[-1]
    train = examples(50)
    tokens = train.features["tokens"].astype(np.uint8)
    column = Failing([tokens[:20], tokens[20:]], np.int32)
    on_disk = dataclasses.replace(train, features={"tokens": column})
    test_on_disk = dataclasses.replace(
        test, features={"tokens": Joined([test.features["tokens"]], np.int32)}
    )
    alike = lambda record: dataclasses.replace(record, seconds=0)  # noqa: E731
    assert alike(trainer.train(on_disk, test_on_disk, 3)) == alike(first)
    monkeypatch.setattr(batches, "_KEPT", 0)
    monkeypatch.setattr(trainer, "read_ahead", 0)
    assert alike(trainer.train(train, test, 3)) == alike(first)
    assert trainer.traces == {"train": 1, "evaluation": 1}
    # what could not be read is said as it was said
    monkeypatch.setattr(column, "reads", 15, raising=False)
    with pytest.raises(DataError, match="^tokens-00001-of-00003.npy is cut short$"):
        trainer.train(on_disk, test, 3)


def test_a_stream_of_ones_own_decides_the_batches(trainer):
    class FirstRows:
        examples = examples(50)

        def indices(self, step):
            return np.arange(8)

    record = trainer.train(FirstRows(), examples(8, 1, "test"), 0)
    assert record.tokens_seen == 40 * count_targets(FirstRows.examples)[:8].sum()
    FirstRows.indices = lambda self, step: np.arange(5)
    with pytest.raises(ConfigurationError, match="batches of 5"):
        trainer.train(FirstRows(), examples(8, 1, "test"), 0)


def test_the_fingerprint_follows_model_and_settings(trainer):
    same = LanguageModelTrainer(
        model_fn, steps=40, batch_size=8, learning_rate=1e-2, evaluate_every=10
    )
    slower = LanguageModelTrainer(
        model_fn, steps=40, batch_size=8, learning_rate=5e-3, evaluate_every=10
    )
    heads = LanguageModelTrainer(
        lambda: language_model(VOCABULARY, LENGTH, 16, 1, heads=4, dropout=0.1),
        steps=40,
        batch_size=8,
        learning_rate=1e-2,
        evaluate_every=10,
    )
    assert trainer.fingerprint == same.fingerprint
    assert len({trainer.fingerprint, slower.fingerprint, heads.fingerprint}) == 3


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(steps=0), "at least 1"),
        (dict(learning_rate=0.0), "above 0"),
        (dict(steps=10, evaluate_every=4), "must divide steps"),
        (dict(steps=10, warmup_steps=10), "below steps"),
        (dict(steps=10, evaluate_every=5, steps_per_execution=2), "must divide evaluate_every"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        LanguageModelTrainer(model_fn, **settings)


def test_several_workers_are_sent_to_share_cells():
    """One process with several devices is tested in tests/distribution."""

    class Workers(OneDevice):
        worker_count = 2

    with pytest.raises(ConfigurationError, match="same command on every machine with one --base"):
        LanguageModelTrainer(model_fn, strategy=Workers())


@pytest.mark.parametrize("share", [0.3, 0.0, 1.5])
def test_a_share_of_the_steps_ends_at_an_evaluation(trainer, share):
    with pytest.raises(ConfigurationError, match="of 40 steps must be a whole number of evalu"):
        trainer.train(examples(40), examples(8), steps_share=share)


def test_bad_data_and_non_finite_losses(trainer):
    with pytest.raises(DataError, match="7 examples.*one batch of 8"):
        trainer.train(examples(7), examples(8), 0)
    blank = examples(8)
    blank.features["tokens"][:] = 0
    with pytest.raises(DataError, match="nothing to predict"):
        trainer.train(examples(50), blank, 0)
    with pytest.raises(DataError, match="empty"):
        trainer.train(examples(50), examples(8).take(slice(0, 0)), 0)
    wild = LanguageModelTrainer(
        lambda: model_fn(0.0),
        steps=4,
        batch_size=8,
        learning_rate=1e30,
        clip_norm=None,
        warmup_steps=0,
        evaluate_every=2,
        jit_compile=False,
    )
    with pytest.raises(NonFiniteError, match="step 2 of 4"):
        wild.train(examples(50), examples(8), 0)


def test_losses_by_token_are_summed_over_their_tokens_and_others_over_examples():
    batch = {"tokens": tf.constant(examples(6).features["tokens"])}
    logits = tf.constant(np.random.default_rng(0).normal(size=(6, LENGTH, VOCABULARY)), tf.float32)
    for found, expected in zip(
        example_sums(logits, batch, token_loss), next_token_sums(logits, batch)
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    losses, counts = example_sums(logits, batch, next_token_loss)
    np.testing.assert_allclose(losses, next_token_loss(logits, batch))
    assert counts.numpy().tolist() == [1] * 6
