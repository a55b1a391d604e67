import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.tokenizers import wordpiece_tokenizer
from dr_keras.errors import ArtefactError, DataError
from dr_keras.models.text_models import text_rater
from dr_keras.pipelines.transformations import top_k
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.export import export_rater
from dr_keras.serving.frozen import freeze
from dr_keras.serving.loading import load_rater

pytest.importorskip("tensorflow_text")
S = 8
TEXTS = ["the cat sat", "", "a cat " * 20, b"\xff the", "unknownword cat"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "pieces.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[SEP]", "the", "cat", "s", "##at", "a"]))
    return wordpiece_tokenizer(str(path))


@pytest.fixture(scope="module")
def live():
    rater = text_rater(vocabulary_size=8, sequence_length=S, width=8, layer_count=1)
    rater.get_layer("score").set_weights([np.linspace(-1, 1, 8)[:, None], np.array([0.1])])
    return rater


@pytest.fixture(scope="module")
def path(live, tokenizer, tmp_path_factory):
    reference = ReferenceDistribution(np.array([-3.0, 3.0]))
    root = tmp_path_factory.mktemp("export")
    return export_rater(live, tokenizer, S, root, reference)


def test_subword_raters_score_like_the_live_model(path, live, tokenizer):
    rater = load_rater(path)
    expected = []
    for ids in tokenizer.encode(TEXTS):
        pieces = [ids[k : k + S] for k in range(0, len(ids), S)]
        rows = [np.pad(piece, (0, S - len(piece))).astype(np.int32) for piece in pieces]
        scores = [float(live({"tokens": row[None]})[0]) for row in rows]
        sizes = [len(piece) for piece in pieces]
        expected.append(np.average(scores, weights=sizes) if pieces else -3.0)
    np.testing.assert_allclose(rater(TEXTS)["score"], expected, atol=1e-6)
    encoded = [t if isinstance(t, bytes) else t.encode() for t in TEXTS]
    np.testing.assert_allclose(rater(tf.constant(encoded))["score"], expected, atol=1e-6)
    assert rater.metadata["requires"] == ["tensorflow_text"]


def test_the_artefact_brings_its_own_vocabulary_and_imports_what_it_needs(path, tokenizer):
    rater = load_rater(path)
    again = rater.tokenizer.encode(["the cat sat"])[0]
    assert again.tolist() == tokenizer.encode(["the cat sat"])[0].tolist() == [3, 4, 5, 6]
    program = (
        "import sys\n"
        "from dr_keras.serving.loading import load_rater\n"
        "assert 'tensorflow_text' not in sys.modules\n"
        f"print(float(load_rater({path!r})('the cat sat')['score']))\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert float(out.stdout) == pytest.approx(float(rater("the cat sat")["score"]), abs=1e-6)


def test_a_vocabulary_that_is_not_listed_is_not_opened(path):
    rater = load_rater(path)
    rater.metadata["files"].pop("assets.extra/tokenizer/pieces.txt")
    with pytest.raises(ArtefactError, match="does not list .* assets.extra/tokenizer/pieces.txt"):
        rater.tokenizer


def test_ids_beyond_a_subword_vocabulary_are_refused(path):
    rater = load_rater(path)
    assert rater(np.full([1, S], 7, np.int32))["score"].shape == (1,)
    with pytest.raises(DataError, match="ids go from 8 to 8, and those .* from 0 to 7"):
        rater(np.full([1, S], 8, np.int32))


def test_subword_raters_work_inside_pipelines(path):
    rater = load_rater(path)
    encoded = [t if isinstance(t, bytes) else t.encode() for t in TEXTS[:4]]
    scores = rater(TEXTS[:4])["score"]
    frozen = freeze(rater, tf.TensorSpec([None], tf.string))
    np.testing.assert_allclose(frozen(tf.constant(encoded))["score"], scores, atol=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices(encoded).apply(top_k(rater, 0.5, 2))
    best = np.sort(np.argsort(-scores, kind="stable")[:2])
    assert [batch.tolist() for batch in dataset.as_numpy_iterator()] == [[encoded[i] for i in best]]
