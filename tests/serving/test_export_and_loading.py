import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ArtefactError, ConfigurationError, DataError
from dr_keras.models.text_models import text_rater
from dr_keras.pipelines.transformations import top_k
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.export import export_rater
from dr_keras.serving.frozen import freeze
from dr_keras.serving.loading import load_rater
from dr_keras.serving.window_scoring import WindowScoring

S = 16
TEXTS = [
    "short",
    "a text of more than sixteen bytes, so that it has several windows",
    "",
    b"NUL \x00 and invalid \xff\xfe bytes",
    "ünïcödé",
]


@pytest.fixture(scope="module")
def reference(references):
    return references[0]


@pytest.fixture(scope="module")
def path(live_rater, reference, tmp_path_factory):
    root = tmp_path_factory.mktemp("export")
    return export_rater(
        live_rater, byte_tokenizer(), S, str(root), reference, {"meta_step": 7}, chunk=2
    )


@pytest.fixture(scope="module")
def rater(path):
    return load_rater(path)


def test_every_way_of_giving_texts_gives_the_live_models_scores(rater, by_definition, reference):
    encoded = [t if isinstance(t, bytes) else t.encode() for t in TEXTS]
    expected = by_definition([text or b"?" for text in encoded])
    expected[2] = reference.quantiles[0]
    percentile = reference.percentile(expected)
    percentile[2] = 0.0
    assert len(set(expected.tolist())) == len(TEXTS)
    results = {
        "list": rater(TEXTS),
        "array": rater(np.array(TEXTS, object)),
        "one by one": {
            key: np.array([rater(text)[key] for text in TEXTS]) for key in ("score", "percentile")
        },
        "tensor": rater(tf.constant(encoded)),
        "graph": tf.function(rater)(tf.constant(encoded)),
        "small batches": rater.score_texts(TEXTS, WindowScoring(1)),
    }
    rows = list(rater(tf.data.Dataset.from_tensor_slices(encoded)))
    results["dataset"] = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    [batch] = rater(tf.data.Dataset.from_tensor_slices(encoded).batch(9))
    results["batched dataset"] = batch
    for way, result in results.items():
        np.testing.assert_allclose(result["score"], expected, atol=1e-6, err_msg=way)
        np.testing.assert_allclose(result["percentile"], percentile, atol=1e-4, err_msg=way)
        assert np.asarray(result["percentile"])[2] == 0.0
    assert rater.score_texts(TEXTS)["windows"].tolist() == [1, 5, 1, 2, 1]
    assert rater.score_texts([])["score"].shape == (0,)


def test_tokens_score_like_the_live_model_and_padding_alone_scores_lowest(
    rater, live_rater, reference
):
    tokens = np.random.default_rng(1).integers(2, 258, size=(5, S)).astype(np.int32)
    tokens[1, 3:] = 0
    tokens[4] = 0
    expected = np.array(live_rater({"tokens": tokens}))
    expected[4] = reference.quantiles[0]
    for given in (tokens, tf.constant(tokens), {"tokens": tokens}):
        result = rater(given)
        np.testing.assert_allclose(result["score"], expected, atol=1e-6)
        assert result["percentile"][4] == 0.0
    narrow = rater.score_tokens(tokens[1:2, :8])
    np.testing.assert_allclose(narrow["score"], expected[1:2], atol=1e-6)
    with pytest.raises(DataError, match=r"shape \[B, 16\] or narrower, not \[5, 32\]"):
        rater.score_tokens(np.tile(tokens, 2))


def after_restart(dataset, folder) -> list:
    """What a dataset gives after its first batch, from an iterator that was saved and restored."""
    iterator = iter(dataset)
    next(iterator)
    state = tf.train.Checkpoint(iterator=iterator).save(str(folder / "iterator"))
    resumed = iter(dataset)
    tf.train.Checkpoint(iterator=resumed).restore(state)
    return [batch.numpy().tolist() for batch in resumed]


@pytest.mark.parametrize("inputs", ["text", "tokens"])
def test_frozen_functions_equal_the_rater_inside_checkpointable_pipelines(rater, inputs, tmp_path):
    texts = [f"{'word ' * (i % 9)} {i}" for i in range(32)]
    rows = tf.constant(texts)
    if inputs == "tokens":
        rows = byte_tokenizer().tensor_encode(rows, S)
    frozen = freeze(rater, tf.TensorSpec([None, *rows.shape[1:]], rows.dtype))
    np.testing.assert_allclose(frozen(rows)["score"], rater(rows)["score"], atol=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices(rows).apply(top_k(rater, 0.5, 4))
    whole = [batch.tolist() for batch in dataset.as_numpy_iterator()]
    scores = rater(rows)["score"].numpy()
    best = np.sort(np.argsort(-scores[:8], kind="stable")[:4])
    assert whole[0] == tf.gather(rows, best).numpy().tolist()
    assert after_restart(dataset, tmp_path) == whole[1:]


def test_a_very_long_text_among_short_ones_is_scored_by_its_windows(rater):
    long = "0123456789abcdef" * 5_000  # every window alike
    result = rater.score_texts(["short", long, "b"])
    assert result["windows"].tolist() == [1, 5_000, 1]
    expected = rater(["short", long[:S], "b"])["score"]
    np.testing.assert_allclose(result["score"], expected, atol=1e-6)
    in_graph = rater(tf.constant(["short", long, "b"]))["score"]
    np.testing.assert_allclose(in_graph, expected, atol=1e-6)


def test_metadata_travels_in_file_and_graph(rater, path, reference):
    assert rater.metadata["training"] == {"meta_step": 7}
    assert rater.metadata["tokenizer"] == {"kind": "byte"}
    assert rater.metadata["requires"] == []
    assert rater.metadata["versions"]["keras"] == keras.__version__
    assert rater.sequence_length == S and rater.tokenizer.vocabulary_size == 258
    np.testing.assert_array_equal(rater.reference.quantiles, reference.quantiles)
    in_graph = tf.saved_model.load(path).signatures["get_metadata"]()["metadata"]
    stored = json.loads(in_graph.numpy())
    of_files = {key: rater.metadata[key] for key in ("files", "sha256")}
    assert {**stored, **of_files} == rater.metadata


def test_loads_without_dr_keras_keras_or_tensorflow_text(path, rater):
    program = (
        "import sys, tensorflow as tf\n"
        f"f = tf.saved_model.load({path!r}).signatures['serving_default']\n"
        "print(float(f(text=tf.constant(['short']))['score'][0]))\n"
        "assert 'dr_keras' not in sys.modules and 'tensorflow_text' not in sys.modules\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd="/", timeout=120
    )
    assert out.returncode == 0, out.stderr
    assert float(out.stdout) == pytest.approx(float(rater("short")["score"]), abs=1e-6)


def test_only_positive_whole_numbers_are_versions(live_rater, reference, tmp_path):
    for version in (0, -1, 1.5):
        with pytest.raises(ConfigurationError, match="servers read positive integers only"):
            export_rater(live_rater, byte_tokenizer(), S, tmp_path, reference, version=version)
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match="cannot be made"):
        export_rater(live_rater, byte_tokenizer(), S, tmp_path / "file" / "x", reference)
    assert os.listdir(tmp_path) == ["file"]


def test_versions_count_up_and_the_root_loads_the_highest(
    live_rater, new_rater, reference, tmp_path
):
    first = export_rater(live_rater, byte_tokenizer(), S, str(tmp_path), reference)
    ninth = export_rater(new_rater(9), byte_tokenizer(), S, tmp_path, reference, version=9)
    tenth = export_rater(new_rater(10), byte_tokenizer(), S, tmp_path, reference)
    assert [os.path.basename(p) for p in (first, ninth, tenth)] == ["1", "9", "10"]
    assert sorted(os.listdir(tmp_path)) == ["1", "10", "9"]  # nothing temporary stays
    assert load_rater(str(tmp_path)).path == tenth
    assert load_rater(first).fingerprint != load_rater(tenth).fingerprint
    again = export_rater(
        live_rater, byte_tokenizer(), S, tmp_path / "other", reference, example_feature="body"
    )
    assert load_rater(again).fingerprint == load_rater(first).fingerprint
    with pytest.raises(ArtefactError, match="exists already"):
        export_rater(live_rater, byte_tokenizer(), S, str(tmp_path), reference, version=9)


def test_a_failed_export_leaves_nothing(live_rater, reference, tmp_path, monkeypatch):
    monkeypatch.setattr("dr_keras.serving.folder.write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_rater(live_rater, byte_tokenizer(), S, str(tmp_path), reference)
    assert os.listdir(tmp_path) == []


def test_documents_can_have_a_reference_of_their_own(live_rater, reference, tmp_path):
    of_documents = ReferenceDistribution(np.array([-100.0, 100.0]))
    path = export_rater(
        live_rater, byte_tokenizer(), S, tmp_path, reference, document_reference=of_documents
    )
    rater = load_rater(path)
    score = rater("short")["score"]
    assert rater("short")["percentile"] == pytest.approx((score + 100) / 200, abs=1e-5)
    alone = rater("short")["percentile"]
    tensors = rater(tf.constant(["short"]))["percentile"]
    assert tensors.numpy() == pytest.approx([alone], abs=1e-6)
    tokens = byte_tokenizer().tensor_encode(tf.constant(["short"]), S)
    windows = rater(tokens)["percentile"].numpy()
    assert windows == pytest.approx([float(reference.percentile(score))], abs=1e-6)
    assert rater("")["score"] == -100


def test_a_rater_for_any_length_scores_alike_with_less_padding(reference, tmp_path):
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    mask = keras.ops.cast(keras.ops.not_equal(tokens, 0), "float32")
    vectors = keras.layers.Embedding(258, 1)(tokens)[..., 0]
    model = keras.Model({"tokens": tokens}, keras.ops.sum(vectors * mask, axis=1))
    rater = load_rater(export_rater(model, byte_tokenizer(), 64, tmp_path, reference))
    texts = ["a" * n for n in (100, 3, 40, 64, 5)]
    widths = []
    call = rater._tensor_tokens
    rater._tensor_tokens = lambda batch: (widths.append(batch.shape[1]), call(batch))[1]
    result = rater.score_texts(texts, WindowScoring(2))
    assert widths == [64, 48, 32]
    np.testing.assert_allclose(result["score"], rater(tf.constant(texts))["score"], atol=1e-6)


def test_a_rater_with_its_blocks_in_a_loop_serves_and_filters_like_any_other(
    new_rater, reference, tmp_path
):
    live = new_rater(3, layer_count=3, recompute_blocks=True)
    rater = load_rater(export_rater(live, byte_tokenizer(), S, tmp_path, reference, chunk=2))
    tokens = np.random.default_rng(1).integers(2, 258, size=(24, S)).astype(np.int32)
    tokens[1, 3:] = 0
    expected = np.array(live({"tokens": tokens}))
    assert expected.std() > 0.1
    np.testing.assert_allclose(rater(tokens)["score"], expected, atol=1e-5)
    narrow = rater.score_tokens(tokens[1:2, :8])["score"]
    np.testing.assert_allclose(narrow, expected[1:2], atol=1e-5)
    assert rater(TEXTS)["score"].shape == (len(TEXTS),)

    dataset = tf.data.Dataset.from_tensor_slices(tokens).apply(top_k(rater, 0.5, 4))
    whole = [batch.tolist() for batch in dataset.as_numpy_iterator()]
    best = np.sort(np.argsort(-expected[:8], kind="stable")[:4])
    assert whole[0] == tokens[best].tolist()
    assert after_restart(dataset, tmp_path) == whole[1:]


def change_json(folder, **changes):
    stored = json.loads((folder / "rater.json").read_text())
    (folder / "rater.json").write_text(json.dumps(stored | changes))


def drop_from_json(folder, key):
    stored = json.loads((folder / "rater.json").read_text())
    del stored[key]
    (folder / "rater.json").write_text(json.dumps(stored))


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)


VARIABLES = "variables/variables.data-00000-of-00001"


@pytest.fixture
def copy(path, tmp_path):
    return shutil.copytree(path, tmp_path / "copy")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda d: (d / "saved_model.pb").unlink(), "file saved_model.pb is missing"),
        (lambda d: os.truncate(d / VARIABLES, 10), f"{VARIABLES} has 10 bytes and should have"),
        (lambda d: (d / "rater.json").unlink(), "not an exported rater: it has no rater.json"),
        (lambda d: os.truncate(d / "rater.json", 50), "rater.json cannot be read"),
        (lambda d: (d / "rater.json").write_text("{}"), "does not describe a dr_keras rater"),
        (lambda d: (d / "rater.json").write_bytes(b"\xff"), "rater.json cannot be read"),
        (lambda d: flip(d / VARIABLES, 0.5), "cannot be loaded as a SavedModel"),
        (lambda d: flip(d / "saved_model.pb", 0.3), "content of saved_model.pb is not what was"),
        (lambda d: change_json(d, sequence_length=8), "its rater.json does not belong to its"),
        (lambda d: change_json(d, schema_version=1), "schema version 1, .* export the rater again"),
        (lambda d: change_json(d, schema_version=99), "schema version 99, .* install a newer one"),
        (lambda d: change_json(d, kind="smells"), "a rater of 'smells', and this dr_keras knows"),
        (lambda d: change_json(d, requires=["no_such_module"]), "needs the module no_such_module"),
        (lambda d: drop_from_json(d, "reference"), "lacks reference: copy or export"),
    ],
)
def test_a_damaged_artefact_says_what_is_wrong(copy, damage, message):
    damage(copy)
    with pytest.raises(ArtefactError, match=message):
        load_rater(copy)


def test_a_copy_that_was_cut_short_anywhere_is_never_loaded(copy):
    """Files are copied one after the other; the copy may stop in any of them."""
    for file in sorted(path for path in copy.rglob("*") if path.is_file()):
        content = file.read_bytes()
        for size in {0, len(content) // 2, len(content) - 1}:
            file.write_bytes(content[:size])
            with pytest.raises(ArtefactError):
                load_rater(copy)
        file.unlink()
        with pytest.raises(ArtefactError):
            load_rater(copy)
        file.write_bytes(content)
    assert load_rater(copy)("short")["score"].shape == ()


def test_what_is_no_artefact_says_so(tmp_path):
    with pytest.raises(ArtefactError, match="not a directory"):
        load_rater(str(tmp_path / "nowhere"))
    with pytest.raises(ArtefactError, match="not an exported rater"):
        load_rater(str(tmp_path))
    (tmp_path / "export").mkdir()
    with pytest.raises(ArtefactError, match="There is .*export: name that"):
        load_rater(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ArtefactError, match="not a directory"):
        load_rater(file)


def test_further_ways_of_giving_text(rater):
    score = rater("short")["score"]
    assert rater(tf.constant("short"))["score"].numpy() == pytest.approx(score, abs=1e-6)
    assert rater(np.array("short"))["score"] == pytest.approx(score, abs=1e-6)
    by_name = rater({"text": tf.constant(["short"])})["score"].numpy()
    assert by_name == pytest.approx([score], abs=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices({"text": ["short", "longer text"], "id": [1, 2]})
    rows = list(rater(dataset).as_numpy_iterator())
    assert rows[0]["score"] == pytest.approx(score, abs=1e-6) and len(rows) == 2
    kept = list(rater.keep_probability(dataset, 0.5, 4).as_numpy_iterator())
    expected = rater.keep_probability("short", 0.5, 4)
    assert kept[0]["keep_probability"] == pytest.approx(expected["keep_probability"], abs=1e-4)
    assert expected["keep_probability"].shape == ()


def test_ids_that_are_not_zero_can_be_padding(rater):
    tokens = np.arange(9, 9 + S, dtype=np.int32)[np.newaxis]
    mask = np.arange(S)[np.newaxis] < 3
    masked = rater.score_tokens(tokens, padding_mask=mask)["score"]
    assert masked == pytest.approx(rater.score_tokens(tokens[:, :3])["score"], abs=1e-6)
    assert abs(masked - rater.score_tokens(tokens)["score"])[0] > 1e-4


def test_what_cannot_be_scored_says_so(rater):
    with pytest.raises(DataError, match="not float"):
        rater([1.5])
    with pytest.raises(DataError, match="reads 'tokens' or 'text'"):
        rater({"x": 1})
    with pytest.raises(DataError, match="use dr_keras' top_k with key"):
        rater(tf.data.Dataset.from_tensor_slices((["a"], ["b"])))


def test_what_does_not_fit_together_is_not_exported(live_rater, reference, tmp_path):
    with pytest.raises(ConfigurationError, match="knows 16 positions, but sequence_length is 32"):
        export_rater(live_rater, byte_tokenizer(), 32, tmp_path, reference)
    small = text_rater(vocabulary_size=100, sequence_length=S, width=8, layer_count=1)
    with pytest.raises(ConfigurationError, match="knows 100 token ids.*byte tokenizer has 258"):
        export_rater(small, byte_tokenizer(), S, tmp_path, reference)
    with pytest.raises(DataError, match="cannot be written as JSON"):
        export_rater(live_rater, byte_tokenizer(), S, tmp_path, reference, {"x": object()})
    assert os.listdir(tmp_path) == []
