import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.estimators import NestedTape
from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.optimizers import adam
from dr_keras.meta.population import initial_values
from dr_keras.meta.problem import InnerState
from dr_keras.models.losses import next_token_loss
from dr_keras.models.text_models import language_model, text_rater
from dr_keras.training import flops

S, D, V, HIDDEN = 16, 8, 30, 32
TOKENS = {"tokens": ((S,), np.int32)}


def blocks(layers):
    """Products of `layers` blocks, by hand: four projections, two of the MLP, two of attention."""
    return layers * (2 * S * (4 * D * D + 2 * D * HIDDEN) + 2 * (2 * S * S * D))


def test_forward_pass_equals_a_count_by_hand():
    logits = 2 * S * D * V
    model = language_model(V, S, D, 3, 2)
    assert flops.forward_flops(model, TOKENS) == blocks(3) + logits
    chunked = language_model(V, S, D, 3, 2, chunked_logits=True)
    assert flops.forward_flops(chunked, TOKENS) == blocks(3) + logits
    assert flops.forward_flops(text_rater(V, S, D, 2, 2), TOKENS) == blocks(2) + 2 * D


def test_blocks_in_a_loop_count_once_for_each_of_them(tmp_path):
    model = language_model(V, S, D, 3, 2, recompute_blocks=True)
    assert flops.forward_flops(model, TOKENS) == blocks(3) + 2 * S * D * V
    rater = text_rater(V, S, D, 4, 2, recompute_blocks=True)
    assert flops.forward_flops(rater, TOKENS) == blocks(4) + 2 * D
    assert flops.scoring_flops(rater, TOKENS) == blocks(4) + 2 * D  # frozen
    serve = tf.function(lambda tokens: rater({"tokens": tokens}))
    specification = tf.TensorSpec([None, None], tf.int32)
    tf.saved_model.save(rater, tmp_path, serve.get_concrete_function(specification))
    loaded = tf.saved_model.load(tmp_path)

    def score(features):
        return next(iter(loaded.signatures["serving_default"](features["tokens"]).values()))

    assert flops.scoring_flops(score, TOKENS) == blocks(4) + 2 * D


def test_convolutions_and_products_of_either_order():
    def function(batch):
        images = tf.nn.conv2d(batch["x"], tf.ones([3, 3, 2, 5]), 1, "VALID")
        a, b = tf.ones([4, 7]), tf.ones([4, 6])
        # depends on the input, or tf.function would not keep it
        product = tf.matmul(a * tf.reduce_sum(images), b, transpose_a=True)
        return {"score": tf.reduce_sum(product)[tf.newaxis] + tf.reduce_sum(images, [1, 2, 3])}

    found = flops.scoring_flops(function, {"x": ((8, 8, 2), np.float32)})
    assert found == 2 * (6 * 6 * 5) * (3 * 3 * 2) + 2 * 7 * 6 * 4


def test_training_step_is_three_forward_passes_as_traced():
    model = language_model(V, S, D, 2, 2)

    def gradients(tokens):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(next_token_loss(model({"tokens": tokens}), {"tokens": tokens}))
        return tape.gradient(loss, model.trainable_variables)

    traced = tf.function(gradients).get_concrete_function(tf.TensorSpec([4, S], tf.int32))
    forward = flops.forward_flops(model, TOKENS)
    assert flops.graph_flops(traced.graph) == pytest.approx(
        flops.training_flops(forward, 4), rel=0.02
    )


def test_meta_step_agrees_with_the_traced_one():
    rater = text_rater(V, S, D, 1, 2)
    optimizer = adam()

    def constructor():
        return language_model(V, S, D, 1, 2)

    problem = KerasProblem(rater, constructor(), next_token_loss, optimizer)()
    theta, non_trainable = initial_values(constructor, 0)
    inner, outer, length = 4, 6, 2

    def step(eta, batches, outer_batch):
        state = InnerState(theta, non_trainable, optimizer.init(theta), tf.constant(0, tf.int32))
        loss, gradient, state, _ = NestedTape()(
            problem, state, eta, {"tokens": batches}, {"outer": {"tokens": outer_batch}}
        )
        return loss, gradient, state.theta

    eta = [tf.identity(v.value) for v in rater.trainable_variables]
    traced = tf.function(step).get_concrete_function(
        eta, tf.TensorSpec([length, inner, S], tf.int32), tf.TensorSpec([outer, S], tf.int32)
    )
    found = flops.meta_training_flops(
        flops.forward_flops(constructor(), TOKENS),
        flops.forward_flops(rater, TOKENS),
        NestedTape().forward_passes(length),
        flops.MetaTrainingSize(1, length, inner, outer),
    )
    assert found["total"] == found["inner_models"] + found["rater"]
    assert flops.graph_flops(traced.graph) == pytest.approx(found["total"], rel=0.2)


def test_meta_training_by_hand():
    found = flops.meta_training_flops(
        inner=100,
        rater=10,
        passes=NestedTape().forward_passes(2),
        size=flops.MetaTrainingSize(3 * 2, 2, 4, 5, advance_updates=1),
    )
    assert found["inner_models"] == 3 * 2 * 100 * ((6 + 6 + 2 + 3) * 4 + 3 * 5)
    assert found["rater"] == 3 * 2 * 4 * 10 * 7


@pytest.mark.parametrize("start, stop, step, passes", [(0, 5, 1, 5), (2, 5, 1, 3), (3, 2, 1, 0)])
def test_loops_that_count_are_counted(start, stop, step, passes):
    def looped(batch):
        return tf.while_loop(
            lambda i, x: i < stop, lambda i, x: (i + step, tf.matmul(x, x)), (start, batch["x"])
        )[1]

    graph = tf.function(looped).get_concrete_function({"x": tf.TensorSpec([3, 3])}).graph
    assert flops.graph_flops(graph) == passes * 2 * 27


def test_loops_of_another_form_are_refused():
    def looped(step, limit):
        def function(batch):
            return tf.while_loop(
                lambda i, n, x: i < n,
                lambda i, n, x: (i + step, limit(n), tf.matmul(x, x)),
                (0, 9, batch["x"]),
            )[2]

        traced = tf.function(function).get_concrete_function({"x": tf.TensorSpec([3, 3])})
        return flops.graph_flops(traced.graph)

    assert looped(1, lambda n: n) == 9 * 2 * 27
    for step, limit in [(2, lambda n: n), (1, lambda n: n - 1)]:
        with pytest.raises(ConfigurationError, match="cannot be counted"):
            looped(step, limit)


def test_products_in_loops_are_refused_not_forgotten():
    def looped(batch):
        square = tf.while_loop(lambda x: tf.reduce_sum(x) < 9, lambda x: [tf.matmul(x, x)],
                               [batch["x"]])[0]  # fmt: skip
        return {"score": tf.reduce_sum(square, axis=1)[:1]}

    with pytest.raises(ConfigurationError, match="in the loop .* cannot be counted"):
        flops.graph_flops(
            tf.function(looped).get_concrete_function({"x": tf.TensorSpec([3, 3])}).graph
        )
