"""A small rater of text with weights that are not zero, exported once for all tests here."""

import keras
import numpy as np
import pytest

from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.models.text_models import text_rater
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.export import export_rater
from dr_keras.serving.loading import load_rater

WINDOW = 16


def score_by_definition(rater, text: bytes) -> float:
    """The mean of the windows' scores weighed by bytes, without any of the code under test."""
    total = 0.0
    for first in range(0, len(text), WINDOW):
        piece = text[first : first + WINDOW]
        row = [byte + 2 for byte in piece] + [0] * (WINDOW - len(piece))
        total += len(piece) * float(rater({"tokens": np.array([row], np.int32)})[0])
    return total / len(text)


@pytest.fixture(scope="session")
def by_definition(live_rater):
    return lambda texts: np.array([score_by_definition(live_rater, t) for t in texts], np.float32)


@pytest.fixture(scope="session")
def new_rater():
    def make(seed, layer_count=1, **options):
        keras.utils.set_random_seed(seed)
        rater = text_rater(
            vocabulary_size=258, sequence_length=WINDOW, width=8, layer_count=layer_count, **options
        )
        rater.get_layer("score").set_weights([np.random.normal(size=(8, 1)), np.array([0.3])])
        return rater

    return make


@pytest.fixture(scope="session")
def live_rater(new_rater):
    return new_rater(0)


@pytest.fixture(scope="session")
def references(live_rater):
    """Of windows and of documents; they differ."""
    tokens = np.random.default_rng(0).integers(2, 258, size=(200, WINDOW)).astype(np.int32)
    scores = live_rater.predict({"tokens": tokens}, verbose=0)
    documents = ReferenceDistribution.from_scores(scores.reshape(50, 4).mean(1))
    return ReferenceDistribution.from_scores(scores), documents


@pytest.fixture(scope="session")
def exported(live_rater, references, tmp_path_factory):
    root = tmp_path_factory.mktemp("exported")
    return export_rater(
        live_rater,
        byte_tokenizer(),
        WINDOW,
        root,
        references[0],
        document_reference=references[1],
        chunk=2,
        example_feature="body",
    )


@pytest.fixture(scope="session")
def loaded(exported):
    return load_rater(exported)
