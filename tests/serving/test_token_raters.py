"""Raters of tokens, and raters that read a reference model's loss, as artefacts."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import dr_keras
from dr_keras.data.examples import ExampleSet
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ArtefactError, CheckpointError, ConfigurationError, DataError
from dr_keras.meta.scoring import Scorer
from dr_keras.models.image_models import image_classifier, image_rater
from dr_keras.models.losses import classification_loss, next_token_loss, token_loss
from dr_keras.models.rater_scores import ReferenceLoss
from dr_keras.models.text_models import language_model, text_rater
from dr_keras.pipelines.transformations import top_k
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.export import export_images, export_rater, export_text
from dr_keras.serving.folder import check_facts, describe
from dr_keras.serving.frozen import freeze
from dr_keras.serving.loading import load_rater
from dr_keras.serving.text import TextKind
from dr_keras.serving.weights import load_exported_weights

S = 16
TEXTS = ["short", "a text of more than sixteen bytes, with several windows", "", "another one"]
MANY = [f"{'word ' * (i % 5)} {i}" for i in range(16)]


def example_set(features):
    names = np.array([f"e{row}" for row in range(len(next(iter(features.values()))))], object)
    return ExampleSet(features, names, names, names)


def rater_of(seed=0, **options):
    keras.utils.set_random_seed(seed)
    rater = text_rater(258, S, width=8, layer_count=1, **options)
    kernel = rater.get_layer("score").kernel
    kernel.assign(np.random.default_rng(seed).normal(size=kernel.shape))
    return rater


@pytest.fixture(scope="module")
def language():
    """The reference model; its logits come in chunks, which a server's batches cannot have."""
    keras.utils.set_random_seed(5)
    model = language_model(258, S, width=8, layer_count=1, chunked_logits=True)
    for variable in model.trainable_variables:
        variable.assign_add(np.random.default_rng(1).normal(scale=0.3, size=variable.shape))
    return model


def windows_of(text: str) -> np.ndarray:
    """By definition: every S bytes, which are ids from 2 on."""
    ids = [byte + 2 for byte in text.encode()]
    rows = [ids[first : first + S] for first in range(0, len(ids), S)] or [[]]
    return np.array([row + [0] * (S - len(row)) for row in rows], np.int32)


def scores_by_definition(rater, text, losses=None):
    """Scores of a text's tokens: ([n], tokens [n])."""
    tokens = windows_of(text)
    batch = {"tokens": tf.constant(tokens)}
    if losses is not None:
        batch["reference_loss"] = losses(tokens)
    return rater(batch).numpy()[tokens != 0], tokens[tokens != 0]


@pytest.fixture(scope="module", params=["tokens alone", "with a reference model"])
def exported_both(request, language, tmp_path_factory):
    """(loaded rater, the live one, its reference model's losses of windows or None)."""
    losses = reference = None
    options = {}
    if request.param != "tokens alone":
        reference = ReferenceLoss(language, token_loss)
        options = {"features": ["reference_loss"]}

        def losses(tokens):
            batch = {"tokens": tf.constant(tokens)}
            return token_loss(language(batch), batch)

    rater = rater_of(per_token=True, **options)
    root = str(tmp_path_factory.mktemp("export"))
    windows = example_set({"tokens": np.concatenate([windows_of(text) for text in MANY])})
    scores = Scorer(rater, jit_compile=False, reference=reference)(windows)
    units = ReferenceDistribution.from_scores(scores)
    export_rater(rater, byte_tokenizer(), S, root, units, chunk=2, reference_loss=reference)
    return load_rater(root), rater, losses


def test_token_scores_of_texts_are_the_live_models_and_scores_their_means(exported_both):
    loaded, rater, losses = exported_both
    found = loaded.token_scores(TEXTS)
    scores = loaded(TEXTS)["score"]
    for text, of_tokens, score in zip(TEXTS, found, scores):
        expected, tokens = scores_by_definition(rater, text, losses)
        np.testing.assert_array_equal(of_tokens["tokens"], tokens)
        np.testing.assert_allclose(of_tokens["token_scores"], expected, atol=1e-4)
        if text:
            assert score == pytest.approx(expected.mean(), abs=1e-4)
    assert scores[2] == loaded.reference.quantiles[0]
    single = loaded.token_scores(TEXTS[1])
    assert len(single["tokens"]) == len(TEXTS[1]) and np.ptp(single["token_scores"]) > 0.1
    assert loaded.token_scores([]) == []


def test_token_scores_of_windows(exported_both):
    loaded, rater, losses = exported_both
    tokens = np.concatenate([windows_of(text) for text in TEXTS])
    found = loaded.token_scores(tokens)
    assert found.dtype == np.float32 and not found[tokens == 0].any()
    expected = np.concatenate([scores_by_definition(rater, text, losses)[0] for text in TEXTS])
    np.testing.assert_allclose(found[tokens != 0], expected, atol=1e-4)
    in_graph = tf.function(loaded.token_scores)(tf.constant(tokens))
    np.testing.assert_allclose(in_graph, found, atol=1e-4)
    means = loaded.score_tokens(tokens)["score"][:1]
    np.testing.assert_allclose(means, [expected[: len("short")].mean()], atol=1e-4)
    with pytest.raises(DataError, match=r"not \[5, 32\]"):
        loaded.token_scores(np.tile(tokens[:5], 2))


def test_what_the_metadata_says(exported_both):
    loaded, rater, losses = exported_both
    features = ("reference_loss",) if losses else ()
    assert loaded.per_token and loaded.features == features
    assert loaded.metadata["per_token"] is True
    assert loaded.metadata.get("features", []) == list(features)
    # The reference model's language model takes windows of S alone.
    assert loaded.metadata["variable_length"] is (losses is None)


def test_filters_take_the_scores_of_windows(exported_both):
    loaded, rater, losses = exported_both
    scores = loaded(MANY)["score"]
    dataset = tf.data.Dataset.from_tensor_slices(MANY).apply(top_k(loaded, 0.5, 4))
    first = [text.decode() for text in next(dataset.as_numpy_iterator())]
    assert first == [MANY[k] for k in np.sort(np.argsort(-scores[:8], kind="stable")[:4])]
    chances = loaded.keep_probability(MANY, 0.5, 4)["keep_probability"]
    assert (np.diff(chances[np.argsort(scores)]) >= 0).all() and np.ptp(chances) > 0.5


def test_the_reference_models_own_loss_stands_beside_the_score(exported_both):
    loaded, rater, losses = exported_both
    if losses is None:
        assert "reference_loss" not in loaded.signatures
        with pytest.raises(ConfigurationError, match="carries no reference model"):
            loaded.reference_loss(TEXTS)
        return
    found = loaded.reference_loss(TEXTS)
    np.testing.assert_allclose(found["score"], loaded(TEXTS)["score"], atol=1e-6)
    for text, loss in zip(TEXTS, found["reference_loss"]):
        tokens = windows_of(text)
        lengths = (tokens != 0).sum(1)
        by_window = losses(tokens).numpy().sum(1) / np.maximum(lengths - 1, 1)
        expected = (by_window * lengths).sum() / max(lengths.sum(), 1)
        assert loss == pytest.approx(expected, abs=1e-4)
    assert loaded.reference_loss([])["reference_loss"].shape == (0,)


def test_only_a_rater_without_a_reference_model_is_gone_on_from(exported_both):
    loaded, rater, losses = exported_both
    if losses:  # both models have weights of the same names
        with pytest.raises(CheckpointError, match="carries a reference model .*rater's run"):
            load_exported_weights(rater, loaded.path)
        return
    other = rater_of(1, per_token=True)
    load_exported_weights(other, loaded.path)
    for one, expected in zip(other.get_weights(), rater.get_weights()):
        np.testing.assert_array_equal(one, expected)


def test_what_the_metadata_may_say(exported_both, tmp_path):
    loaded, *_ = exported_both
    facts = type(loaded).facts
    check_facts(str(tmp_path), loaded.metadata, facts)
    for key, wrong in (("per_token", "yes"), ("features", ["inner_loss"])):
        with pytest.raises(ArtefactError, match=f" as {key}.*, which should be"):
            check_facts(str(tmp_path), {**loaded.metadata, key: wrong}, facts)


def test_another_reference_model_is_another_rater(language, references):
    other = language_model(258, S, width=8, layer_count=1)
    rater = rater_of(features=["reference_loss"])
    fingerprints = set()
    for model in (language, other):
        reference = ReferenceLoss(model, next_token_loss)
        kind = TextKind(rater, byte_tokenizer(), S, reference=reference)
        fingerprints.add(describe(kind, *references, {})["fingerprint"])
    assert len(fingerprints) == 2


def test_raters_of_examples_say_that_they_have_no_scores_of_tokens(loaded):
    assert not loaded.per_token and loaded.features == ()
    with pytest.raises(ConfigurationError, match=r"text_rater.per_token = True"):
        loaded.token_scores(["text"])


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (["inner_loss"], "reads 'inner_loss' of the model that is being trained"),
        (["reference_loss"], "the loss under a reference model: give that model"),
    ],
)
def test_raters_that_read_what_is_not_there_are_not_exported(features, said, references, tmp_path):
    with pytest.raises(ConfigurationError, match=said):
        export_rater(rater_of(features=features), byte_tokenizer(), S, str(tmp_path), references[0])
    assert not list(tmp_path.iterdir())


def test_a_reference_model_of_other_windows_is_refused(references, tmp_path):
    reference = ReferenceLoss(language_model(258, S + 1, 8, 1), next_token_loss)
    with pytest.raises(ConfigurationError, match="reference model takes windows of 17 tokens"):
        export_rater(
            rater_of(features=["reference_loss"]), byte_tokenizer(), S, str(tmp_path),
            references[0], reference_loss=reference,
        )  # fmt: skip


# ------------------------------------------------------------- the loss as an input; images; live


def test_the_loss_may_be_an_input_of_the_signature(language, tmp_path):
    """A text rater is then one of tokens and losses, with the mean of its tokens' scores."""
    tokens = np.concatenate([windows_of(text) for text in TEXTS])
    batch = {"tokens": tf.constant(tokens)}
    losses = token_loss(language(batch), batch).numpy()
    rater = rater_of(per_token=True, features=["reference_loss"])
    examples = example_set({"tokens": tokens, "reference_loss": losses})
    scores = Scorer(rater, jit_compile=False)(examples)
    export_text(rater, examples, scores, str(tmp_path), {}, tokenizer=byte_tokenizer())
    loaded = load_rater(str(tmp_path))
    assert sorted(loaded.inputs) == ["reference_loss", "tokens"]
    np.testing.assert_allclose(loaded(examples.features)["score"], scores, atol=1e-5)
    other = loaded({**examples.features, "reference_loss": losses + 1})["score"]
    assert np.abs(other - scores).max() > 0.01


def test_images_carry_their_reference_model_which_reads_the_label(tmp_path):
    rng = np.random.default_rng(0)
    shape = (8, 6, 1)
    features = {
        "image": rng.integers(0, 256, (20, *shape), np.uint8),
        "label": rng.integers(0, 3, 20).astype(np.int32),
    }
    examples = example_set(features)
    classifier = image_classifier(shape, 3, channels=(3,))
    classifier.get_layer("logits").kernel.assign(
        rng.normal(size=classifier.get_layer("logits").kernel.shape)
    )
    reference = ReferenceLoss(classifier, classification_loss)
    rater = image_rater(shape, channels=(3,), dense=4, features=["reference_loss"])
    kernel = rater.get_layer("score").kernel
    kernel.assign(rng.normal(size=kernel.shape))
    losses = classification_loss(classifier({"image": features["image"]}), features)
    expected = rater({"image": tf.constant(features["image"]), "reference_loss": losses})
    scores = Scorer(rater, 8, jit_compile=False, reference=reference)(examples)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    export_images(rater, examples, scores, str(tmp_path), {}, reference_loss=reference)
    loaded = dr_keras.load_rater(str(tmp_path))
    assert list(loaded.inputs) == ["image", "label"]
    assert loaded.metadata["features"] == ["reference_loss"]
    for image in (features["image"], (features["image"] / 255).astype(np.float32)):
        found = loaded({"image": image, "label": features["label"]})
        np.testing.assert_allclose(found["score"], scores, atol=1e-4)
    beside = loaded.signatures["reference_loss"](
        **{name: tf.constant(values) for name, values in features.items()}
    )
    np.testing.assert_allclose(beside["reference_loss"], losses, atol=1e-5)
    np.testing.assert_allclose(beside["score"], scores, atol=1e-5)
    assert json.loads(json.dumps(loaded.metadata))["inputs"].keys() == {"image", "label"}


def test_live_raters_in_pipelines():
    """A token rater scores windows; one that reads a member's state needs that as columns."""
    tokens = np.concatenate([windows_of(text) for text in TEXTS])
    rater = rater_of(per_token=True)
    spec = tf.TensorSpec([None, S], tf.int32)
    frozen = freeze(rater, {"tokens": spec})
    expected = Scorer(rater, jit_compile=False)(example_set({"tokens": tokens}))
    rows = tf.constant(tokens)
    np.testing.assert_allclose(frozen({"tokens": rows})["score"], expected, atol=1e-5)
    np.testing.assert_allclose(freeze(rater, spec)(rows)["score"], expected, atol=1e-5)
    reads_state = rater_of(features=["inner_loss"])
    with pytest.raises(ConfigurationError, match="inside training, where a pipeline has"):
        freeze(reads_state, {"tokens": spec})
    with_column = {"tokens": spec, "inner_loss": tf.TensorSpec([None], tf.float32)}
    losses = tf.range(len(tokens), dtype=tf.float32)
    scored = freeze(reads_state, with_column)({"tokens": rows, "inner_loss": losses})
    assert scored["score"].shape == (len(tokens),) and np.ptp(scored["score"]) > 0.1
