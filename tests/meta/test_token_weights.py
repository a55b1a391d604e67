"""What weights of tokens are for: windows that are noise in part, at places that say nothing."""

import keras
import numpy as np
import pytest

from dr_keras.config import configuration
from dr_keras.data.noisy_spans import with_noisy_spans
from dr_keras.meta.scoring import Scorer
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.inner_state import score_of
from dr_keras.models.layers import position_embedding
from dr_keras.runs.experiment import experiment
from dr_keras.training.metrics import area_under_curve
import gin

META_STEPS = 300


@gin.configurable(module="test_token_weights")
def positions_rater(sequence_length: int = 64) -> keras.Model:
    """Scores of tokens by their positions, whatever the tokens are."""
    tokens = keras.Input((sequence_length,), dtype="int32", name="tokens")
    nothing = keras.ops.zeros_like(keras.ops.expand_dims(tokens, -1), dtype="float32")
    seen = position_embedding(sequence_length)(keras.ops.repeat(nothing, 8, axis=-1))
    return keras.Model({"tokens": tokens}, score_of(seen, {}), name="positions_rater")


@pytest.mark.long
@pytest.mark.parametrize("rater", ["text_rater", "positions_rater"])
def test_a_rater_of_tokens_finds_the_noise_within_windows_of_prose(rater):
    """The experiment that is packaged, on windows of the test part."""
    configuration.parse(
        "experiments/token_spans.gin", [f"RATER = @{rater}", f"META_STEPS = {META_STEPS}"]
    )
    setup = experiment()
    trainer = MetaTrainer(setup.rater, setup.inner_model, setup.per_example_loss)
    trainer.fit(setup.parts.train, setup.parts.outer, META_STEPS)
    examples = with_noisy_spans(setup.parts.test.thinned(512))
    scores = Scorer(setup.rater).token_scores(examples)
    real = examples.features["tokens"] != 0
    auc = area_under_curve(scores[real], ~examples.labels["noise"][real])
    assert np.ptp(scores) > 0.01
    if rater == "text_rater":
        assert auc > 0.9
    else:
        assert 0.47 < auc < 0.53
