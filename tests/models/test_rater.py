"""The text rater: scores of examples and of tokens, padding that does not matter, files, dtypes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.models import layers
from dr_keras.models.text_models import text_rater

VOCABULARY = 11


def rater_of(length: int, **arguments) -> keras.Model:
    return text_rater(VOCABULARY, length, width=8, layer_count=2, heads=2, **arguments)


@pytest.fixture(params=layers.POSITIONS)
def rater(request, randomised):
    return randomised(rater_of(6, positions=request.param))


def tokens_of(*rows, length: int = 6) -> dict:
    return {"tokens": np.array([list(row) + [0] * (length - len(row)) for row in rows], np.int32)}


def test_one_float32_score_an_example(rater):
    scores = rater(tokens_of([1, 2, 3], [4, 5, 6, 7, 8, 9]))
    assert scores.shape == (2,) and scores.dtype == "float32"
    assert scores[0] != scores[1]


def test_a_fresh_rater_gives_uniform_weights():
    scores = rater_of(6)(tokens_of([1, 2], [3, 4, 5]))
    assert scores.numpy().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("positions", layers.POSITIONS)
def test_padding_does_not_change_a_score(randomised, positions):
    """The same rater built for longer windows scores the same text the same."""
    short = randomised(rater_of(4, positions=positions))
    long = rater_of(9, positions=positions)
    for small, large in zip(short.variables, long.variables):
        if small.shape == large.shape:
            large.assign(small)
        else:
            assert "position" in small.path
            # Positions of padding hold large values, which would show if they were read.
            values = np.full(large.shape, 50.0)
            values[: small.shape[0]] = small.numpy()
            large.assign(values)
    rows = ([1, 2, 3, 4], [5, 6], [7])
    np.testing.assert_allclose(
        short(tokens_of(*rows, length=4)), long(tokens_of(*rows, length=9)), rtol=1e-5, atol=1e-5
    )


def test_narrower_batches_score_alike_and_wider_ones_are_refused(rater):
    """What a filter that sorts by length relies on; also compiled, with shapes known and not."""
    rows = ([1, 2], [5], [7, 8])
    wide, narrow = tokens_of(*rows), tokens_of(*rows, length=2)
    expected = rater(wide).numpy()
    assert len(set(expected.tolist())) == 3
    spec = tf.TensorSpec([None, None], tf.int32)
    any_width = tf.function(lambda tokens: rater({"tokens": tokens}), input_signature=[spec])
    compiled = tf.function(rater, jit_compile=True)
    for scores in (rater(narrow), any_width(narrow["tokens"]), compiled(narrow), compiled(wide)):
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    with pytest.raises(Exception, match="(?i)expected size"):
        rater(tokens_of([1], length=7))


@pytest.mark.parametrize("positions", layers.POSITIONS)
def test_variables_keep_names_and_shapes(positions):
    """Stored raters are read back by them."""
    rater = rater_of(6, positions=positions)
    shapes = {variable.path: tuple(variable.shape) for variable in rater.variables}
    assert shapes["token_embedding/embeddings"] == (VOCABULARY, 8)
    assert shapes.pop("position_embedding/embeddings", None) == (
        (6, 8) if positions == "learned" else None
    )
    assert shapes["block_1/self_attention_layer/query/kernel"] == (8, 2, 4)
    assert shapes["score/kernel"] == (8, 1)
    assert len(shapes) == 1 + 2 * 16 + 2 + 2


def test_the_rater_looks_both_ways(rater):
    """A token changes the score wherever it stands, and so does the order."""
    base = rater(tokens_of([1, 2, 3, 4, 5, 6])).numpy()[0]
    for position in range(6):
        row = [1, 2, 3, 4, 5, 6]
        row[position] = 9
        assert abs(rater(tokens_of(row)).numpy()[0] - base) > 1e-5
    assert abs(rater(tokens_of([6, 5, 4, 3, 2, 1])).numpy()[0] - base) > 1e-5


def test_a_row_of_padding_scores_the_bias(rater):
    scores = rater(tokens_of([], [], [1])).numpy()
    bias = next(v for v in rater.trainable_variables if v.path.endswith("score/bias")).numpy()
    np.testing.assert_array_equal(scores[:2], bias.repeat(2))
    assert scores[2] != scores[0]


def test_batched_equals_one_by_one(rater):
    rows = ([1, 2, 3], [4], [5, 6, 7, 8, 9, 10])
    together = rater(tokens_of(*rows)).numpy()
    alone = [rater(tokens_of(row)).numpy()[0] for row in rows]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_the_rater_survives_a_file(rater, tmp_path):
    rater.save(tmp_path / "rater.keras")
    loaded = keras.models.load_model(tmp_path / "rater.keras")
    batch = tokens_of([1, 2, 3], [4, 5], [])
    np.testing.assert_array_equal(rater(batch), loaded(batch))


def test_float64_reaches_the_score(float64, randomised):
    rater = randomised(rater_of(6))
    before = rater(tokens_of([1, 2, 3]))
    assert before.dtype == "float64"
    bias = next(v for v in rater.trainable_variables if v.path.endswith("score/bias"))
    bias.assign_add([1e-12])
    change = (rater(tokens_of([1, 2, 3])) - before).numpy()[0]
    assert change == pytest.approx(1e-12, rel=1e-2)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="text_rater: width 8 must be a multiple of heads 3"):
        text_rater(VOCABULARY, 6, width=8, heads=3)


# --------------------------------------------------------- scores of tokens, and the inner state


ROWS = ([1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [])
LOSSES = ("inner_loss", "reference_loss")


def state_of(rows: int, *shape, seed: int = 0) -> dict:
    """Losses of so many rows, and ages."""
    rng = np.random.default_rng(seed)
    state = {name: rng.uniform(0, 5, (rows, *shape)).astype(np.float32) for name in LOSSES}
    return {**state, "age": np.log1p(rng.integers(0, 500, rows)).astype(np.float32)}


def test_the_mean_of_the_tokens_scores_is_the_score_of_the_same_weights(randomised):
    by_token, by_example = rater_of(6, per_token=True), rater_of(6)
    by_example.set_weights(randomised(by_token).get_weights())
    batch = tokens_of(*ROWS)
    scores, real = by_token(batch).numpy(), batch["tokens"] != 0
    assert scores.shape == (4, 6) and not scores[~real].any() and scores[real].all()
    means = scores[:3].sum(1) / real[:3].sum(1)
    np.testing.assert_allclose(means, by_example(batch)[:3], rtol=1e-5)
    narrow = by_token(tokens_of(*ROWS[:2], length=3))
    np.testing.assert_allclose(narrow, scores[:2, :3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("per_token", [False, True])
def test_scores_start_at_zero_and_then_read_each_feature(per_token, randomised, tmp_path):
    rater = rater_of(6, per_token=per_token, features=(*LOSSES, "age"))
    batch = tokens_of(*ROWS)
    state = state_of(4, *[6] * per_token)
    assert not rater({**batch, **state}).numpy().any()
    randomised(rater)
    scores = rater({**batch, **state}).numpy()
    real = batch["tokens"] != 0 if per_token else np.ones(4, bool)
    for name in state:
        changed = state | {name: state[name] + 1}
        assert (rater({**batch, **changed}).numpy() != scores)[real].all(), name
    rater.save(tmp_path / "rater.keras")
    loaded = keras.models.load_model(tmp_path / "rater.keras")
    np.testing.assert_array_equal(loaded({**batch, **state}), scores)


def test_a_tokens_losses_move_its_own_score_alone(randomised):
    rater = randomised(rater_of(6, per_token=True, features=["inner_loss"]))
    losses = np.zeros((1, 6), np.float32)
    batch = tokens_of(ROWS[2])
    before = rater({**batch, "inner_loss": losses}).numpy()
    losses[0, 2] = 1
    moved = rater({**batch, "inner_loss": losses}).numpy() != before
    assert moved.tolist() == [[False, False, True, False, False, False]]


def test_a_rater_learns_excess_loss_that_counts_for_some_content_only():
    """What a hidden layer is for: the difference of two losses, times what the example is."""
    keras.utils.set_random_seed(0)
    rater = rater_of(4, features=LOSSES)
    rng = np.random.default_rng(0)
    kinds = rng.integers(1, 3, 256)
    batch = {"tokens": np.repeat(kinds[:, None], 4, axis=1).astype(np.int32)}
    state = {name: value for name, value in state_of(256).items() if name in LOSSES}
    wanted = (kinds == 1) * (state["inner_loss"] - state["reference_loss"])
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            error = tf.reduce_mean(tf.square(rater({**batch, **state}) - wanted))
        variables = rater.trainable_variables
        optimizer.apply(tape.gradient(error, variables), variables)
        return error

    errors = [float(step()) for _ in range(100)]
    # Without products the best is half the difference for all: a quarter of the variance stays.
    assert errors[-1] < 0.1 * np.var(wanted) < errors[0]


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (("inner_loss", "lenght"), "text_rater.features is .*it must be a list of inner_loss,"),
        ("age", "text_rater.features is 'age': it must be a list"),
        (("age", "age"), "name each feature once"),
    ],
)
def test_features_that_are_none_are_refused(features, said):
    with pytest.raises(ConfigurationError, match=said):
        rater_of(6, features=features)


def test_float64_reaches_the_scores_of_tokens(float64, randomised):
    rater = randomised(rater_of(6, per_token=True, features=["age"]))
    batch = {**tokens_of([1, 2]), "age": np.zeros(1)}
    assert rater(batch).dtype == "float64"
    change = rater({**batch, "age": np.full(1, 1e-12)}) - rater(batch)
    assert 0 < np.abs(change).max() < 1e-10
