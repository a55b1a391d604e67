"""Functions that XLA compiles are named by what they are; all others are counted by name."""

import tensorflow as tf

from dr_keras.system import program_names

program_names.install()


def scaled(factor, scale=None):
    """A compiled function; `scale` is a variable that it captures."""

    def double(x):
        return x * factor if scale is None else x * scale

    return tf.function(double, jit_compile=True, autograph=False)


def name(function, *arguments):
    return function.get_concrete_function(*arguments).name.decode()


def test_equal_definitions_are_one_function_and_others_are_not():
    x = tf.constant([1.0, 2.0])
    once, again, other = scaled(2.0), scaled(2.0), scaled(3.0)
    assert name(once, x) == name(again, x) != name(other, x)
    assert name(once, x).startswith("__inference_double_")
    assert name(once, x) != name(once, tf.constant([1.0]))
    assert [f(x).numpy().tolist() for f in (once, again, other)] == [[2, 4], [2, 4], [3, 6]]
    del once
    assert again(x).numpy().tolist() == [2, 4]


def test_variables_are_no_part_of_it():
    small, large = tf.Variable(2.0), tf.Variable(5.0)
    x = tf.constant(3.0)
    first, second = scaled(0.0, small), scaled(0.0, large)
    assert name(first, x) == name(second, x)
    assert [float(first(x)), float(second(x))] == [6.0, 15.0]
    small.assign(4.0)
    assert [float(first(x)), float(second(x))] == [12.0, 15.0]


def test_own_gradients_and_loops_keep_functions_apart():
    """TensorFlow finds the gradient of an operation by a name that it counts."""

    def trained(factor):
        @tf.custom_gradient
        def square(x):
            return x * x, lambda upstream: factor * upstream

        def loss(x):
            (x,) = tf.while_loop(
                lambda x: x < 9.0, lambda x: (square(x),), (x,), maximum_iterations=9
            )
            return square(x)

        return tf.function(loss, jit_compile=True, autograph=False)

    x, found, names = tf.constant(3.0), [], set()
    for factor in (1.0, 2.0, 1.0):
        function = trained(factor)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        found.append((float(y), float(tape.gradient(y, x))))
        names.add(name(function, x))
    assert found == [(81.0, 1.0), (81.0, 4.0), (81.0, 1.0)] and len(names) == 3


def test_others_are_counted_under_a_label():
    def count():
        return name(tf.function(lambda x: x + 1.0, autograph=False), tf.constant(1.0))

    program_names.begin("here")
    names = [count(), count()]
    assert [n.rsplit("_", 2)[1:] for n in names] == [["here", "0"], ["here", "1"]]
    program_names.begin("there")
    assert count().endswith("_there_0")
