"""What is checked before meta-training: ranges, models against data, and layers."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError, DataError
from dr_keras.meta.checks import at_least, models_fit, probe_batch
from dr_keras.meta.combinations import weighted_mean
from dr_keras.meta.estimators import Recompute
from dr_keras.meta.weighting import example_softmax, token_softmax
from dr_keras.models.losses import token_loss
from dr_keras.models.objectives import smooth_accuracy
from dr_keras.models.text_models import text_rater


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
    model = {"train": "rater 'text_rater'", "outer": "inner model 'language_model'"}[part]
    with pytest.raises(
        ConfigurationError,
        match=rf"The {model} does not take the examples of '{part}' \(tokens: int32"
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


def model_of(*layers):
    """An inner model of the regression toy: the layers, then one output."""

    def build():
        x = keras.Input((3,), name="x")
        hidden = x
        for layer in layers:
            hidden = layer()(hidden)
        return keras.Model({"x": x}, keras.layers.Dense(1)(hidden), name="mine")

    return build


class Rounds(keras.layers.Layer):
    def call(self, x):
        return tf.round(x)


class Counts(keras.layers.Layer):
    """Keeps a TensorFlow variable that Keras does not see."""

    def __init__(self):
        super().__init__()
        self.calls = tf.Variable(0.0, trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


class HasUnusedWeight(keras.layers.Layer):
    def build(self, shape):
        self.spare = self.add_weight(shape=(2,), name="spare")

    def call(self, x):
        return x


class UsesItRounded(HasUnusedWeight):
    def call(self, x):
        return x + tf.reduce_sum(tf.round(100 * self.spare))


class NormalisesLocally(keras.layers.Layer):
    """TensorFlow's local response normalisation has a first derivative and no second."""

    def call(self, x):
        return tf.nn.local_response_normalization(x[:, None, None, :])[:, 0, 0, :]


def test_a_layer_without_derivative_is_found(regression_trainer, regression_sets):
    build = model_of(lambda: keras.layers.Dense(4, name="first"), Rounds)
    trainer = regression_trainer(inner_model=build)
    with pytest.raises(
        ConfigurationError,
        match=r"The weight 'first/kernel' of the inner model 'mine' changes the result but gets no"
        r" gradient: .*rounding",
    ):
        trainer.fit(*regression_sets, 1)
    assert int(trainer.meta_step) == 0


def test_a_rater_without_derivative_is_found(regression_trainer, regression_sets):
    def rater():
        x = keras.Input((3,), name="x")
        hidden = Rounds()(keras.layers.Dense(2, name="inside")(x))
        return keras.Model({"x": x}, keras.layers.Dense(1)(hidden), name="steps")

    with pytest.raises(ConfigurationError, match="'inside/kernel' of the rater 'steps' changes"):
        regression_trainer(rater=rater).fit(*regression_sets, 1)


def test_weights_that_nothing_depends_on_are_fine(regression_trainer, regression_sets):
    trainer = regression_trainer(inner_model=model_of(HasUnusedWeight))
    assert sum("spare" in v.path for v in trainer.inner_model.trainable_variables) == 1
    train, outer = regression_sets
    models_fit(trainer, train, {"outer": outer})
    # the same weight, once the result depends on it
    trainer = regression_trainer(inner_model=model_of(UsesItRounded))
    with pytest.raises(ConfigurationError, match="spare' of the inner model 'mine' changes the"):
        models_fit(trainer, train, {"outer": outer})


def test_a_missing_second_derivative_is_explained(regression_trainer, regression_sets):
    build = model_of(lambda: keras.layers.Dense(4), NormalisesLocally)
    trainer = regression_trainer(inner_model=build, jit_compile=False)
    with pytest.raises(ConfigurationError, match="no second derivative in TensorFlow.*LRNGrad"):
        trainer.fit(*regression_sets, 1)


def test_other_errors_keep_their_type(regression_trainer, regression_sets, monkeypatch):
    trainer = regression_trainer()
    monkeypatch.setattr(trainer, "_one_step", lambda *args: {}["a defect"])
    with pytest.raises(KeyError, match="a defect"):
        trainer.fit(*regression_sets, 1)


def test_state_that_keras_does_not_know_is_refused(regression_trainer, regression_sets):
    with pytest.raises(
        ConfigurationError,
        match="'counts.*' of the inner model 'mine' holds the tf.Variable 'calls', .*add_weight",
    ):
        regression_trainer(inner_model=model_of(Counts)).fit(*regression_sets, 1)


def test_a_stateful_layer_is_refused(regression_trainer, regression_sets):
    def build():
        x = keras.Input(batch_shape=(5, 3), name="x")
        series = keras.layers.Reshape((3, 1))(x)
        hidden = keras.layers.SimpleRNN(2, stateful=True, name="memory")(series)
        return keras.Model({"x": x}, keras.layers.Dense(1)(hidden), name="recurrent")

    with pytest.raises(
        ConfigurationError, match="'memory' of the inner model 'recurrent' is stateful: .*=False"
    ):
        regression_trainer(inner_model=build).fit(*regression_sets, 1)


@pytest.mark.parametrize(
    "layer",
    [lambda: keras.layers.Dropout(0.5), keras.layers.BatchNormalization],
    ids=["dropout", "batch normalisation"],
)
def test_seeds_and_moving_statistics_are_part_of_the_state(
    layer, regression_trainer, regression_sets
):
    build = model_of(lambda: keras.layers.Dense(4), layer)
    trainer = regression_trainer(inner_model=build, jit_compile=False)
    member = trainer.population.members[0]
    before = [np.array(value) for value in member.state.statistics]
    trainer.fit(*regression_sets, 2)
    after = [np.array(value) for value in member.state.statistics]
    assert any((a != b).any() for a, b in zip(before, after))
    other = [np.array(value) for value in trainer.population.members[1].state.statistics]
    assert any((a != b).any() for a, b in zip(after, other))  # each member has its own


def test_floats_are_not_cut_to_whole_numbers(regression_trainer, regression_sets):
    def build():
        x = keras.Input((3,), name="x", dtype="uint8")
        return keras.Model({"x": x}, keras.layers.Dense(1)(keras.ops.cast(x, "float32")), name="m")

    with pytest.raises(
        ConfigurationError, match="'m' reads 'x' as uint8, and the examples have float32: .*cut"
    ):
        regression_trainer(inner_model=build).fit(*regression_sets, 1)


def test_labels_out_of_range_are_named(regression_trainer, example_set):
    from dr_keras.models.losses import classification_loss

    rng = np.random.default_rng(0)

    def build():
        x = keras.Input((3,), name="x")
        return keras.Model({"x": x}, keras.layers.Dense(4)(x), name="classifier")

    def sets(largest):
        label = rng.integers(0, 4, 30).astype(np.int32)
        label[17] = largest
        features = {"x": rng.normal(size=(30, 3)).astype(np.float32), "label": label}
        return {**features, "target": features["x"][:, :1]}

    train, outer = example_set(sets(7), "train"), example_set(sets(1), "outer")
    trainer = regression_trainer(inner_model=build, per_example_loss=classification_loss)
    with pytest.raises(
        ConfigurationError,
        match=r"The loss classification_loss fails on the examples of 'train' .*label: int32 \(\),"
        r" values 0 to 7.*label value of 7 which is outside the valid range of \[0, 4\)",
    ):
        trainer.fit(train, outer, 1)


def test_a_target_that_is_not_there_is_named(regression_trainer, example_set):
    x = np.ones((30, 3), np.float32)
    sets = [example_set({"x": x, "y": x[:, :1]}, name) for name in ("train", "outer")]

    def rater():
        features = keras.Input((3,), name="x")
        return keras.Model({"x": features}, keras.layers.Dense(1)(features))

    with pytest.raises(ConfigurationError, match="The loss .*fails on .*there is no 'target'"):
        regression_trainer(rater=rater).fit(*sets, 1)


# ------------------------------------------------------------------------- the opened core


def token_rater():
    return text_rater(9, 6, width=4, layer_count=1, heads=1, per_token=True)


@pytest.mark.parametrize(
    "rater, arguments, message",
    [
        (
            token_rater,
            {},
            r"The rater 'text_rater' gave an output of shape \(\d, 6\) .*must give one score an"
            " example.* next_token_loss is by example: to weigh tokens use @token_loss",
        ),
        (
            None,
            {"per_example_loss": token_loss, "weighting": token_softmax()},
            r"must give one score a token.* token_loss does: use a rater of tokens"
            r" \(text_rater.per_token = True\)",
        ),
        (
            token_rater,
            {"per_example_loss": token_loss},
            "The weighting example_softmax is by example and the loss token_loss is by token: set"
            r" MetaTrainer.weighting = @token_softmax\(\)",
        ),
        (
            None,
            {"weighting": token_softmax()},
            "The weighting token_softmax is by token and the loss next_token_loss is by example",
        ),
        (
            lambda: text_rater(9, 6, width=4, layer_count=1, heads=1, features=["reference_loss"]),
            {},
            "reads reference_loss, and there is neither a reference model nor a column",
        ),
        (
            lambda: text_rater(9, 6, width=4, layer_count=1, heads=1, features=["inner_loss"]),
            {"per_example_loss": token_loss},
            "reads losses by example, and the loss is by token: use a rater of tokens",
        ),
        (
            None,
            {"objective": lambda model, batch: model(batch)},
            r"The objective <lambda> gave shape \(.*it must give Terms\(sums, counts\) or one num",
        ),
        (
            None,
            {"objective": smooth_accuracy(), "combination": weighted_mean({"other": 1.0})},
            "weights names the sets other, and the held-out sets are outer",
        ),
    ],
)
def test_what_does_not_go_together_is_named(rater, arguments, message, text_trainer, text_sets):
    build = {"rater": rater} if rater else {}
    with pytest.raises(ConfigurationError, match=message):
        text_trainer(**build, **arguments).fit(*text_sets, 1)


def test_tokens_that_nobody_counts_are_named(regression_trainer, regression_sets):
    trainer = regression_trainer(weighting=example_softmax(count_tokens=True))
    with pytest.raises(ConfigurationError, match="the loss squared_error does not say how many"):
        trainer.fit(*regression_sets, 1)


@pytest.mark.parametrize("part", ["train", "outer"])
def test_a_loss_that_is_not_finite_at_the_start_is_named(part, regression_trainer, regression_sets):
    sets = dict(zip(("train", "outer"), regression_sets))
    sets[part].features["target"][0] = np.nan
    what = {"train": "The loss squared_error", "outer": "The objective mean_loss"}[part]
    with pytest.raises(
        ConfigurationError, match=rf"{what} is not finite on examples of '{part}' before any train"
    ):
        regression_trainer().fit(*sets.values(), 1)
