"""Raters that cost little: hashed n-grams and strided convolutions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.models.convolutional_rater import convolutional_rater
from dr_keras.models.ngram_rater import NgramRows, _factor, ngram_rater

VOCABULARY = 11
RNG = np.random.default_rng(0)


def tokens_of(*rows, length: int = 9) -> dict:
    return {"tokens": np.array([list(row) + [0] * (length - len(row)) for row in rows], np.int32)}


RATERS = {
    "linear": lambda **more: ngram_rater(VOCABULARY, 9, orders=(1, 3), buckets=64, **more),
    "hidden": lambda: ngram_rater(VOCABULARY, 9, (2,), buckets=64, width=4, hidden=5),
    "convolutions": lambda: convolutional_rater(VOCABULARY, 9, width=6, stride=2, reach=3),
}
ROWS = ([1, 2, 3, 4, 5, 6, 7], [8, 9], [10], [3, 3, 3, 4])


@pytest.fixture(params=RATERS)
def rater(request, randomised):
    return randomised(RATERS[request.param]())


def test_rows_are_the_top_bits_of_a_sum_of_products():
    """In the whole numbers of NumPy, which do not wrap around."""
    tokens = RNG.integers(1, 200_000, (5, 12)).astype(np.int32)
    layer = NgramRows([1, 2, 5], 4096)
    eager = layer(tokens)
    compiled = tf.function(layer, jit_compile=True)(tf.constant(tokens))
    for number, order in enumerate(layer.orders):
        padded = np.pad(tokens.astype(object), [(0, 0), (order - 1, 0)])
        factors = [_factor(k) % 2**32 for k in range(order)]
        code = sum(f * padded[:, order - 1 - k : order - 1 - k + 12] for k, f in enumerate(factors))
        expected = (code % 2**32 // 2**20).astype(int) + 4096 * number
        np.testing.assert_array_equal(eager[number], expected)
        np.testing.assert_array_equal(compiled[number], expected)
    assert len({_factor(k) for k in range(20)}) == 20 and all(_factor(k) % 2 for k in range(20))


def test_all_pairs_of_bytes_spread_over_the_table():
    """As thrown at random: of 65,536 pairs into as many rows about 1 - 1/e of the rows get one."""
    first, second = np.divmod(np.arange(65536), 256)
    pairs = np.stack([first, second], axis=1).astype(np.int32) + 1
    _, rows = NgramRows([1, 2], 65536)(pairs)
    used = len(np.unique(np.asarray(rows)[:, 1])) / 65536
    assert 0.6 < used <= 1
    singles = np.asarray(NgramRows([1], 65536)(np.arange(1, 258)[None])[0])
    assert len(np.unique(singles)) == 257


def test_the_score_is_the_mean_worth_of_the_ngrams_that_end_at_tokens():
    rater = ngram_rater(VOCABULARY, 9, orders=(2, 1), buckets=64)
    table = RNG.normal(size=(128, 1)).astype(np.float32)
    rater.get_layer("table").set_weights([table])
    tokens = tokens_of(*ROWS)["tokens"]
    singles, pairs = map(np.asarray, NgramRows([1, 2], 64)(tokens))
    for row, score in zip(range(4), rater({"tokens": tokens}).numpy()):
        count = len(ROWS[row])
        found = table[singles[row, :count], 0] + table[pairs[row, :count], 0]
        assert score == pytest.approx(found.mean(), rel=1e-5)


def test_padding_widths_and_compilation_change_nothing(rater):
    together = rater(tokens_of(*ROWS)).numpy()
    assert together.shape == (4,) and together.dtype == np.float32
    assert len(set(together.tolist())) == 4
    spec = {"tokens": tf.TensorSpec([None, None], tf.int32)}
    any_width = tf.function(rater, input_signature=[spec])
    for row, score in zip(ROWS, together):
        alone = tokens_of(row, length=len(row))
        found = [any_width(alone), any_width(tokens_of(row, length=14))]
        np.testing.assert_allclose(np.ravel(found), score, rtol=1e-4, atol=1e-5)
    compiled = tf.function(rater, jit_compile=True)(tokens_of(*ROWS, length=7))
    np.testing.assert_allclose(compiled, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RATERS)
def test_a_fresh_rater_gives_uniform_weights_and_can_leave_them(name):
    rater = RATERS[name]()
    batch = tokens_of(*ROWS)
    with tf.GradientTape() as tape:
        scores = rater(batch)
        loss = tf.tensordot(scores, [1.0, 2.0, -1.0, 0.5], 1)
    assert scores.numpy().tolist() == [0.0] * 4
    gradients = tape.gradient(loss, rater.trainable_variables)
    assert any(np.abs(tf.convert_to_tensor(gradient)).max() > 0 for gradient in gradients)


def test_what_has_no_token_scores_as_nothing(rater):
    scores = rater(tokens_of([], [], [1])).numpy()
    assert scores[0] == scores[1] != scores[2] and np.isfinite(scores).all()


def test_order_of_tokens_counts(rater):
    scores = rater(tokens_of([1, 2, 3, 4, 5], [5, 3, 1, 4, 2])).numpy()
    assert abs(scores[0] - scores[1]) > 1e-4


def test_the_mean_of_the_tokens_scores_is_the_score_of_the_same_weights(randomised):
    by_token, by_window = randomised(RATERS["linear"](per_token=True)), RATERS["linear"]()
    by_window.set_weights(by_token.get_weights())
    batch = tokens_of(*ROWS)
    scores, real = by_token(batch).numpy(), batch["tokens"] != 0
    assert scores.shape == (4, 9) and not scores[~real].any() and scores[real].all()
    np.testing.assert_allclose(scores.sum(1) / real.sum(1), by_window(batch), rtol=1e-5)


def test_they_survive_a_file(rater, tmp_path):
    rater.save(tmp_path / "rater.keras")
    loaded = keras.models.load_model(tmp_path / "rater.keras")
    np.testing.assert_array_equal(rater(tokens_of(*ROWS)), loaded(tokens_of(*ROWS)))


@pytest.mark.parametrize("name", RATERS)
def test_float64_reaches_the_score(name, float64, randomised):
    rater = randomised(RATERS[name]())
    batch = tokens_of([1, 2, 3])
    before, weights = rater(batch), rater.trainable_variables[0]
    assert before.dtype == "float64"
    weights.assign_add(tf.fill(weights.shape, tf.constant(1e-12, tf.float64)))
    assert 0 < abs(float((rater(batch) - before)[0])) < 1e-9


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: ngram_rater(9, 9, orders=()), "orders is .*: name lengths"),
        (lambda: ngram_rater(9, 9, orders=(1, 1)), "each once"),
        (lambda: ngram_rater(9, 9, buckets=1000), "buckets is 1000: it must be a power of two"),
        (lambda: ngram_rater(9, 9, width=0), "width is 0 and hidden 0"),
        (lambda: ngram_rater(9, 9, hidden=3), "hidden is 3, and one number .* width such as 8"),
        (lambda: ngram_rater(9, 9, width=2, per_token=True), "token_share = 0"),
        (lambda: convolutional_rater(9, 9, stride=4, reach=3), "reach is 3 and stride 4"),
        (lambda: convolutional_rater(9, 9, width=0), "rater.width is 0: it must be at least 1"),
    ],
)
def test_settings_out_of_range(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()
