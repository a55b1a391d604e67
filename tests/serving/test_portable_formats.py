"""Raters as LiteRT and ONNX files, each in its own runtime."""

import importlib.util
from pathlib import Path
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ArtefactError, ConfigurationError
from dr_keras.models.convolutional_rater import convolutional_rater
from dr_keras.models.ngram_rater import ngram_rater
from dr_keras.models.text_models import text_rater
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.runs.conversion import convert_rater
from dr_keras.serving.export import export_rater
from dr_keras.serving.loaded_text import LoadedTextRater
from dr_keras.serving.loading import load_rater
from dr_keras.serving.portable import SIGNATURE, ServeScores, find_formats, serve_scores
from dr_keras.serving.portable.litert import LiteRT
from dr_keras.serving.portable.onnx import Onnx
from dr_keras.serving.signatures import References
from dr_keras.serving.text import TextKind

S = 16
REFERENCE = ReferenceDistribution(np.linspace(-9, 9, 5, dtype=np.float32))
KINDS = {
    "transformer": lambda: text_rater(258, S, width=8, heads=2, layer_count=1),
    "by token": lambda: text_rater(258, S, width=8, heads=2, layer_count=1, per_token=True),
    "n-grams": lambda: ngram_rater(258, S, orders=(1, 3), buckets=1024),
    "hidden": lambda: ngram_rater(258, S, orders=(2,), buckets=2, width=32, hidden=64),
    "network": lambda: convolutional_rater(258, S, width=8),
}
LONG = pytest.mark.long
ONNX = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in Onnx.libraries),
    reason="needs the extra onnx: pip install 'dr_keras[onnx]'",
)
FORMATS = [pytest.param(LiteRT(), id="litert"), pytest.param(Onnx(), id="onnx", marks=ONNX)]


def randomised(model: keras.Model) -> TextKind:
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape, scale=0.5) for w in model.get_weights()])
    return TextKind(model, byte_tokenizer(), S)


def scores_of(rater: TextKind, batch: int | None = None) -> ServeScores:
    served = rater.signatures(References(REFERENCE, REFERENCE))[SIGNATURE]
    return ServeScores(served.function, batch, S)


def loaded(one, path):
    """By the runtime that the extra brings, or else, of LiteRT, by the one in TensorFlow."""
    if isinstance(one, LiteRT) and importlib.util.find_spec("ai_edge_litert") is None:
        runner = tf.lite.Interpreter(str(path)).get_signature_runner(SIGNATURE)
        return lambda tokens: runner(tokens=tokens)["score"]
    return one.load(str(path))


def windows(rows: int) -> np.ndarray:
    """Full, short and, the last, empty ones."""
    tokens = np.random.default_rng(1).integers(2, 258, (rows, S)).astype(np.int32)
    tokens[1::2, 5:] = 0
    tokens[-1] = 0
    return tokens


@pytest.mark.parametrize("one", FORMATS)
@pytest.mark.parametrize(
    "kind",
    [
        "transformer",
        "n-grams",
        "network",
        *(pytest.param(k, marks=LONG) for k in ("by token", "hidden")),
    ],
)
def test_a_file_scores_as_the_rater_does(tmp_path, one, kind):
    rater, tokens = randomised(KINDS[kind]()), windows(6)
    expected = rater.score(tf.constant(tokens)).numpy()
    expected[-1] = -9  # the lowest of the reference
    assert len(set(expected.round(4))) == 6
    path = tmp_path / f"rater{one.suffix}"
    one.write(scores_of(rater), str(path), int8=False)
    score = loaded(one, path)
    for rows in (6, 2):  # the batch is open
        np.testing.assert_allclose(score(tokens[-rows:]), expected[-rows:], rtol=1e-5, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("one", FORMATS)
@pytest.mark.parametrize("kind", ["n-grams", "network"])
def test_int8_keeps_the_order_and_a_batch_may_be_fixed(tmp_path, one, kind):
    model = (
        convolutional_rater(258, S, width=64)
        if kind == "network"
        else ngram_rater(258, S, orders=(1, 2), buckets=4096)
    )
    rater, tokens = randomised(model), windows(40)
    scores = scores_of(rater, batch=40)
    plain, small = (tmp_path / f"{name}{one.suffix}" for name in ("rater", "int8"))
    one.write(scores, str(plain), int8=False)
    if kind == "n-grams" and isinstance(one, Onnx):
        with pytest.raises(ArtefactError, match="nothing of this rater int8.*LiteRT with tables"):
            one.write(scores, str(small), int8=True)
        return
    one.write(scores, str(small), int8=True)
    assert small.stat().st_size < 0.8 * plain.stat().st_size
    found, expected = loaded(one, small)(tokens), rater.score(tf.constant(tokens)).numpy()
    assert np.any(found[:-1] != loaded(one, plain)(tokens)[:-1])
    ranks = [np.argsort(np.argsort(values[:-1])) for values in (found, expected)]
    assert np.corrcoef(*ranks)[0, 1] > 0.98


@pytest.mark.long
@pytest.mark.parametrize("one", FORMATS)
def test_an_operation_that_a_format_lacks_is_named(tmp_path, one):
    inner = ngram_rater(258, S, orders=(1,), buckets=64)
    lost = keras.layers.Lambda(tf.math.bessel_i0e, output_shape=())
    tokens = keras.Input((S,), dtype="int32", name="tokens")
    rater = keras.Model({"tokens": tokens}, lost(inner({"tokens": tokens})))
    path = export_rater(rater, byte_tokenizer(), S, tmp_path / "export", REFERENCE)
    said = f"cannot be converted to {one.name}: .*BesselI0e.*student that can be"
    with pytest.raises(ArtefactError, match=said):
        convert_rater(load_rater(path), [one.name])
    assert not [p for p in Path(path).iterdir() if one.suffix in p.name]


def test_formats_by_name(monkeypatch):
    assert find_formats([]) == []
    with pytest.raises(ConfigurationError, match="no format 'tflite': .*litert and onnx can be"):
        find_formats(["tflite"])
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ConfigurationError, match=r"tf2onnx.* cannot be.*'dr_keras\[onnx\]'"):
        find_formats(["onnx", "onnx"])


def test_what_has_no_such_file_is_named():
    images = SimpleNamespace(path="p/1", metadata={"kind": "images"}, signatures={})
    with pytest.raises(ArtefactError, match="p/1 holds a rater of images, and only those of text"):
        serve_scores(images)
    old = LoadedTextRater.__new__(LoadedTextRater)
    old.path, old.signatures = "p/1", {}
    with pytest.raises(ArtefactError, match="has no signature serve_scores.*older dr_keras"):
        serve_scores(old)
    old.signatures = {SIGNATURE: None}
    with pytest.raises(ConfigurationError, match="A batch of 0 windows"):
        serve_scores(old, 0)
