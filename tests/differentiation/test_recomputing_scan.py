"""The scan against the same steps written out: values, both first derivatives, both second ones."""

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.differentiation.recomputing_scan import recomputing_scan

STEPS = 4


def step(carry, x, shared):
    """Every kind of dependence: carry on all three, an output on all three, a token on none."""
    (h,), (w, token), (k, offset) = carry, x, shared
    shift = tf.cast(token + offset, h.dtype)
    new = tf.tanh(tf.linalg.matvec(w, h) + 0.3 * tf.square(h) * k + shift)
    return [new], [tf.reduce_sum(new * k * w[0]), token * 2, tf.sin(h) * k]


def written_out(step, carry, xs, shared, length):
    columns = []
    for index in range(length):
        carry, y = step(list(carry), [x[index] for x in xs], shared)
        columns.append(y)
    return carry, [tf.stack(column) for column in zip(*columns)]


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return tf.constant(rng.normal(size=shape))

    return {
        "carry": [draw(3)],
        "xs": [0.5 * draw(STEPS, 3, 3), tf.constant([0, 1, 0, 2])],
        "shared": [draw(3), tf.constant(1)],
    }


def value(scan, h, w, k, inputs, parts=("last", "sums", "sines")):
    """One number that depends on every output, or on some."""
    last, (sums, doubled, sines) = scan(
        step, [h], [w, inputs["xs"][1]], [k, inputs["shared"][1]], STEPS
    )
    total = tf.cast(tf.reduce_sum(doubled), h.dtype)
    if "last" in parts:
        total += tf.reduce_sum(last[0] ** 3)
    if "sums" in parts:
        total += tf.reduce_sum(sums**2)
    if "sines" in parts:
        total += tf.reduce_prod(sines)
    return total


def sources(inputs):
    return [inputs["carry"][0], inputs["xs"][0], inputs["shared"][0]]


def gradient(scan, primals, inputs, parts):
    with tf.GradientTape() as tape:
        tape.watch(primals)
        total = value(scan, *primals, inputs, parts)
    return total, tape.gradient(total, primals, unconnected_gradients="zero")


def reverse_over_reverse(scan, primals, along, inputs, parts):
    with tf.GradientTape() as tape:
        tape.watch(primals)
        _, found = gradient(scan, primals, inputs, parts)
        dot = tf.add_n([tf.reduce_sum(a * b) for a, b in zip(found, along)])
    return tape.gradient(dot, primals, unconnected_gradients="zero")


def forward_over_reverse(scan, primals, along, inputs, parts):
    with tf.autodiff.ForwardAccumulator(primals, along) as accumulator:
        total, found = gradient(scan, primals, inputs, parts)
    return accumulator.jvp([total, *found], unconnected_gradients="zero")


def everything(scan, inputs, parts):
    primals = sources(inputs)
    along = [tf.cos(3 * p + 1) for p in primals]
    return {
        "gradient": gradient(scan, primals, inputs, parts),
        "reverse_over_reverse": reverse_over_reverse(scan, primals, along, inputs, parts),
        "forward_over_reverse": forward_over_reverse(scan, primals, along, inputs, parts),
    }


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("parts", [("last", "sums", "sines"), ("last",), ("sines",)])
def test_derivatives_are_those_of_the_steps_written_out(parts, compiled, inputs):
    expected = everything(written_out, inputs, parts)
    found = everything
    if compiled:
        found = tf.function(lambda scan: everything(scan, inputs, parts), jit_compile=True)
        found = found(recomputing_scan)
    else:
        found = everything(recomputing_scan, inputs, parts)
    for name in expected:
        for a, b in zip(tf.nest.flatten(found[name]), tf.nest.flatten(expected[name])):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=name)


def test_both_second_derivatives_are_the_same(inputs):
    primals = sources(inputs)
    along = [tf.sin(p) for p in primals]
    parts = ("last", "sums", "sines")
    forward = forward_over_reverse(recomputing_scan, primals, along, inputs, parts)[1:]
    for a, b in zip(forward, reverse_over_reverse(recomputing_scan, primals, along, inputs, parts)):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_without_a_carry_it_is_a_map(inputs):
    """Second derivatives of what steps share, and a step that has nothing to hand on."""

    def double(carry, x, shared):
        return [], [tf.square(tf.reduce_sum(x[0] * shared[0])) * x[0][0]]

    def total(scan, w, k):
        return tf.reduce_sum(tf.sin(scan(double, [], [w], [k], STEPS)[1][0]))

    w, k = inputs["xs"][0][:, 0], inputs["shared"][0]
    results = []
    for scan in (written_out, recomputing_scan):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch([w, k])
            with tf.GradientTape() as tape:
                tape.watch([w, k])
                found = total(scan, w, k)
            by_w, by_k = tape.gradient(found, [w, k])
            dot = tf.reduce_sum(by_w**2) + tf.reduce_sum(by_k**3)
        results.append([found, by_w, by_k, *outer.gradient(dot, [w, k])])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_the_program_does_not_grow_with_the_steps():
    def operations(length):
        @tf.function
        def run(h, w):
            with tf.GradientTape() as outer:
                outer.watch(w)
                with tf.GradientTape() as tape:
                    tape.watch(w)
                    (last,), _ = recomputing_scan(
                        lambda c, x, _: ([tf.tanh(c[0] * x[0])], []), [h], [w], [], length
                    )
                inner = tape.gradient(last, w)
            return outer.gradient(inner, w)

        graph = run.get_concrete_function(tf.zeros(3), tf.zeros((length, 3))).graph.as_graph_def()
        return sum(len(f.node_def) for f in graph.library.function) + len(graph.node)

    assert operations(2) == operations(7)
