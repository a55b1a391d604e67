"""Arithmetic on nested lists and dicts of tensors, in the shape of tf.nest."""

import math

import tensorflow as tf

# Added to a sum of squares before the root: the derivative of sqrt at 0 is infinite, and a clip
# inside the unroll is differentiated.
NORM_EPSILON = 1e-20


def dense(tree):
    """Every leaf as a dense tensor: IndexedSlices of embedding look-ups break arithmetic."""
    return [tf.convert_to_tensor(leaf) for leaf in tree]


def shaped(tree: list, like: list) -> list:
    """`dense` leaves, said to have the shapes of `like`: derivatives of look-ups forget theirs."""
    leaves = dense(tree)
    for leaf, other in zip(leaves, like, strict=True):
        leaf.set_shape(other.shape)
    return leaves


def global_norm(tree) -> tf.Tensor:
    """Root of the sum of squares of all leaves; differentiable at zero."""
    leaves = tf.nest.flatten(tree)
    squares = [tf.reduce_sum(tf.square(leaf)) for leaf in leaves]
    return tf.sqrt(tf.add_n(squares) + NORM_EPSILON)


def clip_by_global_norm(tree, limit: float | None):
    """Scales the tree so that its global norm is at most `limit`; None leaves it alone."""
    if limit is None:
        return tree
    norm = global_norm(tree)
    scale = tf.minimum(tf.ones_like(norm), tf.constant(limit, norm.dtype) / norm)
    return tf.nest.map_structure(lambda leaf: leaf * scale, tree)


def zeros_like(tree):
    return tf.nest.map_structure(tf.zeros_like, tree)


def where(condition: tf.Tensor, when_true, when_false):
    """Leaf by leaf `tf.where` with a scalar condition."""
    return tf.nest.map_structure(lambda a, b: tf.where(condition, a, b), when_true, when_false)


def all_finite(tree) -> tf.Tensor:
    """Scalar bool: no leaf of floating type holds a NaN or an infinity."""
    checks = [
        tf.reduce_all(tf.math.is_finite(leaf))
        for leaf in tf.nest.flatten(tree)
        if leaf.dtype.is_floating
    ]
    return tf.reduce_all(tf.stack(checks))


def unstack_batches(batches: dict, length: int) -> list[dict]:
    """{"x": [T, B, ...]} as a list of T dicts {"x": [B, ...]}."""
    columns = {name: tf.unstack(value, num=length, axis=0) for name, value in batches.items()}
    return [{name: columns[name][index] for name in columns} for index in range(length)]


def tensor_bytes(tensor) -> int:
    """Bytes of a tensor, variable or spec of static shape."""
    return math.prod(tensor.shape) * tf.as_dtype(tensor.dtype).size


def tree_bytes(tree) -> int:
    """Bytes of all leaves."""
    return sum(tensor_bytes(leaf) for leaf in tf.nest.flatten(tree))
