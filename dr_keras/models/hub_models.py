"""Language models made of keras_hub's backbones: by the name of a class, or from a preset."""

from collections.abc import Mapping
import inspect
import os

import keras
import keras_hub
import numpy as np

from dr_keras.errors import ConfigurationError
from dr_keras.models import layers
import gin

_INPUTS = {"token_ids", "padding_mask"}


@gin.configurable
def hub_language_model(
    vocabulary_size: int = gin.REQUIRED,
    sequence_length: int = gin.REQUIRED,
    backbone: str | None = None,
    settings: Mapping | None = None,
    preset: str | None = None,
) -> keras.Model:
    """A decoder of keras_hub with the logits of its own embedding.

    Args:
      vocabulary_size: of the tokenizer; id 0 is padding and is masked.
      sequence_length: S, tokens in a window.
      backbone: the class, such as 'GPT2Backbone' or 'LlamaBackbone', built with fresh weights.
      settings: arguments of that class but for the vocabulary, such as {'num_layers': 2, ...};
        dropout is what the class says unless it is among them.
      preset: in place of both, a folder that keras_hub's `save_to_preset` wrote, or a name that its
        `from_preset` knows; with its weights. Tokens must mean what they meant to it.

    Returns:
      A Keras model from {"tokens": int32 [B, S]} to logits [B, S, its vocabulary], float32 (float64
      under that policy).

    Raises:
      ConfigurationError: no such class or preset, settings it does not take, one that is no decoder
        of text alone or sees tokens that come later, or a vocabulary below the tokenizer's.
    """
    if (backbone is None) == (preset is None):
        raise ConfigurationError(
            "hub_language_model needs a backbone, such as 'LlamaBackbone', or a preset, and not"
            " both."
        )
    if backbone is not None:
        made = _built(backbone, {**(settings or {}), "vocabulary_size": vocabulary_size})
    else:
        made = _from_preset(str(preset))
    called = backbone or preset
    embedding = getattr(made, "token_embedding", None)
    inputs = made.input if isinstance(made.input, Mapping) else {}
    if "reverse" not in inspect.signature(getattr(embedding, "call", len)).parameters:
        raise _refused(called, "it has no embedding of tokens that gives logits as well")
    if set(inputs) != _INPUTS:
        raise _refused(called, f"it reads {sorted(inputs)}, where {sorted(_INPUTS)} are read")
    if embedding.input_dim < vocabulary_size:
        raise ConfigurationError(
            f"hub_language_model: {called} has a vocabulary of {embedding.input_dim:,} and the"
            f" tokenizer one of {vocabulary_size:,}: take the tokenizer of the preset."
        )
    if _sees_later_tokens(made):
        raise _refused(called, "its tokens see those that come after them")
    tokens = keras.Input((sequence_length,), dtype="int32", name="tokens")
    mask = keras.ops.cast(keras.ops.not_equal(tokens, 0), "int32")
    hidden = made({"token_ids": tokens, "padding_mask": mask})
    logits = keras.ops.cast(embedding(hidden, reverse=True), layers.output_dtype())
    return keras.Model({"tokens": tokens}, logits, name="hub_language_model")


def _built(name: str, settings: Mapping) -> keras.Model:
    kind = getattr(keras_hub.models, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, keras_hub.models.Backbone)):
        known = [n for n in dir(keras_hub.models) if n.endswith("Backbone") and n != "Backbone"]
        raise ConfigurationError(
            f"hub_language_model.backbone: keras_hub.models has no backbone {name!r}; of text are"
            f" among others {', '.join(n for n in known if n.startswith(_DECODERS))}."
        )
    try:
        return kind(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"hub_language_model.settings {dict(settings)!r} do not suit {name} ({error}); it"
            f" takes {', '.join(inspect.signature(kind).parameters)}."
        ) from error


_DECODERS = ("Bloom", "Falcon", "GPT", "Gemma", "Llama", "Mistral", "OPT", "Phi", "Qwen")


def _from_preset(place: str) -> keras.Model:
    try:
        return keras_hub.models.Backbone.from_preset(place)
    except Exception as error:  # whatever the downloader of a preset that is no folder raises
        missing = "" if os.path.isdir(place) else f"; there is no folder {os.path.abspath(place)}"
        raise ConfigurationError(
            f"hub_language_model.preset: {place} cannot be loaded"
            f" ({' '.join(str(error).split())[:300]}){missing}."
        ) from error


def _refused(called: object, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"hub_language_model cannot predict next tokens with {called}: {reason}. Name a decoder of"
        " text, such as 'LlamaBackbone'."
    )


def _sees_later_tokens(backbone: keras.Model) -> bool:
    """Whether the first token's output depends on the second."""
    ids = np.array([[1, 1], [1, 2]], np.int32)
    hidden = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)}, training=False)
    first = keras.ops.convert_to_numpy(keras.ops.cast(hidden, "float32"))[:, 0]
    # Fresh weights are small, and so is what a later token does; sixteen bits round by more.
    tolerance = 1e-5 if "float16" not in backbone.compute_dtype else 2e-2
    return bool(np.abs(first[0] - first[1]).max() > tolerance * np.abs(first).max())
