"""Meta-evaluation: only the rater makes a difference, and a better one gives a lower loss."""

import keras
import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream
from dr_keras.errors import ConfigurationError, DataError, NonFiniteError
from dr_keras.meta.optimizers import sgd
from dr_keras.meta.seeds import derive_seed
from dr_keras.models.losses import next_token_loss, squared_error
from dr_keras.training.meta_evaluation import MetaEvaluation


def regression_set(name: str, count: int, lying: float, seed: int) -> ExampleSet:
    """y = 2 x0 - x1; a share of the targets has the other sign, and `lies` says which."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 2)).astype(np.float32)
    lies = (rng.random(count) < lying).astype(np.float32)
    target = (x @ np.array([2.0, -1.0], np.float32)) * (1 - 2 * lies)
    names = np.array([f"{name}-{row}" for row in range(count)], object)
    return ExampleSet(
        {"x": x, "target": target, "lies": lies[:, None]}, names, names, names, name=name
    )


def inner_model() -> keras.Model:
    x = keras.Input((2,), name="x")
    return keras.Model({"x": x}, keras.layers.Dense(1)(x))


@pytest.fixture
def rater() -> keras.Model:
    """Scores are `kernel` times whether the target lies."""
    lies = keras.Input((1,), name="lies")
    score = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(lies)
    return keras.Model({"lies": lies}, score)


def evaluation_of(rater, train=None, validation=None, **arguments) -> MetaEvaluation:
    settings = dict(
        optimizer=sgd(0.1),
        updates=20,
        batch_size=8,
        discard_fraction=0.5,
        validation_size=50,
        jit_compile=False,
    )
    return MetaEvaluation(
        rater,
        regression_set("train", 200, 0.45, 0) if train is None else train,
        regression_set("validation", 90, 0.0, 1) if validation is None else validation,
        inner_model,
        squared_error,
        **(settings | arguments),
    )


def test_an_oracle_beats_random_selection_and_its_opposite_loses(rater):
    evaluation = evaluation_of(rater)
    losses = {}
    for name, kernel in (("oracle", -1.0), ("worst", 1.0)):
        rater.trainable_variables[0].assign([[kernel]])
        losses[name] = evaluation()["validation_loss"]
        losses["random"] = evaluation(use_scores=False)["validation_loss"]
    assert losses["oracle"] < 0.1 * losses["random"]
    assert losses["worst"] > 2 * losses["random"]


def test_the_same_rater_gives_the_same_figure(rater):
    rater.trainable_variables[0].assign([[-1.0]])
    evaluation = evaluation_of(rater)
    first = evaluation()
    keras.utils.set_random_seed(3)  # of no account
    assert evaluation() == first
    assert evaluation_of(rater)() == first
    assert evaluation(use_scores=False) != first
    assert evaluation_of(rater, seed=1)() != first


def test_random_selection_does_not_look_at_the_rater(rater):
    evaluation = evaluation_of(rater)
    figures = set()
    for kernel in (-1.0, 0.0, 1.0):
        rater.trainable_variables[0].assign([[kernel]])
        figures.add(evaluation(use_scores=False)["validation_loss"])
    assert len(figures) == 1


def test_repeats_are_the_mean_of_trainings_that_differ(rater):
    rater.trainable_variables[0].assign([[-1.0]])
    single = evaluation_of(rater, seed=5)()["validation_loss"]
    pair = evaluation_of(rater, seed=5, repeats=2)()["validation_loss"]
    other = evaluation_of(rater, seed=derive_seed(5, "repeat", 1))()["validation_loss"]
    assert single != other
    assert pair == pytest.approx((single + other) / 2)


def test_the_reference_is_a_random_choice_trained_once(rater, monkeypatch):
    rater.trainable_variables[0].assign([[-1.0]])
    evaluation = evaluation_of(rater)
    trained = []
    once = evaluation.row_losses
    monkeypatch.setattr(
        evaluation, "row_losses", lambda k, rated: trained.append(rated) or once(k, rated)
    )
    expected = {
        "validation_loss": evaluation()["validation_loss"],
        "random_validation_loss": evaluation(use_scores=False)["validation_loss"],
    }
    trained.clear()
    assert evaluation.beside_random() == evaluation.beside_random() == expected
    assert trained == [False, True, True]


def test_evaluating_leaves_the_rater_and_random_states_alone(rater):
    rater.trainable_variables[0].assign([[0.25]])
    evaluation = evaluation_of(rater)
    keras.utils.set_random_seed(3)
    expected = (np.random.random(), keras.random.uniform((2,)).numpy().tolist())
    keras.utils.set_random_seed(3)
    evaluation()
    assert (np.random.random(), keras.random.uniform((2,)).numpy().tolist()) == expected
    assert rater.trainable_variables[0].numpy().tolist() == [[0.25]]


def test_the_loss_is_that_of_a_model_trained_by_hand(rater):
    """One update on the best half of the first batch, then the mean over all rows."""
    from dr_keras.meta.population import initial_values

    rater.trainable_variables[0].assign([[-1.0]])
    train = regression_set("train", 200, 0.45, 0)
    validation = regression_set("validation", 90, 0.0, 1)
    found = evaluation_of(rater, train, validation, updates=1, seed=7, validation_size=90)()
    batch = BatchStream(train, 16, derive_seed(7, "meta-evaluation")).batch(0)
    kept = np.sort(np.argsort(batch["lies"][:, 0], kind="stable")[:8])
    (kernel, bias), _ = initial_values(inner_model, derive_seed(7, "meta-evaluation", "model"))
    kernel, bias = kernel.numpy(), bias.numpy()
    x, y = batch["x"][kept], batch["target"][kept]
    residual = (x @ kernel + bias)[:, 0] - y
    kernel = kernel - 0.1 * 2 * (x.T @ residual / 8)[:, None]
    bias = bias - 0.1 * 2 * residual.mean()
    rows = validation.features["x"], validation.features["target"]
    expected = np.mean(((rows[0] @ kernel + bias)[:, 0] - rows[1]) ** 2)
    assert found["validation_loss"] == pytest.approx(expected, rel=1e-4)


def test_a_padded_window_counts_for_the_tokens_it_holds():
    """Against a model worked out by hand: one logit vector for all positions, sgd."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 5, (40, 6)).astype(np.int32)
    tokens[::2, 3:] = 0  # every other window holds 2 targets, the rest 5
    names = np.array([f"d{row}" for row in range(40)], object)
    examples = ExampleSet({"tokens": tokens}, names, names, names, name="windows")

    def inner() -> keras.Model:
        read = keras.Input((6,), name="tokens", dtype="int32")
        logits = keras.layers.Embedding(1, 5, embeddings_initializer="zeros")(read * 0)
        return keras.Model({"tokens": read}, logits)

    read = keras.Input((6,), name="tokens", dtype="int32")
    score = keras.layers.Lambda(lambda t: keras.ops.cast(t[:, :1], "float32"))(read)
    evaluation = MetaEvaluation(
        keras.Model({"tokens": read}, score), examples, examples, inner, next_token_loss,
        optimizer=sgd(0.5), updates=1, batch_size=4, jit_compile=False,
    )  # fmt: skip
    sums, counts = evaluation.row_losses(0)
    batch = BatchStream(examples, 8, derive_seed(0, "meta-evaluation")).batch(0)["tokens"]
    kept = np.sort(np.argsort(-batch[:, 0], kind="stable")[:4])
    share = np.bincount(batch[kept][:, 1:].ravel(), minlength=5)[1:]
    logits = np.zeros(5)
    logits[1:] = 0.5 * share / share.sum()  # every token has the same say
    logits -= 0.5 / 5
    surprise = np.log(np.exp(logits).sum()) - logits
    targets = tokens[:, 1:]
    expected = np.where(targets > 0, surprise[targets], 0).sum(axis=1)
    np.testing.assert_allclose(sums, expected, rtol=1e-5)
    np.testing.assert_array_equal(counts, np.count_nonzero(targets, axis=1))
    assert evaluation.losses() == [pytest.approx(expected.sum() / counts.sum(), rel=1e-5)]


def test_compiled_equals_uncompiled(rater):
    rater.trainable_variables[0].assign([[-1.0]])
    plain = evaluation_of(rater)()["validation_loss"]
    compiled = evaluation_of(rater, jit_compile=True)()["validation_loss"]
    assert compiled == pytest.approx(plain, rel=1e-3)


def test_a_validation_set_smaller_than_a_batch_is_used_whole(rater):
    small = regression_set("validation", 5, 0.0, 1)
    assert np.isfinite(evaluation_of(rater, validation=small)()["validation_loss"])


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"updates": 0}, ConfigurationError, "MetaEvaluation.updates is 0"),
        ({"repeats": 0}, ConfigurationError, "MetaEvaluation.repeats is 0"),
        ({"discard_fraction": 1.0}, ConfigurationError, "1.0"),
        ({"batch_size": 150}, DataError, "'train' has 200 examples, fewer than one batch of 300"),
    ],
)
def test_impossible_settings_are_refused(arguments, error, message, rater):
    with pytest.raises(error, match=message):
        evaluation_of(rater, **arguments)


def test_an_empty_validation_part_is_refused(rater):
    empty = regression_set("validation", 5, 0.0, 1).take([])
    with pytest.raises(DataError, match="validation"):
        evaluation_of(rater, validation=empty)


def test_a_reference_that_blows_up_is_named(rater):
    evaluation = evaluation_of(rater, optimizer=sgd(1e6), updates=30)
    with pytest.raises(NonFiniteError, match=r"after 30 updates on a random choice .* (nan|inf)"):
        evaluation.beside_random()
