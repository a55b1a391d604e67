"""Sparse tensors beside what is scored go along with their example."""

import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.pipelines import stages as pipelines
from dr_keras.pipelines.transformations import filter_by_percentile, reweight, top_k
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import decide

SCORES = np.random.default_rng(5).permutation(24).astype(np.float32)
DENSE = np.random.default_rng(6).integers(0, 3, (24, 4, 2)) * (np.arange(24) % 5 > 0)[:, None, None]
REFERENCE = ReferenceDistribution.from_scores(SCORES)


def rater(rows):
    return tf.gather(tf.constant(SCORES), rows)


def dataset(group):
    elements = {"row": np.arange(24), "words": tf.sparse.from_dense(DENSE)}
    rows = tf.data.Dataset.from_tensor_slices(elements)
    return rows if group is None else rows.batch(group)


@pytest.mark.parametrize("group", [None, 5])
def test_top_k_keeps_the_rows_that_numpy_keeps(group):
    kept = dataset(group).apply(top_k(rater, 0.5, 3, key="row", emit_dropped=True))
    spec = kept.element_spec[0]["words"]
    assert isinstance(spec, tf.SparseTensorSpec) and spec.shape == (3, 4, 2)
    for number, (best, rest) in enumerate(kept):
        order = np.argsort(-SCORES[6 * number : 6 * number + 6]) + 6 * number
        for part, rows in ((best, order[:3]), (rest, order[3:])):
            assert part["row"].numpy().tolist() == sorted(rows)
            dense = tf.sparse.to_dense(part["words"])  # raises unless indices are in order
            np.testing.assert_array_equal(dense, DENSE[sorted(rows)])


@pytest.mark.parametrize("group", [None, 5])
def test_filter_by_percentile_keeps_the_rows_that_python_keeps(group):
    kept = dataset(group).apply(
        filter_by_percentile(rater, 0.5, 4, seed=3, key="row", ids="row", reference=REFERENCE)
    )
    found = decide(range(24), SCORES, 0.5, 4, seed=3, reference=REFERENCE)
    rows, dense = [], []
    for element in kept:
        rows.append(np.ravel(element["row"]))
        dense.append(np.reshape(tf.sparse.to_dense(element["words"]), (-1, 4, 2)))
    assert np.concatenate(rows).tolist() == np.flatnonzero(found.keep).tolist()
    np.testing.assert_array_equal(np.concatenate(dense), DENSE[found.keep])


def test_reweight_hands_them_on():
    (x, _, weights), *_ = dataset(None).apply(reweight(rater, 8, key="row"))
    np.testing.assert_array_equal(tf.sparse.to_dense(x["words"]), DENSE[:8])
    assert weights.shape == (8,)


def test_iterators_over_them_can_be_checkpointed(resumes):
    def dense(element):
        return element["row"], tf.sparse.to_dense(element["words"])

    resumes(dataset(None).apply(top_k(rater, 0.5, 3, key="row")).map(dense), 2)
    kept = filter_by_percentile(rater, 0.5, 4, key="row", reference=REFERENCE)
    resumes(dataset(5).apply(kept).map(dense), 1)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    hypothesis.extra.numpy.arrays(
        np.int64,
        hypothesis.extra.numpy.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6),
        elements=st.integers(0, 2),
    ),
    st.data(),
)
def test_any_rows_in_any_order_equal_numpys(dense, data):
    rows = data.draw(st.permutations(range(len(dense))))
    rows = rows[: data.draw(st.integers(0, len(dense)))]
    for values in (dense, dense.astype(str).astype(object)):
        nothing = 0 if values is dense else ""
        sparse = tf.sparse.from_dense(np.where(dense == 0, nothing, values))
        found = pipelines.take({"x": sparse}, tf.constant(rows, tf.int32))["x"]
        assert found.shape.as_list() == [len(rows), *dense.shape[1:]]
        whole = tf.sparse.to_dense(sparse).numpy()
        np.testing.assert_array_equal(tf.sparse.to_dense(found).numpy(), whole[rows])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda n: tf.data.Dataset.range(n + 1), r"element\['other'\]\[1\] is of type Dataset, "),
        (tf.experimental.Optional.from_value, "is of type Optional, which cannot be grouped"),
        (lambda n: tf.TensorArray(tf.int64, 1).unstack([n]), "is of type TensorArray, which"),
    ],
)
@pytest.mark.parametrize("transformation", [top_k(rater, 0.5, 4, key="row"), reweight(rater, 4)])
def test_what_has_no_rows_is_refused_by_name(make, message, transformation):
    rows = tf.data.Dataset.range(8).map(lambda n: {"row": n, "other": (n, make(n))})
    with pytest.raises(ConfigurationError, match=message):
        rows.apply(transformation)


def test_sparse_features_need_ids_to_be_drawn_by():
    kept = filter_by_percentile(
        lambda element: tf.reduce_sum(tf.sparse.to_dense(element["words"]), axis=(1, 2)),
        0.5,
        4,
        reference=REFERENCE,
    )
    with pytest.raises(ConfigurationError, match="reads a SparseTensor, .* give `ids`"):
        dataset(None).apply(kept)
