"""Values in a file of Keras weights are those of the model that wrote it, whatever its form."""

import keras
import pytest

from dr_keras.models.text_models import language_model
from dr_keras.models.weight_files import values_in, values_saved


def normalised():
    x = keras.Input((3,))
    hidden = keras.layers.Dropout(0.1)(keras.layers.Dense(4)(x))
    return keras.Model(x, keras.layers.BatchNormalization()(hidden))


def stacked():
    """Its blocks' dropout keeps a seed that Keras saves like a weight."""
    return language_model(9, 6, 4, 2, 1, dropout=0.1, recompute_blocks=True)


def halved():
    x = keras.Input((3,))
    return keras.Model(x, keras.layers.Dense(4, dtype="bfloat16")(x))


@pytest.mark.parametrize("build", [normalised, stacked, halved])
def test_a_file_holds_what_its_model_has(build, tmp_path):
    model = build()
    model.save_weights(tmp_path / "of.weights.h5")
    assert values_in(tmp_path / "of.weights.h5") == values_saved(model) > 0
