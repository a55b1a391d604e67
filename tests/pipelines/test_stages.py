import gc
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ArtefactError, ConfigurationError
from dr_keras.models.text_models import text_rater
from dr_keras.pipelines import stages as pipelines
from dr_keras.pipelines.transformations import filter_by_percentile, reweight, top_k
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import decide
from dr_keras.serving import frozen
from dr_keras.serving.export import export_rater
from dr_keras.serving.loading import load_rater

S = 16
TEXTS = [f"text number {n} " + "and so on " * (n % 4) + "\x00ü" * (n % 3) for n in range(40)]
TEXTS[5] = ""


@pytest.fixture(scope="module")
def live():
    keras.utils.set_random_seed(0)
    rater = text_rater(vocabulary_size=258, sequence_length=S, width=8, layer_count=1)
    rater.get_layer("score").set_weights([np.random.normal(size=(8, 1)), np.zeros(1)])
    return rater


@pytest.fixture(scope="module")
def path(live, tmp_path_factory):
    root = str(tmp_path_factory.mktemp("export"))
    tokens = byte_tokenizer().tensor_encode(tf.constant(TEXTS), S)
    reference = ReferenceDistribution.from_scores(live.predict(tokens, verbose=0))
    export_rater(live, byte_tokenizer(), S, root, reference)
    return root


@pytest.fixture(scope="module")
def rater(path):
    return load_rater(path)


def best(scores, batch_size, oversized):
    rows = []
    for first in range(0, len(scores) - oversized + 1, oversized):
        part = np.argsort(-scores[first : first + oversized], kind="stable")[:batch_size]
        rows += sorted((part + first).tolist())
    return rows


TOKENS = np.where(
    np.arange(S) < np.arange(1, 41)[:, None] % S + 1,
    np.random.default_rng(1).integers(2, 258, size=(40, S)),
    0,
).astype(np.int32)


@pytest.mark.parametrize("group", [None, 3, 8])
@pytest.mark.parametrize("drop_remainder", [False, True])
def test_texts_tokens_and_structures_as_examples_or_batches(
    rater, live, path, group, drop_remainder
):
    by_text = best(rater(TEXTS)["score"], 3, 6)
    by_tokens = best(live.predict({"tokens": TOKENS}, verbose=0), 3, 6)
    number = np.arange(40)
    cases = [
        (TEXTS, rater, None, by_text, lambda text: [TEXTS.index(t.decode()) for t in text]),
        (
            {"text": TEXTS, "number": number},
            path,
            "text",
            by_text,
            lambda element: element["number"].tolist(),
        ),
        ((TOKENS, number), rater, None, by_tokens, lambda element: element[1].tolist()),
        ((TOKENS, number), live, None, by_tokens, lambda element: element[1].tolist()),
        (
            {"id": number, "tokens": TOKENS},  # a model takes what its inputs are named after
            live,
            None,
            by_tokens,
            lambda element: element["id"].tolist(),
        ),
        (
            ({"tokens": TOKENS, "number": number}, -number),
            live,
            lambda batch: {"tokens": batch[0]["tokens"]},
            by_tokens,
            lambda element: (-element[1]).tolist(),
        ),
    ]
    for elements, used, key, expected, numbers in cases:
        dataset = tf.data.Dataset.from_tensor_slices(elements)
        if group is not None:
            dataset = dataset.batch(group, drop_remainder=drop_remainder)
            expected = [row for row in expected if row < 36 or group != 3 or not drop_remainder]
        kept = dataset.apply(top_k(used, 0.5, 3, key=key))
        found = sum((numbers(batch) for batch in kept.as_numpy_iterator()), [])
        assert found == expected


def test_an_image_rater_is_no_special_case():
    image = keras.Input((4, 4, 1))
    rater = keras.Model(image, keras.layers.GlobalMaxPooling2D()(image))  # scores [N, 1]
    images = np.random.default_rng(0).normal(size=(24, 4, 4, 1)).astype(np.float32)
    labels = np.arange(24)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    expected = best(images.max(axis=(1, 2, 3)), 2, 8)
    for elements in (dataset, dataset.batch(5), dataset.batch(6, drop_remainder=True)):
        kept = elements.apply(top_k(rater, 0.75, 2))
        found = np.concatenate([label for _, label in kept.as_numpy_iterator()])
        assert found.tolist() == expected
    reference = ReferenceDistribution.from_scores(images.max(axis=(1, 2, 3)))
    found = [
        label
        for _, label in dataset.apply(
            filter_by_percentile(rater, 0.5, 4, reference=reference, ids=lambda batch: batch[1])
        ).as_numpy_iterator()
    ]
    keep = decide(range(24), images.max(axis=(1, 2, 3)), 0.5, 4, reference=reference).keep
    assert found == np.flatnonzero(keep).tolist()


def test_a_loaded_rater_brings_its_percentiles_and_texts_their_ids(rater, path):
    scores = rater(TEXTS)
    kept = tf.data.Dataset.from_tensor_slices(TEXTS).apply(
        filter_by_percentile(path, 0.5, 8, seed=4, emit_scores=True)
    )
    found = decide(TEXTS, scores["score"], 0.5, 8, seed=4, reference=rater.document_reference)
    assert [text.decode() for text, _ in kept.as_numpy_iterator()] == [
        text for text, keep in zip(TEXTS, found.keep) if keep
    ]
    by_text = {text.decode(): facts for text, facts in kept.as_numpy_iterator()}
    for text, score, percentile in zip(TEXTS, scores["score"], scores["percentile"]):
        if text in by_text:
            assert by_text[text]["score"] == pytest.approx(score, abs=1e-6)
            assert by_text[text]["percentile"] == pytest.approx(percentile, abs=1e-4)


def test_operations_may_use_all_cores_unless_the_user_said_otherwise(dense_rater):
    rows = tf.data.Dataset.from_tensor_slices(np.zeros((8, 2), np.float32))
    kept = rows.apply(top_k(dense_rater, 0.5, 2))
    assert kept.options().threading.max_intra_op_parallelism == 0
    own = tf.data.Options()
    own.threading.max_intra_op_parallelism = 3
    kept = rows.with_options(own).apply(top_k(dense_rater, 0.5, 2))
    assert kept.options().threading.max_intra_op_parallelism == 3
    policy = tf.data.experimental.ExternalStatePolicy.IGNORE  # would hide a user's own state
    assert kept.options().experimental_external_state_policy != policy


def test_text_pipelines_can_be_checkpointed(rater, resumes):
    dataset = tf.data.Dataset.from_tensor_slices(TEXTS)
    resumes(dataset.apply(top_k(rater, 0.5, 3)), 2)
    resumes(dataset.apply(filter_by_percentile(rater, 0.5, 3)), 2)
    resumes(dataset.apply(reweight(rater, 3)).map(lambda x, _, w: (x, w)), 2)


def test_elements_with_parts_of_unknown_length_are_not_taken_for_batches(table):
    # a variable length and a scalar: examples; all unknown: batches
    spec = {"tokens": tf.TensorSpec([None], tf.int32), "id": tf.TensorSpec([], tf.int32)}
    assert pipelines._readings(spec) == [False]
    assert pipelines._readings(tf.TensorSpec([None], tf.int32)) == [True]
    assert pipelines._readings(tf.TensorSpec([4], tf.int32)) == [False, True]
    assert pipelines._readings(tf.TensorSpec(None, tf.int32)) == [False]
    ragged = tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[1], [2, 3]]))
    assert pipelines._readings(ragged.element_spec) == [False, True]
    assert pipelines._readings(ragged.batch(2).element_spec) == [True]
    rows = tf.data.Dataset.range(17).batch(4, drop_remainder=True)
    with pytest.raises(ConfigurationError, match=r"shape \(4, 4\).*`batched=True`"):
        rows.apply(top_k(table(np.arange(17)), 0.5, 2))
    kept = rows.apply(top_k(table(np.arange(17)), 0.5, 2, batched=True))
    assert [batch.tolist() for batch in kept.as_numpy_iterator()][0] == [2, 3]


def test_what_cannot_be_scored_is_refused_with_the_raters_own_words(rater, live):
    texts = tf.data.Dataset.from_tensor_slices((TEXTS, TEXTS))
    with pytest.raises(ConfigurationError, match="cannot score elements of .*with `key`"):
        texts.apply(top_k(live, 0.5, 2))
    rows = tf.data.Dataset.from_tensor_slices({"id": TOKENS, "words": TOKENS})
    with pytest.raises(ConfigurationError, match=r"1 inputs, \['tokens'\], and is given 2 parts"):
        rows.apply(top_k(live, 0.5, 2))
    with pytest.raises(ConfigurationError, match="no named fields"):
        texts.apply(top_k(rater, 0.5, 2, key="text"))
    with pytest.raises(ConfigurationError, match="The rater is 3: give the path"):
        top_k(3, 0.5, 2)
    with pytest.raises(ArtefactError, match="nowhere is not a directory"):
        reweight("nowhere", 8)


def test_a_pipeline_keeps_what_a_filtered_corpus_keeps(path, rater, tmp_path):
    documents = [make_document(text, "texts", f"id/{n}") for n, text in enumerate(TEXTS)]
    corpus = Corpus("texts", lambda skipped: iter(documents))
    settings = dict(discard_fraction=0.4, batch_size=8, seed=11)
    filter_corpus(
        corpus, rater, output_dir=str(tmp_path / "filtered"), reference="artefact", **settings
    )
    lines = (
        (tmp_path / "filtered" / "kept-00000-of-00001.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    written = [json.loads(line)["id"] for line in lines]
    dataset = tf.data.Dataset.from_tensor_slices(
        {"text": [d.text for d in documents], "id": [d.id for d in documents]}
    )
    kept = dataset.apply(filter_by_percentile(path, key="text", ids="id", **settings))
    assert [row["id"].decode() for row in kept.as_numpy_iterator()] == written
    assert 8 < len(written) < 36


class Looping(tf.Module):
    """A rater whose variable is read in the body of a loop, which is a function of its own."""

    def __init__(self):
        self.step = tf.Variable(2.0)

    def __call__(self, values):
        end = tf.zeros_like(values)
        scores, _ = tf.while_loop(
            lambda score, left: tf.reduce_any(left > end),
            lambda score, left: (score + self.step, left - 1.0),
            (end, values),
        )
        return scores + values


def test_what_is_frozen_leaves_the_process_with_its_pipeline():
    rater = Looping()
    values = tf.data.Dataset.from_tensor_slices(tf.range(32.0))

    def pipeline():
        return values.apply(top_k(rater, 0.5, 8)).unbatch()

    expected = [float(value) for value in pipeline()]
    gc.collect()
    before = frozen.registered()
    for _ in range(50):
        pipeline()
    gc.collect()
    assert not frozen.registered() - before
    # an iterator, and a graph, go on without the pipeline that they came from
    iterator = iter(pipeline())
    first = float(next(iterator))
    gc.collect()
    assert [first, *map(float, iterator)] == expected

    @tf.function
    def total():
        return pipeline().reduce(0.0, lambda a, b: a + b)

    for _ in range(2):
        assert float(total()) == sum(expected)
        gc.collect()
