"""A trained model of which little is trained on: low-rank updates of some kernels, or a few layers.

As inner model it makes members small: what nothing trains exists once for the whole population, and
a member's state, its optimizer's and every saved step of an unroll hold what is trained alone.
"""

from collections.abc import Callable, Sequence
import os

import keras

from dr_keras.errors import ConfigurationError
from dr_keras.models.weight_files import load_weights
import gin

_WEIGHTS = "final.weights.h5"  # of a run of train_language_model


@gin.configurable
def adapted_model(
    model: Callable[[], keras.Model] = gin.REQUIRED,
    weights: str | None = gin.REQUIRED,
    rank: int | None = 8,
    layers: Sequence[str] = ("query", "value"),
    trained: Sequence[str] = (),
    alpha: float | None = None,
) -> keras.Model:
    """A model with weights that stay, and low-rank updates that are trained (Hu et al., 2021).

    A kernel W of the layers named is W + alpha / rank A B, with A and B trained; B begins at 0, so
    that training begins from the model as it is. All else stays. Keras takes a kernel's last
    dimension for its columns: a query's [width, heads, key width] has an A [width, heads, rank]
    and a B [rank, key width], which the heads share.

    Args:
      model: builds it, such as @language_model with the settings it was trained with.
      weights: the base_dir of a run of train_language_model, or a file of Keras weights; None for
        a model that brings its weights, such as a preset.
      rank: of the updates; None for none.
      layers: names of the layers that get updates: of `language_model` and most of keras_hub's
        "query", "key", "value", "attention_output"; of the former also
        "feedforward_intermediate_dense" and "feedforward_output_dense".
      trained: names of layers that are trained as they are, such as a head. ("token_embedding" is
        that of `language_model`, and its input, as both are one table.)
      alpha: see above; None for `rank`.

    Returns:
      The model; `model_parts.share_trained` says what of it is trained.

    Raises:
      ConfigurationError: weights that do not fit; no layer of a name, or one that takes no update;
        nothing to train.
    """
    if rank is not None and rank < 1:
        raise ConfigurationError(f"adapted_model.rank is {rank}: it must be at least 1, or None.")
    built = model()
    if weights is not None:
        load_weights(built, _file(weights), "adapted_model.weights")
    every = [layer for layer in built._flatten_layers(include_self=False) if layer.weights]
    adapted = [] if rank is None else _named(every, layers, "layers", built)
    whole = _named(every, trained, "trained", built)
    for variable in built.trainable_variables:
        variable.trainable = False
    for layer in adapted:
        _add_update(layer, rank, alpha)
    for layer in whole:
        for variable in layer._trainable_variables:
            variable.trainable = True
    if not built.trainable_variables:
        raise ConfigurationError(
            f"adapted_model has nothing to train in '{built.name}': give it a rank, or name layers"
            " in adapted_model.trained."
        )
    return built


def _file(place: str) -> str:
    path = os.path.join(place, _WEIGHTS) if os.path.isdir(place) else place
    if not os.path.isfile(path):
        raise ConfigurationError(
            f"adapted_model.weights: there is no file {os.path.abspath(path)}: name the base_dir of"
            " a run of train_language_model that is done, or a file of Keras weights."
        )
    return path


def _named(every: Sequence, names: Sequence[str], argument: str, model: keras.Model) -> list:
    """The layers with weights that have one of these names; each name must have some."""
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if not any(layer.name == name for layer in every):
            known = ", ".join(sorted({layer.name for layer in every}))
            remedy = f"its layers: {known}"
            if any(layer.name == "blocks" for layer in every):
                remedy += " (language_model.recompute_blocks = False shows those within blocks)"
            raise ConfigurationError(
                f"adapted_model.{argument} names {name!r}, and '{model.name}' has no such layer;"
                f" {remedy}."
            )
    return [layer for layer in every if layer.name in names]


def _add_update(layer: keras.layers.Layer, rank: int | None, alpha: float | None) -> None:
    try:
        layer.enable_lora(rank, lora_alpha=alpha)
    except (AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"adapted_model.layers: the layer {layer.name!r} ({type(layer).__name__}) takes no"
            f" low-rank update ({error}): name layers with one kernel, such as 'query'."
        ) from error
