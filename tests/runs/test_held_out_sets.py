"""Runs with several held-out sets, and runs that go on from the rater of another."""

import functools
import json

import keras
import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.questions import choice_set
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.meta.callbacks import read_metrics
from dr_keras.models.losses import next_token_loss, squared_error
from dr_keras.models.text_models import language_model, text_rater
from dr_keras.runs.experiment import experiment
from dr_keras.runs.export import export_run
from dr_keras.runs.meta_training import meta_train
import gin

BINDINGS = """
    MetaTrainer.inner_optimizer = @adam()
    MetaTrainer.outer_optimizer = @OuterAdam()
    MetaTrainer.jit_compile = False
    MetaTrainer.lifetime = 40
    OuterAdam.clip_norm = 1.0
"""
LENGTH = 24


def example_set(features, name):
    ids = np.array([f"{name}-{row}" for row in range(len(next(iter(features.values()))))], object)
    return ExampleSet(features, ids, ids, ids, name=name)


# ----------------------------------------------------------------------------------- several sets


def words(name, count, seed):
    letters = np.random.default_rng(seed).integers(100, 120, (count, LENGTH))
    return example_set({"tokens": letters.astype(np.int32)}, name)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    path = tmp_path_factory.mktemp("questions") / "pick.jsonl"
    lines = [{"context": f"{n} and", "choices": ["more", "less"], "gold": n % 2} for n in range(12)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return functools.partial(choice_set, str(path), byte_tokenizer(), LENGTH)


def text_experiment(questions):
    parts = Parts(*(words(n, 12, k) for k, n in enumerate(("train", "outer", "val", "test"))))
    model = functools.partial(language_model, 258, LENGTH, width=4, layer_count=1, heads=1)
    rater = functools.partial(text_rater, 258, LENGTH, width=4, layer_count=1, heads=1)
    return experiment(parts, rater, model, next_token_loss, outer_sets={"pick": questions})


def test_a_set_of_questions_beside_one_of_text(questions, tmp_path):
    gin.parse_config(
        BINDINGS
        + """
        MetaTrainer.objective = {'pick': @choice_loss()}
        MetaTrainer.combination = @weighted_mean()
        weighted_mean.weights = {'outer': 1.0, 'pick': 3.0}
        MetaTrainer.unroll_length = 1
        MetaTrainer.population_size = 1
        MetaTrainer.inner_batch_size = 4
        MetaTrainer.outer_batch_size = 4
        """
    )
    setup = text_experiment(questions)
    meta_train(tmp_path, setup, meta_steps=2, evaluate=False)
    first = read_metrics(tmp_path, "step")[0]["members"]
    # an untrained model picks either of two choices: log 2; and any of 258 bytes: log 258
    assert first["outer_loss/pick"][0] == pytest.approx(np.log(2), abs=0.05)
    assert first["outer_loss/outer"][0] == pytest.approx(np.log(258), abs=0.3)
    both = (first["outer_loss/outer"][0] + 3 * first["outer_loss/pick"][0]) / 4
    assert first["outer_loss"][0] == pytest.approx(both, rel=1e-5)
    recorded = json.loads((tmp_path / "run.json").read_text())
    assert recorded["data_fingerprint"] == setup.parts.fingerprint


@pytest.mark.parametrize(
    "binding, message",
    [
        ("MetaTrainer.objective = {'pik': @choice_loss()}", "objective has 'pik', .* outer, pick:"),
        (
            "MetaTrainer.combination = @weighted_mean()\nweighted_mean.weights = {'outer': 1.0}",
            "weights names the sets outer, and the held-out sets are outer, pick",
        ),
    ],
    ids=["objective", "weights"],
)
def test_names_of_sets_that_are_not_there(questions, tmp_path, binding, message):
    gin.parse_config(f"{BINDINGS}\n{binding}\nMetaTrainer.inner_batch_size = 4")
    with pytest.raises(ConfigurationError, match=message):
        meta_train(tmp_path, text_experiment(questions), meta_steps=1, evaluate=False)
    assert not (tmp_path / "checkpoints").exists()


# --------------------------------------------------------------------------- going on from a rater


def prices(name, count, wrong_by, seed):
    """Rows of a linear relation; in the first 40% of them the target is off by `wrong_by`."""
    x = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    target = x @ np.array([[1.0], [-2.0], [0.5]], np.float32)
    target[: int(0.4 * count)] += wrong_by
    return example_set({"x": x, "target": target}, name)


def price_parts(wrong_by, seed):
    held_out = (prices(f"{n}{seed}", 64, 0, 10 * seed + k) for k, n in enumerate("ovt"))
    return Parts(prices(f"train{seed}", 200, wrong_by, 10 * seed + 5), *held_out)


def price_rater():
    x, y = keras.Input((3,), name="x"), keras.Input((1,), name="target")
    hidden = keras.layers.Dense(16, activation="tanh")(keras.layers.Concatenate()([x, y]))
    score = keras.layers.Dense(1, kernel_initializer="zeros")(hidden)
    return keras.Model({"x": x, "target": y}, score, name="rater")


def price_model():
    x = keras.Input((3,), name="x")
    return keras.Model({"x": x}, keras.layers.Dense(1)(x), name="linear")


def price_run(base_dir, parts, meta_steps, **options):
    setup = experiment(parts, price_rater, price_model, squared_error, **options)
    return meta_train(base_dir, setup, meta_steps, steps_per_epoch=1000, evaluate=False)


def scores(rater, examples):
    return np.ravel(rater(examples.features))


def kept_of_wrong(rater, train):
    """The share of wrong rows in the better half by scores; 0.4 says nothing."""
    order = np.argsort(-scores(rater, train))
    return float(np.mean(order[: len(train) // 2] < 0.4 * len(train)))


@pytest.fixture
def small_price_runs():
    gin.parse_config(
        BINDINGS
        + """
        MetaTrainer.unroll_length = 2
        MetaTrainer.population_size = 2
        MetaTrainer.inner_batch_size = 16
        MetaTrainer.outer_batch_size = 16
        adam.learning_rate = 0.03
        OuterAdam.learning_rate = 0.02
        OuterAdam.warmup = 10
        """
    )


def test_a_rater_goes_on_from_where_it_stands(tmp_path, small_price_runs):
    old, new = price_parts(4.0, 1), price_parts(-4.0, 2)
    first = price_run(tmp_path / "old", old, 3).rater
    setup = functools.partial(
        experiment, rater=price_rater, inner_model=price_model, per_example_loss=squared_error
    )
    exported = export_run(tmp_path / "old", "latest", setup(old))
    expected = scores(first, new.train)
    assert len(set(expected.tolist())) > 1
    for place in (str(tmp_path / "old"), exported):
        started = setup(new, initial_rater=place).rater
        np.testing.assert_array_equal(scores(started, new.train), expected)
    price_run(tmp_path / "new", new, 2, initial_rater=exported)
    # where it came from is not needed to export it
    gone = {"data": new, "rater": price_rater, "inner_model": price_model}
    gone |= {"per_example_loss": squared_error, "initial_rater": str(tmp_path / "gone")}
    for argument, value in gone.items():
        gin.bind_parameter(f"experiment.{argument}", value)
    assert export_run(tmp_path / "new", "latest").endswith("new/export/1")
    with pytest.raises(CheckpointError, match="gone holds no rater"):
        experiment()


@pytest.mark.long
def test_a_rater_that_goes_on_learns_the_new(tmp_path, small_price_runs):
    old, new = price_parts(4.0, 1), price_parts(-4.0, 2)
    first = price_run(tmp_path / "old", old, 120).rater
    assert kept_of_wrong(first, old.train) < 0.2  # it knows what was wrong with the old
    before = kept_of_wrong(first, new.train)
    assert before > 0.6  # and takes what is wrong with the new for good
    from_old = str(tmp_path / "old")
    second = price_run(tmp_path / "new", new, 120, initial_rater=from_old).rater
    losses = [step["outer_loss"] for step in read_metrics(tmp_path / "new", "step")]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])  # 20 steps: one life of a member
    assert kept_of_wrong(second, new.train) < before - 0.1  # 0.16 to 0.38 less, by eight seeds
