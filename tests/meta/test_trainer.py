"""The trainer: resuming bit for bit, blown-up members, Keras callbacks, signals, its records."""

import csv
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.streams import BatchStream
from dr_keras.errors import ConfigurationError, DataError, NonFiniteError
from dr_keras.meta.checkpoints import Checkpoints
from dr_keras.meta.estimators import MixedMode, NestedTape
from dr_keras.meta.optimizers import OuterAdam, adam, sgd
from dr_keras.meta.problem import InnerState, inner_update
from dr_keras.meta.seeds import derive_seed


def values(trainer) -> list[np.ndarray]:
    """Everything a checkpoint holds, as arrays."""
    return [variable.numpy() for variable in tf.nest.flatten(trainer.variables())]


def assert_same(first: list, second: list) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)


class At(keras.callbacks.Callback):
    """Calls a function after the meta-step of that number."""

    def __init__(self, meta_step, function):
        super().__init__()
        self._meta_step, self._function = meta_step, function

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == self._meta_step:
            self._function()


# ------------------------------------------------------------------------------------- resuming


def scrambled(trainer):
    """The same trainer with another number in every variable: no second trace of a large model."""
    for variable in tf.nest.flatten(trainer.variables()):
        variable.assign(variable + tf.ones_like(variable))
    return trainer


def resumed_equals_uninterrupted(whole, build_again, sets, tmp_path):
    """Trains 7 meta-steps, then again from the state of step 3 in a trainer begun elsewhere.

    With T = 2, lifetimes of 8 and two members, member 1 starts again before steps 2 and 6 and
    member 0 before step 4 (from 0): at step 3 both are in the middle of a lifetime.
    """
    start, restarts = values(whole), []
    record = At(0, None)
    record.on_train_batch_end = lambda batch, logs: restarts.append(whole.last_record.reinitialised)
    whole.fit(*sets, 7, steps_per_epoch=3, callbacks=[Checkpoints(tmp_path, keep=9), record])
    assert restarts == [[], [], [1], [], [0], [], [1]]
    for later in (6, 7):
        for file in (tmp_path / "checkpoints").glob(f"state-{later}.*"):
            file.unlink()
    end = values(whole)
    resumed = build_again(whole)
    # The comparison can fail: training has changed the rater and every member.
    for other in (start, values(resumed)):
        assert sum(not np.array_equal(a, b) for a, b in zip(other, end)) > len(end) // 2
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_trainer(resumed)
    assert checkpoints.restore() == 3
    assert resumed.population.ages() == [6, 2]
    resumed.fit(*sets, 7, steps_per_epoch=3, callbacks=[checkpoints])
    assert_same(end, values(resumed))


def test_a_resumed_run_equals_the_uninterrupted_one(text_trainer, text_sets, tmp_path):
    """A language model with dropout, whose random state has to go on where it stood."""
    resumed_equals_uninterrupted(text_trainer(dropout=0.2), scrambled, text_sets, tmp_path)


@pytest.mark.long
def test_a_resumed_compiled_run_equals_the_uninterrupted_one(
    regression_trainer, regression_sets, tmp_path
):
    def build(_=None, rater_seed=99):
        return regression_trainer(
            jit_compile=True, inner_optimizer=adam(0.05), rater_seed=rater_seed
        )

    resumed_equals_uninterrupted(build(rater_seed=1), build, regression_sets, tmp_path)


def test_epochs_do_not_change_the_result(regression_trainer, regression_sets):
    """Nor does stopping and going on in the same process."""
    first, second = regression_trainer(), regression_trainer()
    first.fit(*regression_sets, 5, steps_per_epoch=2)
    for meta_steps in (1, 4, 5):
        second.fit(*regression_sets, meta_steps, steps_per_epoch=50)
    assert_same(values(first), values(second))


def test_the_seed_decides_the_run(regression_trainer, regression_sets):
    runs = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(len(runs))  # of no account
        trainer = regression_trainer(seed=seed)
        trainer.fit(*regression_sets, 2)
        runs.append(values(trainer))
    assert_same(runs[0], runs[1])
    assert any(not np.array_equal(a, b) for a, b in zip(runs[0], runs[2]))


def test_a_run_that_is_done_returns_at_once(regression_trainer, regression_sets):
    trainer = regression_trainer()
    trainer.fit(*regression_sets, 2)
    before = values(trainer)
    history = trainer.fit(*regression_sets, 2)
    assert history.history == {} and history.epoch == []
    assert_same(before, values(trainer))


# ------------------------------------------------------------------------- what a meta-step does


def test_batches_in_parts_give_the_same_run(regression_trainer, regression_sets):
    """Rater, inner model, updates without meta-gradient and reported losses, each in two parts."""
    found = []
    for parts in (1, 2):
        trainer = regression_trainer(advance_updates=1, estimator=MixedMode(micro_batches=parts))
        trainer.fit(*regression_sets, 3)
        record = trainer.last_record
        assert trainer.rows_at_once == 8 // parts
        theta = [leaf.numpy() for leaf in trainer.population.members[0].state.theta]
        # The softmax does not see a shift of all scores; in float32 noise alone makes one.
        scores = [np.asarray(s) - np.mean(s, axis=-1, keepdims=True) for s in record.scores]
        found.append(([*theta, *scores], record))
    (whole, record), (parts, same) = found
    assert np.ptp(whole[-1]) > 1e-3  # the rater has left its beginning
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    for name in ("inner_loss_after", "outer_loss"):
        np.testing.assert_allclose(record.members[name], same.members[name], rtol=1e-5)


def test_one_meta_step_is_the_estimator_on_the_streams_rows(regression_trainer, regression_sets):
    """Members, scores and rows after a step, put together from the parts by hand."""
    train, outer = regression_sets
    trainer = regression_trainer(advance_updates=1, seed=5, lifetime=None)
    eta = [tf.identity(v.value) for v in trainer.rater.trainable_variables]
    states = [
        InnerState(*tf.nest.map_structure(tf.identity, member.state))
        for member in trainer.population.members
    ]
    trainer.fit(train, outer, 1)
    record = trainer.last_record
    problem = trainer.problem()
    for index, state in enumerate(states):
        inner = BatchStream(train, 8, derive_seed(5, "inner", index))
        held_out = BatchStream(outer, 8, derive_seed(5, "outer", index)).batch(0)
        batches = [inner.batch(number) for number in range(3)]
        np.testing.assert_array_equal(record.rows[index], [inner.indices(0), inner.indices(1)])
        stacked = {n: tf.stack([batch[n] for batch in batches[:2]]) for n in batches[0]}
        loss, gradient, state, metrics = NestedTape()(
            problem, state, eta, stacked, {"outer": held_out}
        )
        assert record.members["outer_loss"][index] == pytest.approx(float(loss), rel=1e-5)
        np.testing.assert_allclose(record.scores[index], metrics["scores"], rtol=1e-5)
        norm = np.sqrt(sum((leaf.numpy() ** 2).sum() for leaf in gradient))
        assert record.members["meta_gradient_norm"][index] == pytest.approx(norm, rel=1e-4)
        # The update without meta-gradient is weighed by the rater as it was.
        weights, _ = problem.weigh(eta, state, batches[2])
        state, _ = inner_update(problem, state, weights, batches[2])
        for variable, value in zip(trainer.population.members[index].state.theta, state.theta):
            np.testing.assert_allclose(variable, value, rtol=1e-5, atol=1e-6)
    assert record.ages == [3, 3] and record.meta_step == 1


def test_the_rater_learns_which_targets_lie(regression_trainer, regression_sets):
    """The first half of the train set has its targets raised; after some steps they score low."""
    train, outer = regression_sets
    trainer = regression_trainer(lifetime=20, outer_optimizer=OuterAdam(0.03, 2, 1.0, 0.0))
    history = trainer.fit(train, outer, 60, steps_per_epoch=20)
    scores = trainer.rater(dict(train.features)).numpy()[:, 0]
    lying, honest = scores[:20], scores[20:]
    assert (honest[:, None] > lying).mean() > 0.9
    losses = history.history["outer_loss"]
    assert losses[-1] < 0.8 * losses[0]


# ----------------------------------------------------------------------------- blown-up members


def poison(trainer, index: int) -> None:
    trainer.population.members[index].state.theta[0].assign(
        tf.fill(trainer.population.members[index].state.theta[0].shape, np.nan)
    )


def test_stop_names_step_and_member_and_spares_the_others(regression_trainer, regression_sets):
    trainer, sound = regression_trainer(), regression_trainer()
    trainer.fit(*regression_sets, 2)
    sound.fit(*regression_sets, 3)
    poison(trainer, 1)
    with pytest.raises(
        NonFiniteError,
        match=r"Meta-step 3, member 1, age 0: the loss or meta-gradient is not finite \(outer loss"
        r" nan.*on_nonfinite='reinit'",
    ) as error:
        # Member 1 starts again before the third step (lifetime 8): poison it after that.
        begin = trainer.population.begin_step

        def begin_step(step):
            ended = begin(step)
            poison(trainer, 1)
            return ended

        trainer.population.begin_step = begin_step
        trainer.fit(*regression_sets, 4)
    assert "Lower the inner learning rate" in str(error.value)
    # Member 0 took its step as ever; the rater moved by member 0 alone and is finite.
    assert_same(
        [v.numpy() for v in tf.nest.flatten(trainer.population.members[0].variables())],
        [v.numpy() for v in tf.nest.flatten(sound.population.members[0].variables())],
    )
    assert all(np.isfinite(v.numpy()).all() for v in trainer.rater.trainable_variables)
    member = trainer.population.members[1]
    assert all(np.isfinite(leaf).all() for leaf in tf.nest.flatten(member.outer_slots))
    assert int(member.contributions) == 2 and int(trainer.nonfinite_count) == 1


def test_reinit_restarts_the_member_and_counts_it(regression_trainer, regression_sets):
    trainer = regression_trainer(on_nonfinite="reinit", lifetime=None)
    poison(trainer, 1)
    history = trainer.fit(*regression_sets, 3, steps_per_epoch=1)
    assert history.history["nonfinite_count"] == [1.0, 1.0, 1.0]
    assert np.isfinite(history.history["outer_loss"]).all()
    assert [int(member.generation) for member in trainer.population.members] == [0, 1]
    assert trainer.population.ages() == [6, 4]  # a whole life from the second step on
    assert all(np.isfinite(value).all() for value in values(trainer))


def test_a_step_without_any_finite_member_changes_no_rater(regression_trainer, regression_sets):
    trainer = regression_trainer(on_nonfinite="reinit", inner_optimizer=sgd(1e38))
    before = [v.numpy() for v in trainer.rater.trainable_variables]
    history = trainer.fit(*regression_sets, 2)
    assert_same(before, [v.numpy() for v in trainer.rater.trainable_variables])
    assert int(trainer.nonfinite_count) == 4
    assert np.isnan(history.history["outer_loss"]).all()
    assert max(history.history["outer_update_norm"]) < 1e-6


# ------------------------------------------------------------------------------------ callbacks


def test_usual_keras_callbacks_work(regression_trainer, regression_sets, tmp_path):
    trainer = regression_trainer()
    losses = iter([3.0, 1.0, 2.0, 2.5, 0.5, 0.4])
    weights = {}
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: weights.update(
            {epoch: [w.copy() for w in trainer.rater.get_weights()]}
        )
    )
    history = trainer.fit(
        *regression_sets,
        meta_steps=12,
        steps_per_epoch=2,
        callbacks=[
            keep,
            keras.callbacks.EarlyStopping("validation_loss", patience=2, mode="min"),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras", "validation_loss", save_best_only=True, mode="min"
            ),
        ],
        validate=lambda: {"validation_loss": next(losses)},
    )
    # Best in the second epoch, two worse ones, stop.
    assert history.epoch == [0, 1, 2, 3] and int(trainer.meta_step) == 8
    assert history.history["validation_loss"] == [3.0, 1.0, 2.0, 2.5]
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation_loss"]) for row in rows] == [3.0, 1.0, 2.0, 2.5]
    np.testing.assert_allclose(
        [float(row["outer_loss"]) for row in rows], history.history["outer_loss"]
    )
    best = keras.models.load_model(tmp_path / "best.keras")
    assert_same(weights[1], best.get_weights())
    assert not np.array_equal(weights[3][0], best.get_weights()[0])


def test_epoch_logs_are_means_over_the_epoch(regression_trainer, regression_sets):
    steps = []
    history = regression_trainer().fit(
        *regression_sets,
        5,
        steps_per_epoch=3,
        callbacks=[
            keras.callbacks.LambdaCallback(on_train_batch_end=lambda n, logs: steps.append(logs))
        ],
    )
    losses = [logs["outer_loss"] for logs in steps]
    np.testing.assert_allclose(
        history.history["outer_loss"], [np.mean(losses[:3]), np.mean(losses[3:])]
    )
    assert set(steps[0]) == {
        "outer_loss",
        "meta_gradient_norm",
        "inner_loss_before",
        "inner_loss_after",
        "weight_entropy",
        "effective_sample_size",
        "meta_gradient_snr",
        "meta_gradient_snr_steps",
        "outer_update_norm",
        "nonfinite_count",
    }


# --------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(
    "number, raised", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_saves_and_leaves(
    number, raised, regression_trainer, regression_sets, tmp_path, capsys
):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    trainer = regression_trainer()
    with pytest.raises(raised) as caught:
        trainer.fit(
            *regression_sets,
            50,
            steps_per_epoch=10,
            callbacks=[Checkpoints(tmp_path), At(3, lambda: os.kill(os.getpid(), number))],
        )
    if raised is SystemExit:
        assert caught.value.code == 128 + signal.SIGTERM
    assert "the run is being saved" in capsys.readouterr().out
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    resumed = regression_trainer(rater_seed=9)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_trainer(resumed)
    assert checkpoints.restore() == 3
    assert_same(values(trainer), values(resumed))


def test_a_second_ctrl_c_does_not_wait(regression_trainer, regression_sets):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one interrupts at once")

    with pytest.raises(KeyboardInterrupt):
        regression_trainer().fit(*regression_sets, 5, callbacks=[At(1, twice)])


# -------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"unroll_length": 0}, "unroll_length is 0: it must be a whole number of at least 1"),
        ({"unroll_length": 1.5}, "unroll_length is 1.5"),
        ({"advance_updates": -1}, "advance_updates is -1"),
        ({"inner_batch_size": 0}, "inner_batch_size is 0"),
        ({"outer_batch_size": True}, "outer_batch_size is True"),
        ({"outer_batch_size": None}, "outer_batch_size is None"),
        ({"population_size": 0}, "population_size is 0"),
        ({"population_size": 1.5}, "population_size is 1.5"),
        ({"lifetime": 1}, "lifetime is 1 inner updates, shorter than the 2 of one meta-step"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite is 'ignore': it must be one of stop, reinit"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message, regression_trainer):
    with pytest.raises(ConfigurationError, match=message):
        regression_trainer(**arguments)


def test_steps_per_epoch_must_be_positive(regression_trainer, regression_sets):
    with pytest.raises(ConfigurationError, match="steps_per_epoch is 0"):
        regression_trainer().fit(*regression_sets, 3, steps_per_epoch=0)


@pytest.mark.parametrize(
    "name, size", [("train", "inner_batch_size"), ("outer", "outer_batch_size")]
)
def test_a_set_smaller_than_a_batch_is_refused(name, size, regression_trainer, regression_sets):
    with pytest.raises(DataError, match=f"The set '{name}' has .* fewer than one batch of 60"):
        regression_trainer(**{size: 60}).fit(*regression_sets, 3)
