"""A run whose rater reads a reference model's loss: what is exported, carried or as an input."""

import functools

import keras
import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.models.losses import next_token_loss
from dr_keras.models.text_models import language_model, text_rater
from dr_keras.runs import export
from dr_keras.runs.experiment import experiment
from dr_keras.runs.reference import reference_model
from dr_keras.serving.export import export_text
from dr_keras.serving.loading import load_rater
from dr_keras.training.metrics import spearman

S = 8


def windows(name: str) -> ExampleSet:
    tokens = np.random.default_rng(sum(map(ord, name))).integers(2, 258, (30, S)).astype(np.int32)
    names = np.array([f"{name}{row}#0" for row in range(30)], object)
    return ExampleSet({"tokens": tokens}, names, names, names, name=name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of train_language_model, as far as its weights go."""
    folder = tmp_path_factory.mktemp("language")
    model = language_model(258, S, width=4, layer_count=1, heads=1)
    for variable in model.trainable_variables:
        variable.assign_add(np.random.default_rng(0).normal(scale=0.5, size=variable.shape))
    model.save_weights(folder / "final.weights.h5")
    return folder


def setup_with(features, reference):
    def rater():
        built = text_rater(258, S, width=4, layer_count=1, heads=1, features=features)
        kernel = built.get_layer("score").kernel
        kernel.assign(np.random.default_rng(2).normal(size=kernel.shape))
        return built

    parts = Parts(*map(windows, ("train", "outer", "validation", "test")))
    return experiment(
        parts,
        rater,
        functools.partial(language_model, 258, S, width=4, layer_count=1, heads=1),
        next_token_loss,
        functools.partial(export_text, tokenizer=byte_tokenizer()),
        reference_model=reference,
    )


@pytest.fixture
def one_checkpoint(monkeypatch):
    """As if a run had kept the rater as it is built."""
    monkeypatch.setattr(export, "choose_step", lambda *_: (7, "the latest"))
    monkeypatch.setattr(export, "load_rater_weights", lambda *_: None)
    monkeypatch.setattr(export, "evaluated_steps", lambda *_: [])


@pytest.mark.usefixtures("one_checkpoint")
def test_the_losses_are_carried_or_an_input(trained, tmp_path):
    constructor = functools.partial(language_model, 258, S, width=4, layer_count=1, heads=1)
    reference = functools.partial(reference_model, constructor, str(trained))
    setup = setup_with(["reference_loss"], reference)
    train = setup.parts.train
    tokens = train.features["tokens"]
    losses = np.array(next_token_loss(reference()({"tokens": tokens}), {"tokens": tokens}))
    scores = setup.scorer()(train)
    carried = load_rater(export.export_run(tmp_path, setup=setup, directory=tmp_path / "carried"))
    np.testing.assert_allclose(carried(tokens)["score"], scores, atol=1e-5)
    known = carried.metadata["training"]["reference_loss"]
    assert known["mean"] == pytest.approx(losses.mean(), rel=1e-5)
    assert known["rank_correlation"] == pytest.approx(spearman(losses, scores), abs=1e-3)
    as_input = load_rater(
        export.export_run(
            tmp_path, setup=setup, directory=tmp_path / "input", reference_loss="input"
        )
    )
    found = as_input({"tokens": tokens, "reference_loss": losses})
    np.testing.assert_allclose(found["score"], scores, atol=1e-5)
    assert as_input.metadata["training"]["reference_loss"] == known
    with pytest.raises(ConfigurationError, match="export_run.reference_loss is 'both'"):
        export.export_run(tmp_path, setup=setup, reference_loss="both")


@pytest.mark.usefixtures("one_checkpoint")
@pytest.mark.parametrize(
    ("feature", "said"),
    [("inner_loss", "cannot be exported"), ("reference_loss", "give that model and its loss")],
)
def test_raters_that_read_what_is_not_there_are_refused(feature, said, tmp_path):
    with pytest.raises(ConfigurationError, match=said):
        export.export_run(tmp_path, setup=setup_with([feature], None))
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_there_or_do_not_fit_are_named(trained, tmp_path):
    def build(width=4):
        return language_model(258, S, width=width, layer_count=1, heads=1)

    assert not reference_model(build, str(trained)).trainable_variables
    with pytest.raises(CheckpointError, match="there is no file .*final.weights.h5"):
        reference_model(build, str(tmp_path))
    with pytest.raises(CheckpointError, match="cannot be loaded into 'language_model'"):
        reference_model(functools.partial(build, 8), str(trained))
    assert isinstance(reference_model(build, str(trained / "final.weights.h5")), keras.Model)
