"""Layers that language models and raters share, put together from keras_hub's."""

from collections.abc import Callable
import functools
import inspect
import re

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from dr_keras.differentiation.recomputing_scan import recomputing_scan
from dr_keras.errors import ConfigurationError

# Standard deviation of embedding initialisation; GPT-2's value, also keras_hub's choice.
EMBEDDING_DEVIATION = 0.02

# The longest wavelength of rotary positions, in tokens over 2 pi; Su et al.'s, section 3.2.2.
ROTARY_WAVELENGTH = 10_000.0

# How a transformer knows the order of its tokens.
POSITIONS = ("rotary", "learned")


def check_width(width: int, heads: int, positions: str, name: str) -> None:
    """Raises ValueError unless `heads` divides `width` into parts that `positions` can take."""
    if positions not in POSITIONS:
        raise ValueError(f"{name}: positions is {positions!r}; it must be one of {POSITIONS}")
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(
            f"{name}: width {width} must be a multiple of heads {heads}, both at least 1"
        )
    if positions == "rotary" and width // heads % 2:
        raise ValueError(
            f"{name}: rotary positions turn pairs of numbers, and width {width} / heads {heads} ="
            f" {width // heads} is odd"
        )


def approximate_gelu(x):
    """Tanh form of GELU: its second derivative is made of cheap elementwise operations."""
    return keras.activations.gelu(x, approximate=True)


def output_dtype(policy: str | None = None) -> str:
    """float32 for logits and scores also where the policy computes in 16 bits; float64 stays."""
    policy = keras.dtype_policies.get(policy) if policy else keras.config.dtype_policy()
    return "float64" if policy.compute_dtype == "float64" else "float32"


def token_embedding(
    vocabulary_size: int, width: int, name: str = "token_embedding", dtype: str | None = None
):
    """Embedding whose transpose also gives logits (`layer(h, reverse=True)`)."""
    return keras_hub.layers.ReversibleEmbedding(
        vocabulary_size,
        width,
        tie_weights=True,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=EMBEDDING_DEVIATION),
        name=name,
        dtype=dtype,
    )


class HiddenAndUnembedding(keras.layers.Layer):
    """Hands a loss the hidden states and the tied embedding that makes logits of them.

    Args:
      embedding: the `token_embedding`, whose variable this layer shares.
    """

    def __init__(self, embedding: keras.layers.Layer, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def build(self, input_shape):
        del input_shape  # the embedding is built where it is called

    def call(self, hidden):
        table = keras.ops.cast(self.embedding.embeddings, self.compute_dtype)
        return {"hidden": hidden, "unembedding": table}


def position_embedding(
    sequence_length: int, name: str = "position_embedding", dtype: str | None = None
):
    """Learned positions, added to the token embedding."""
    return keras_hub.layers.PositionEmbedding(
        sequence_length,
        initializer=keras.initializers.RandomNormal(stddev=EMBEDDING_DEVIATION),
        name=name,
        dtype=dtype,
    )


def _change_queries_and_keys(block, change: Callable) -> None:
    """Lets the self-attention of a built block compare `change(query, key)` instead of both.

    keras_hub's blocks offer no argument for that. What is replaced is `_compute_attention` of their
    Keras attention, which a new release may rename, give other arguments or leave uncalled. Without
    the checks here a model would then be trained that knows no positions.

    Args:
      block: a keras_hub TransformerEncoder or TransformerDecoder whose `call` is
        `_with_changed_attention`.
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


def _with_changed_attention(call: Callable) -> Callable:
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


def _turn_queries_and_keys(block, sequence_length: int) -> None:
    """Makes a keras_hub block that was built know positions by rotation (Su et al. 2021).

    As with learned positions, a longer input is an error. keras_hub's own RotaryEmbedding turns
    an input of any length, and by float32's angles under float64, too.
    """
    exact = output_dtype(block.dtype_policy.name)  # sixteen bits tell no angles apart

    def turned_both(query, key):  # both [B, S', heads, 2 half]
        half = query.shape[-1] // 2
        frequencies = (ROTARY_WAVELENGTH ** (-np.arange(half) / half)).astype(exact)
        length = keras.ops.shape(query)[1]
        positions = keras.ops.slice(np.arange(sequence_length, dtype=exact), [0], [length])
        angles = positions[:, None, None] * frequencies  # [S', 1 (heads), half]
        cosine = keras.ops.cast(keras.ops.cos(angles), block.compute_dtype)
        sine = keras.ops.cast(keras.ops.sin(angles), block.compute_dtype)

        def turned(projected):
            first, second = keras.ops.split(projected, 2, axis=-1)
            return keras.ops.concatenate(
                [first * cosine - second * sine, second * cosine + first * sine], axis=-1
            )

        return turned(query), turned(key)

    _change_queries_and_keys(block, turned_both)


class _Rotary:
    """What keras_hub's blocks with rotary positions share.

    Each has a `build` and a `call` of its own, because Keras reads names of arguments off their
    signatures.
    """

    def __init__(self, sequence_length: int, **kwargs):
        self.sequence_length = sequence_length  # first: from a file, __init__ builds
        super().__init__(**kwargs)

    def get_config(self):
        return {**super().get_config(), "sequence_length": self.sequence_length}


@keras.saving.register_keras_serializable(package="dr_keras")
class RotaryEncoder(_Rotary, keras_hub.layers.TransformerEncoder):
    """keras_hub's TransformerEncoder with rotary positions, up to `sequence_length` of them."""

    def build(self, inputs_shape):
        super().build(inputs_shape)
        _turn_queries_and_keys(self, self.sequence_length)

    call = _with_changed_attention(keras_hub.layers.TransformerEncoder.call)


@keras.saving.register_keras_serializable(package="dr_keras")
class RotaryDecoder(_Rotary, keras_hub.layers.TransformerDecoder):
    """keras_hub's TransformerDecoder with rotary positions, up to `sequence_length` of them."""

    def build(self, decoder_sequence_shape, encoder_sequence_shape=None):
        super().build(decoder_sequence_shape, encoder_sequence_shape)
        _turn_queries_and_keys(self, self.sequence_length)

    call = _with_changed_attention(keras_hub.layers.TransformerDecoder.call)


class RecomputedBlocks(keras.layers.Layer):
    """The blocks one after the other, of which only the inputs are kept: a loop over them.

    Values are those of the blocks called one by one. A derivative holds one block's activations at
    a time and the [B, S, width] that enters each of them, at first and at second order; that costs
    one more forward pass of the blocks in every derivative. Each weight is one variable
    [layers, ...] for all of them, so that a program has the operations of one block, whatever the
    number of layers: in the blocks, in every optimizer and in the meta-gradient.

    Args:
      blocks: layers alike in everything but their weights, from [B, S, width] to the same. They
        give the initial values; this layer's weights are its own.
    """

    def __init__(self, blocks: list, **kwargs):
        super().__init__(**kwargs)
        # In functions, where Keras does not look for layers: the blocks' weights are not weights
        # of this one.
        self._template = lambda block=blocks[0]: block
        self._unbuilt = lambda: blocks
        self.count = len(blocks)

    def build(self, input_shape):
        blocks = self._unbuilt()
        for block in blocks:
            block.build(input_shape)
        self._trained, self._states = (
            [
                self._stacked(alike)
                for alike in zip(*(getattr(block, kind) for block in blocks), strict=True)
            ]
            for kind in ("trainable_variables", "non_trainable_variables")
        )
        self._unbuilt = None

    def _stacked(self, variables):
        first = variables[0]
        return self.add_weight(
            shape=(self.count, *first.shape),
            dtype=first.dtype,
            initializer=lambda *_, **__: keras.ops.stack([v.value for v in variables]),
            trainable=first.trainable,
            name=_name_within(self._template().name, first.path),
        )

    def call(self, hidden, padding_mask=None, training=None):
        template, count = self._template(), len(self._trained)
        masks = [] if padding_mask is None else [padding_mask]

        def step(carry, x, shared):
            masked = {"padding_mask": shared[0]} if shared else {}
            outputs, states = template.stateless_call(
                x[:count], x[count:], carry[0], training=training, **masked
            )
            return [outputs], list(states)

        # Seeds of dropout are handed in and out: a block run again draws what it drew.
        values = [keras.ops.convert_to_tensor(v.value) for v in (*self._trained, *self._states)]
        (after,), states = recomputing_scan(step, [hidden], values, masks, self.count)
        if not hidden.shape.is_fully_defined():
            # A graph that is given sizes later, as a frozen one is, learns none from a loop.
            after = tf.reshape(after, tf.shape(hidden))
        for variable, value in zip(self._states, states, strict=True):
            variable.assign(value)
        return after

    def compute_output_shape(self, input_shape, *_, **__):
        return input_shape


def _name_within(block: str, path: str) -> str:
    """`self_attention_query_kernel` of `model/block_0/self_attention/query/kernel`."""
    inside = path.split(f"{block}/")[-1]
    return re.sub(r"_\d+/", "/", inside).replace("/", "_")


def transformer(
    hidden,
    *,
    causal: bool,
    sequence_length: int,
    positions: str,
    layer_count: int,
    heads: int,
    feedforward: int | None,
    dropout: float,
    recompute_blocks: bool,
    dtype: str | None = None,
    **call_arguments,
):
    """Positions and pre-normalised blocks, and the normalisation after them.

    Args:
      hidden: embedded tokens [B, S, width], as `token_embedding` gives them.
      causal: each position sees itself and earlier ones; otherwise all of them.
      positions, and the others up to `dtype`: as for `language_model`.
      call_arguments: of every block's call, such as `padding_mask`.

    Returns:
      [B, S, width].

    """
    arguments = dict(
        intermediate_dim=feedforward or 4 * hidden.shape[-1],
        num_heads=heads,
        dropout=dropout,
        activation=approximate_gelu,
        normalize_first=True,
        dtype=dtype,
    )
    if positions == "rotary":
        kind = RotaryDecoder if causal else RotaryEncoder
        arguments["sequence_length"] = sequence_length
        # As in Vaswani et al. (2017, section 3.4): rows that are small enough to give logits of
        # are too small to hold their own beside what the first blocks add.
        hidden = hidden * hidden.shape[-1] ** 0.5
    else:
        layers = keras_hub.layers
        kind = layers.TransformerDecoder if causal else layers.TransformerEncoder
        hidden = hidden + position_embedding(sequence_length, dtype=dtype)(hidden)
    blocks = [kind(**arguments, name=f"block_{index}") for index in range(layer_count)]
    if recompute_blocks and blocks:
        blocks = [RecomputedBlocks(blocks, dtype=dtype, name="blocks")]
    for block in blocks:
        hidden = block(hidden, **call_arguments)
    return keras.layers.LayerNormalization(dtype=dtype, name="final_norm")(hidden)


keras.saving.register_keras_serializable(package="dr_keras")(approximate_gelu)
