"""CuratedModel: against NumPy, through `fit` in compiled form, and resumed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.streams import BatchStream
from dr_keras.meta.estimators import NestedTape
from dr_keras.meta.optimizers import OuterAdam, sgd
from dr_keras.training.curated.model import CuratedModel

OUTER = OuterAdam(learning_rate=0.03, warmup=1, weight_decay=0.0)


class Recording(NestedTape):
    """Keeps what it found last."""

    def __call__(self, *arguments, **named):
        self.found = super().__call__(*arguments, **named)
        return self.found


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def updated(theta, batch, weights, rate):
    """One step of gradient descent on sum_i w_i (theta x_i - y_i)^2."""
    inputs, target = batch["x"][:, :-1], batch["label"]
    return theta - rate * 2 * (weights * (inputs @ theta - target)) @ inputs


def test_a_meta_step_differentiates_the_held_out_loss_through_the_models_own_last_updates(
    float64, regression
):
    # k = 3 and T = 2: the first update is no part of it. The held-out batch is the whole set.
    model, rater = regression.models(rater_weight=0.25)
    estimator = Recording()
    curated = CuratedModel(
        *(model, rater, regression.held_out),
        batch_size=8,
        discard_fraction=0,
        weights="soft",
        meta_every=3,
        outer_batch_size=16,
        estimator=estimator,
    )
    curated.compile(sgd(0.2), "mse", OUTER, run_eagerly=True)
    curated.fit(regression.train, epochs=1, steps_per_epoch=3, verbose=0)

    stream = BatchStream(regression.train, 8, 0)
    batches = [stream.batch(step) for step in range(3)]
    soft = [softmax(0.25 * batch["x"][:, -1]) for batch in batches]
    entering = updated(np.zeros(4), batches[0], soft[0], 0.2)

    def held_out_loss(eta):
        theta = entering
        for batch in batches[1:]:
            theta = updated(theta, batch, softmax(eta * batch["x"][:, -1]), 0.2)
        held = regression.held_out
        return np.mean((held["x"][:, :-1] @ theta - held["label"]) ** 2), theta

    loss, theta = held_out_loss(0.25)
    slope = (held_out_loss(0.25 + 1e-5)[0] - held_out_loss(0.25 - 1e-5)[0]) / 2e-5
    outer_loss, (gradient,), _, _ = estimator.found
    np.testing.assert_allclose(model.get_weights()[0][:, 0], theta, rtol=1e-12)
    np.testing.assert_allclose(outer_loss, loss, rtol=1e-12)
    np.testing.assert_allclose(gradient, [[slope]], rtol=1e-7)
    assert rater.get_weights()[0][0, 0] == pytest.approx(0.25 - 0.03 * np.sign(slope), abs=1e-6)
    assert (curated.updates, curated.meta_steps) == (3, 1)


def test_what_a_frozen_rater_keeps_is_what_is_trained_on(float64, regression):
    model, rater = regression.models(rater_weight=1.0)
    curated = CuratedModel(*(model, rater), batch_size=2, discard_fraction=0.8, meta_every=None)
    assert curated.oversized == 10
    curated.compile(sgd(0.2), "mse", run_eagerly=True)
    history = curated.fit(regression.train, epochs=1, steps_per_epoch=1, verbose=0).history

    batch = BatchStream(regression.train, 10, 0).batch(0)
    best = np.sort(np.argsort(-batch["x"][:, -1], kind="stable")[:2])
    kept = {name: values[best] for name, values in batch.items()}
    theta = updated(np.zeros(4), kept, np.full(2, 0.5), 0.2)
    np.testing.assert_allclose(model.get_weights()[0][:, 0], theta, rtol=1e-12)
    good = batch["x"][:, -1].sum()
    assert good > 2
    assert history["kept/good"] == [pytest.approx(2 / good)]
    assert history["kept/bad"] == [0.0]
    assert history["weight/good"] == [pytest.approx(1.0)]
    assert history["loss"] == [pytest.approx(np.mean(kept["label"] ** 2))]
    assert rater.get_weights()[0] == 1.0


@pytest.fixture(scope="module")
def compiled(make_regression):
    """(regression, a model that is compiled once, what sets it back to its beginning)."""
    regression = make_regression()
    keras.utils.set_random_seed(4)
    model, rater = regression.models(dropout=0.05)
    curated = CuratedModel(
        *(model, rater, regression.held_out),
        batch_size=8,
        meta_every=3,
        meta_batch_size=12,
        outer_batch_size=8,
        seed=7,
    )
    curated.compile(keras.optimizers.AdamW(0.02), "mse", OUTER, steps_per_execution=5)
    curated.prepare(regression.train)
    assert curated.jit_compile
    held = [*curated.variables, curated.optimizer.iterations]
    first = [variable.numpy() for variable in held]

    def begin(shift=0):
        for variable, value in zip(held, first, strict=True):
            variable.assign(value + np.asarray(shift, value.dtype))

    return regression, curated, begin


def test_compiled_it_learns_to_keep_what_helps(compiled):
    regression, curated, begin = compiled
    begin()
    held = regression.held_out
    pairs = tf.data.Dataset.from_tensor_slices((held["x"], held["label"]))
    logs = curated.fit(
        *(regression.train,),
        epochs=3,
        steps_per_epoch=60,
        validation_data=pairs.batch(8),
        verbose=0,
    ).history
    assert logs["kept/good"][-1] > 0.85 > 0.2 > logs["kept/bad"][-1]
    assert logs["weight/good"][-1] + logs["weight/bad"][-1] == pytest.approx(1.0, abs=1e-5)
    assert logs["outer_loss"][-1] < 0.2 * logs["outer_loss"][0]
    assert logs["val_loss"][-1] < 0.5 * logs["val_loss"][0]
    assert curated.optimizer.iterations.numpy() == curated.updates == 180
    assert curated.meta_steps == 60
    found = curated.evaluate(held["x"], held["label"], verbose=0, return_dict=True)
    assert found == {"loss": pytest.approx(logs["val_loss"][-1])}
    assert curated.predict(held["x"], verbose=0).shape == (16, 1)


def test_resumed_it_equals_one_that_never_stopped(compiled, tmp_path):
    # 5 steps an epoch and k = 3: it is stopped between the two updates of a meta-step.
    regression, curated, begin = compiled

    def trained(epochs, *callbacks):
        curated.fit(
            regression.train, epochs=epochs, steps_per_epoch=5, verbose=0, callbacks=callbacks
        )

    begin()
    trained(4)
    whole = {v.path: v.numpy() for v in curated.variables}
    assert curated.meta_steps == 6 and np.any(curated.rater.get_weights()[0])
    begin()
    trained(2, keras.callbacks.BackupAndRestore(str(tmp_path), delete_checkpoint=False))
    assert curated.updates == 10
    begin(shift=1)  # as another process may have begun
    trained(4, keras.callbacks.BackupAndRestore(str(tmp_path)))
    assert curated.updates == 20
    metrics = {id(v) for metric in curated.metrics for v in metric.variables}
    for variable in curated.variables:
        if id(variable) not in metrics:  # of the last epoch, and then reset
            found = variable.numpy()
            np.testing.assert_array_equal(found, whole[variable.path], err_msg=variable.path)
