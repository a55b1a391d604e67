"""Transformer blocks whose activations are made again wherever a derivative needs them."""

import keras
import tensorflow as tf

from dr_keras.differentiation.recomputing_scan import recomputing_scan


class RecomputedBlocks(keras.layers.Layer):
    """The blocks one after the other, of which only the inputs are kept: a loop over them.

    Values, weights and their order are those of the blocks called one by one; what changes is what
    a derivative holds: one block's activations at a time and the [B, S, width] that enters each of
    them, at first and at second order. The blocks' weights are stacked for the call, one more copy
    of them, and the program holds one block, so that it also compiles in a time independent of
    their number. Costs one more forward pass of the blocks in every derivative.

    Args:
      blocks: layers alike in everything but their weights, from [B, S, width] to the same.
    """

    def __init__(self, blocks: list, **kwargs):
        super().__init__(**kwargs)
        self.blocks = blocks

    def build(self, input_shape):
        for block in self.blocks:
            block.build(input_shape)

    def call(self, hidden, training=None):
        template = self.blocks[0]
        count = len(template.trainable_variables)

        def stacked(kind):
            columns = zip(*(getattr(block, kind) for block in self.blocks), strict=True)
            return [tf.stack([tf.convert_to_tensor(v.value) for v in c]) for c in columns]

        def step(carry, x, shared):
            outputs, states = template.stateless_call(
                x[:count], x[count:], carry[0], training=training
            )
            return [outputs], list(states)

        # Seeds of dropout are handed in and out: a block run again draws what it drew.
        states = stacked("non_trainable_variables")
        (hidden,), states = recomputing_scan(
            step,
            [hidden],
            [*stacked("trainable_variables"), *states],
            [],
            len(self.blocks),
        )
        for position, values in enumerate(states):
            for index, block in enumerate(self.blocks):
                block.non_trainable_variables[position].assign(values[index])
        return hidden

    def compute_output_shape(self, input_shape):
        return input_shape
