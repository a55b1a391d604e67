"""A loop whose steps are run again wherever a derivative needs them, differentiable twice.

`recomputing_scan` keeps the carry that enters each step and nothing from inside a step. Its first
derivative is a loop that re-runs one step at a time, its second derivatives (reverse over reverse
and forward over reverse: all that a meta-gradient takes) are such loops as well, and so is its
forward mode. Temporaries are those of one step, whatever the number of steps, also where a compiler
ignores optimization barriers (XLA on the CPU does): it cannot merge or reorder the passes of a
loop.

`tf.recompute_grad` and `keras.remat` give a first derivative only. The derivatives are put on
record by hand, for tapes and for forward accumulators, because TensorFlow's public
`tf.custom_gradient` has no way to say what forward mode is. Third derivatives raise LookupError or
give None.
"""

from collections.abc import Callable
import dataclasses

import tensorflow as tf
from tensorflow.python.eager import forwardprop_util, record

from dr_keras.differentiation.second_order import exact_moments


def recomputing_scan(
    step: Callable, carry: list, xs: list, shared: list, length: int
) -> tuple[list, list]:
    """Runs `step` over the leading axis of `xs`, keeping only the carry that enters each step.

    Args:
      step: (carry, x, shared) -> (carry', y), each a list of tensors; called several times while
        tracing, so it must be a pure function, and must take every tensor that is to have a
        derivative as an argument: tensors it captures count as constants.
      carry: list of floating tensors, of shapes and dtypes that every step keeps.
      xs: list of tensors [length, ...]; those of floating type have derivatives.
      shared: list of tensors that every step reads; those of floating type have derivatives.
      length: number of steps, at least 1.

    Returns:
      (carry after the last step, ys: list of tensors [length, ...]). Derivatives flow through
      those of floating type.
    """
    run = _Scan(step, [tf.convert_to_tensor(c) for c in carry], xs, shared, length)
    return run()


def _floating(tensors: list) -> list:
    return [t for t in tensors if t.dtype.is_floating]


def _zeros_for_none(values, likes) -> list:
    return [
        tf.zeros_like(like) if value is None else tf.convert_to_tensor(value)
        for value, like in zip(values, likes, strict=True)
    ]


def _on_record(name: str, function: Callable, inputs: list, backward=None, forward=None) -> list:
    """`function(inputs)`, whose derivatives are `backward` and `forward` and not those of its ops.

    Stopping the tapes around `function` would stop those that it uses inside, so that its inputs
    and outputs are cut off from tapes and accumulators outside instead.
    """
    with record.stop_recording():
        inside = [tf.identity(x) for x in inputs]
    outputs = function(inside)
    with record.stop_recording():
        outputs = [tf.identity(y) for y in outputs]
    if backward is None:
        return outputs

    def pull(*cotangents):
        return backward(_zeros_for_none(cotangents, outputs), outputs)

    def push(*tangents):
        # An accumulator ignores what its own call of this function does, and with it, unless
        # its state is put aside, the accumulators and tapes inside.
        with forwardprop_util.push_forwardprop_state():
            return forward(_zeros_for_none(tangents, inputs), outputs)

    record.record_operation(name, outputs, list(inputs), pull, push)
    return outputs


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Splits flat lists of floating tensors into those of the carry, of xs and of shared."""

    carry: int
    xs: int
    shared: int

    def __call__(self, flat):
        flat = list(flat)
        a, b = self.carry, self.carry + self.xs
        return flat[:a], flat[a:b], flat[b : b + self.shared]


class _Scan:
    """One scan and its derivatives, each a loop over steps; all lists are flat.

    Letters: c, x, k are carry, x and shared entering a step, y what it puts out; d before a letter
    its tangent, g before a letter its cotangent. Capitals are stacked over steps.
    """

    def __init__(self, step, carry, xs, shared, length):
        self.step, self.length, self.carry = step, length, carry
        self.xs = [tf.convert_to_tensor(x) for x in xs]
        self.shared = [tf.convert_to_tensor(k) for k in shared]
        self.parts = _Parts(len(carry), len(_floating(self.xs)), len(_floating(self.shared)))

    # --- one step ------------------------------------------------------------------------------

    def run_step(self, index, c, x, k):
        """(carry', y) with floating inputs given and the others read where they lie."""
        x, k = iter(x), iter(k)
        x = [next(x) if v.dtype.is_floating else tf.gather(v, index) for v in self.xs]
        k = [next(k) if v.dtype.is_floating else v for v in self.shared]
        with exact_moments():
            new, y = self.step(list(c), x, k)
        new = [tf.convert_to_tensor(v) for v in new]
        for value, like in zip(new, self.carry, strict=True):
            value.set_shape(like.shape)
        return new, [tf.convert_to_tensor(v) for v in y]

    def pull_back_step(self, index, c, x, k, gc, gy):
        """Cotangents (of c, of x, of k) of one step: a flat list."""
        with tf.GradientTape() as tape:
            sources = [*c, *x, *k]
            tape.watch(sources)
            new, y = self.run_step(index, c, x, k)
            targets = [*new, *_floating(y)]
        found = tape.gradient(
            targets, sources, output_gradients=[*gc, *gy], unconnected_gradients="zero"
        )
        found = [tf.convert_to_tensor(leaf) for leaf in found]
        for leaf, like in zip(found, sources):
            leaf.set_shape(like.shape)
        return found

    # --- loops ---------------------------------------------------------------------------------

    def loop(self, body, state, stacked, reverse=False):
        """Runs `body(index, state) -> (state, values)`; values are stacked in step order.

        Args:
          stacked: (dtype, shape) of each value.
        """
        arrays = [
            tf.TensorArray(dtype, self.length, element_shape=shape) for dtype, shape in stacked
        ]

        def whole(count, state, arrays):
            index = self.length - 1 - count if reverse else count
            new, values = body(index, state)
            for value, like in zip(new, state, strict=True):
                value.set_shape(like.shape)
            arrays = [a.write(index, v) for a, v in zip(arrays, values, strict=True)]
            return count + 1, new, arrays

        _, state, arrays = tf.while_loop(
            lambda count, *_: count < self.length, whole, (tf.constant(0), state, arrays)
        )
        return state, [array.stack() for array in arrays]

    def at(self, index, stacks):
        return [tf.gather(stack, index) for stack in stacks]

    def specs(self, stacks):
        return [(s.dtype, s.shape[1:]) for s in stacks]

    def like(self, tensors):
        return [(t.dtype, t.shape) for t in tensors]

    # --- the scan ------------------------------------------------------------------------------

    def output_specs(self):
        """(dtype, shape) of what a step puts out, from a trace that is thrown away."""

        def specs(tensors, leading=0):
            return [tf.TensorSpec(t.shape[leading:], t.dtype) for t in tensors]

        @tf.function(autograph=False)
        def trace(carry, x, shared):
            with exact_moments():
                return self.step(carry, x, shared)[1]

        traced = trace.get_concrete_function(
            specs(self.carry), specs(self.xs, 1), specs(self.shared)
        )
        return [(y.dtype, y.shape) for y in traced.structured_outputs]

    def __call__(self):
        inputs = [*self.carry, *_floating(self.xs), *_floating(self.shared)]
        specs = self.output_specs()
        at = [position for position, (dtype, _) in enumerate(specs) if dtype.is_floating]

        others = {}  # outputs without derivatives, by position

        def forward(flat):
            c, X, k = self.parts(flat)

            def body(index, c):
                new, y = self.run_step(index, c, self.at(index, X), k)
                return new, [*c, *y]

            last, stacks = self.loop(body, c, [*self.like(c), *specs])
            C, Y = stacks[: len(c)], stacks[len(c) :]
            others.update({i: y for i, y in enumerate(Y) if i not in at})
            return [*last, *(Y[i] for i in at), *C]

        def split_outputs(flat):
            n, m = len(self.carry), len(at)
            return flat[:n], flat[n : n + m], flat[n + m :]

        def backward(cotangents, outputs):
            C = split_outputs(outputs)[2]
            return self.pull_back(inputs, C, *split_outputs(cotangents))

        def push(tangents, outputs):
            C = split_outputs(outputs)[2]
            return self.push_forward(inputs, C, tangents, [specs[i] for i in at])

        outputs = _on_record("RecomputingScan", forward, inputs, backward, push)
        last, Y, _ = split_outputs(outputs)
        found = dict(zip(at, Y)) | others
        return last, [found[i] for i in range(len(specs))]

    def push_forward(self, inputs, C, tangents, specs):
        """Tangents of (last carry, Y, C) along those of the inputs."""

        def forward(flat):
            c, X, k = self.parts(flat)
            rest = flat[len(inputs) :]
            C, (dc, dX, dk) = rest[: len(c)], self.parts(rest[len(c) :])

            def body(index, dc):
                c, x = self.at(index, C), self.at(index, X)
                primals = [*c, *x, *k]
                tangents = [*dc, *self.at(index, dX), *dk]
                with tf.autodiff.ForwardAccumulator(primals, tangents) as accumulator:
                    new, y = self.run_step(index, c, x, k)
                moved = accumulator.jvp([*new, *_floating(y)], unconnected_gradients="zero")
                return moved[: len(c)], [*dc, *moved[len(c) :]]

            last, stacks = self.loop(body, dc, [*self.like(c), *specs])
            return [*last, *stacks[len(c) :], *stacks[: len(c)]]

        return _on_record("RecomputingScanForward", forward, [*inputs, *C, *tangents])

    # --- its cotangents ------------------------------------------------------------------------

    def pull_back(self, inputs, C, glast, GY, GC):
        """Cotangents of the inputs, given those of (last carry, Y, C)."""
        n = len(self.carry)
        arguments = [*inputs, *C, *glast, *GY, *GC]
        sizes = [len(inputs), n, n, len(GY), n]

        def cut(flat):
            parts, start = [], 0
            for size in sizes:
                parts.append(flat[start : start + size])
                start += size
            return parts

        def forward(flat):
            inputs, C, gc, GY, GC = cut(flat)
            _, X, k = self.parts(inputs)

            def body(index, state):
                gc, gk = state[:n], state[n:]
                found = self.pull_back_step(
                    index, self.at(index, C), self.at(index, X), k, gc, self.at(index, GY)
                )
                new, gx, more = self.parts(found)
                new = [a + b for a, b in zip(new, self.at(index, GC))]
                return [*new, *(a + b for a, b in zip(gk, more))], [*gx, *gc]

            state, stacks = self.loop(
                body,
                [*gc, *(tf.zeros_like(v) for v in k)],
                [*self.specs(X), *self.like(gc)],
                reverse=True,
            )
            gX, entering = stacks[: len(X)], stacks[len(X) :]
            return [*state[:n], *gX, *state[n:], *entering]

        def backward(cotangents, outputs):
            entering = outputs[len(inputs) :]
            return self.pull_back_twice(arguments, cut, cotangents[: len(inputs)], entering)

        def push(tangents, outputs):
            return self.push_pull_back(arguments, cut, tangents)

        outputs = _on_record("RecomputingScanGrad", forward, arguments, backward, push)
        return outputs[: len(inputs)]

    def push_pull_back(self, arguments, cut, tangents):
        """Tangents of all outputs of `pull_back`: forward over reverse, a step at a time."""
        n = len(self.carry)

        def forward(flat):
            inputs, C, gc, GY, GC = cut(flat[: len(arguments)])
            dinputs, dC, dgc, dGY, dGC = cut(flat[len(arguments) :])
            _, X, k = self.parts(inputs)
            _, dX, dk = self.parts(dinputs)

            def body(index, state):
                gc, dgc, dgk = state[:n], state[n : 2 * n], state[2 * n :]
                c, x, gy = self.at(index, C), self.at(index, X), self.at(index, GY)
                primals = [*c, *x, *k, *gc, *gy]
                along = [*self.at(index, dC), *self.at(index, dX), *dk, *dgc, *self.at(index, dGY)]
                with tf.autodiff.ForwardAccumulator(primals, along) as accumulator:
                    found = self.pull_back_step(index, c, x, k, gc, gy)
                moved = accumulator.jvp(found, unconnected_gradients="zero")
                new, _, _ = self.parts(found)
                dnew, dgx, more = self.parts(moved)
                new = [a + b for a, b in zip(new, self.at(index, GC))]
                dnew = [a + b for a, b in zip(dnew, self.at(index, dGC))]
                dgk = [a + b for a, b in zip(dgk, more)]
                return [*new, *dnew, *dgk], [*dgx, *dgc]

            state, stacks = self.loop(
                body,
                [*gc, *dgc, *(tf.zeros_like(v) for v in k)],
                [*self.specs(X), *self.like(gc)],
                reverse=True,
            )
            dgX, entering = stacks[: len(X)], stacks[len(X) :]
            return [*state[n : 2 * n], *dgX, *state[2 * n :], *entering]

        return _on_record("RecomputingScanGradForward", forward, [*arguments, *tangents])

    def pull_back_twice(self, arguments, cut, cotangents, entering):
        """Cotangents of the arguments of `pull_back`: reverse over reverse, a step at a time.

        `entering` are the cotangents of the carry that `pull_back` met, of which nothing depends
        on the caller's cotangents, so that steps may be taken in the forward direction.
        """
        n, count = len(self.carry), len(arguments)

        def forward(flat):
            inputs, C, _, GY, _ = cut(flat[:count])
            entering = flat[count : count + n]
            ac, AX, ak = self.parts(flat[count + n :])
            _, X, k = self.parts(inputs)

            def body(index, state):
                a, total = state[:n], state[n:]
                c, x = self.at(index, C), self.at(index, X)
                gc, gy = self.at(index, entering), self.at(index, GY)
                sources = [*c, *x, *k, *gc, *gy]
                with tf.GradientTape() as tape:
                    tape.watch(sources)
                    found = self.pull_back_step(index, c, x, k, gc, gy)
                back = tape.gradient(
                    found,
                    sources,
                    output_gradients=[*a, *self.at(index, AX), *ak],
                    unconnected_gradients="zero",
                )
                back = [tf.convert_to_tensor(leaf) for leaf in back]
                (by_c, by_x, by_k), rest = self.parts(back), back[len(c) + len(x) + len(k) :]
                total = [s + b for s, b in zip(total, by_k)]
                return [*rest[:n], *total], [*by_c, *by_x, *rest[n:], *a]

            state, stacks = self.loop(
                body,
                [*ac, *(tf.zeros_like(v) for v in k)],
                [*self.like(ac), *self.specs(X), *self.specs(GY), *self.like(ac)],
            )
            by_C, by_X = stacks[:n], stacks[n : n + len(X)]
            by_GY, by_GC = stacks[n + len(X) : -n or None], stacks[len(stacks) - n :]
            by_inputs = [*(tf.zeros_like(v) for v in ac), *by_X, *state[n:]]
            return [*by_inputs, *by_C, *state[:n], *by_GY, *by_GC]

        return _on_record("RecomputingScanGradGrad", forward, [*arguments, *entering, *cotangents])
