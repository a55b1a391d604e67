"""Changes what the self-attention of keras_hub's blocks compares, and fails where it cannot.

A block offers no argument for that. What is replaced is `_compute_attention` of its Keras
attention, which a new release may rename, give other arguments or leave uncalled. Without the
checks here a model would then be trained that knows no positions.
"""

from collections.abc import Callable
import functools
import inspect

import keras
import keras_hub

from dr_keras.errors import ConfigurationError


def change_queries_and_keys(block, change: Callable) -> None:
    """Lets the self-attention of a built block compare `change(query, key)` instead of both.

    Args:
      block: a keras_hub TransformerEncoder or TransformerDecoder whose `call` is
        `with_changed_attention`.
      change: (query, key), both [B, S, heads, key width], to two tensors of these shapes.

    Raises:
      ConfigurationError: the installed keras or keras_hub has no such method to replace.
    """
    attention = getattr(block, "_self_attention_layer", None)
    compute = getattr(attention, "_compute_attention", None)
    if compute is None:
        raise _unknown_attention(block, "has no _self_attention_layer._compute_attention")
    first = list(inspect.signature(compute).parameters)[:3]
    if first != ["query", "key", "value"]:
        raise _unknown_attention(block, f"computes attention from {', '.join(first) or 'nothing'}")

    def compute_changed(query, key, *others, **named):
        compute_changed.calls += 1
        return compute(*change(query, key), *others, **named)

    compute_changed.calls = 0
    attention._compute_attention = compute_changed


def with_changed_attention(call: Callable) -> Callable:
    """A block's `call`, and a ConfigurationError where that did not ask the changed attention.

    The error comes when the model is traced or first called, before it has given a value.
    """

    @functools.wraps(call)  # Keras reads names of arguments off the signature
    def checked(block, *arguments, **named):
        compute_changed = block._self_attention_layer._compute_attention
        before = compute_changed.calls
        outputs = call(block, *arguments, **named)
        if compute_changed.calls == before:
            raise _unknown_attention(block, "does not call _compute_attention")
        return outputs

    return checked


def _unknown_attention(block, reason: str) -> ConfigurationError:
    kind = type(block).__name__
    return ConfigurationError(
        f"positions = 'rotary' needs the attention of keras 3.15 and keras-hub 0.32. Here are keras"
        f" {keras.__version__} and keras-hub {keras_hub.__version__}, with which {kind} {reason}."
        " Install those (pip install 'keras==3.15.*' 'keras-nlp==0.32.*'), or use learned"
        " positions."
    )
