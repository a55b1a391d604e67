"""Transformer blocks in one loop, made again wherever a derivative needs their activations."""

import re

import keras
import tensorflow as tf

from dr_keras.differentiation.recomputing_scan import recomputing_scan


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
