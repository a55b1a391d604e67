"""A trained model that stays as it is, whose losses a rater reads beside the examples."""

from collections.abc import Callable
import os

import keras

from dr_keras.errors import CheckpointError
import gin

WEIGHTS = "final.weights.h5"


@gin.configurable
def reference_model(
    model: Callable[[], keras.Model] = gin.REQUIRED, weights: str = gin.REQUIRED
) -> keras.Model:
    """The model of "reference_loss", built and given its weights.

    Args:
      model: builds it, such as @language_model, with the settings that it was trained with.
      weights: the base_dir of a run of train_language_model, or a file of Keras weights.

    Raises:
      CheckpointError: there are no such weights, or they belong to another architecture.
    """
    path = os.path.join(weights, WEIGHTS) if os.path.isdir(weights) else weights
    if not os.path.isfile(path):
        raise CheckpointError(
            f"reference_model.weights: there is no file {os.path.abspath(path)}: name the base_dir"
            " of a run of train_language_model that is done, or a file of Keras weights."
        )
    built = model()
    try:
        built.load_weights(path)
    except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"reference_model.weights: {path} cannot be loaded into '{built.name}' ({error}): build"
            " the model with the settings that it was trained with."
        ) from error
    built.trainable = False
    return built
