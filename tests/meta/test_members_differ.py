"""Members with rates, lifetimes, start ages and first weights of their own, in a trainer."""

import dataclasses
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.streams import BatchStream
from dr_keras.errors import ConfigurationError, NonFiniteError
from dr_keras.meta.callbacks import ShowProgress
from dr_keras.meta.checkpoints import Checkpoints
from dr_keras.meta.draws import log_uniform, uniform
from dr_keras.meta.initial_members import initial_members
from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.optimizers import adam, cosine_rate, momentum, sgd
from dr_keras.meta.population import initial_values
from dr_keras.meta.problem import InnerState, inner_update
from dr_keras.meta.seeds import derive_seed, seeded
from dr_keras.models.losses import squared_error
from dr_keras.models.weight_files import load_weights


def problem_of(model) -> KerasProblem:
    return KerasProblem(linear_model(), model, squared_error, sgd())


def linear_model(units: int = 1) -> keras.Model:
    x = keras.Input((3,), name="x")
    return keras.Model({"x": x}, keras.layers.Dense(units)(x), name="linear")


def values(trainer) -> list[np.ndarray]:
    return [variable.numpy() for variable in tf.nest.flatten(trainer.variables())]


def assert_same(first: list, second: list) -> None:
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def trained_file(tmp_path) -> str:
    with seeded(3):
        model = linear_model()
    model.trainable_variables[1].assign([0.5])
    path = str(tmp_path / "final.weights.h5")
    model.save_weights(path)
    return path


class Recorded(keras.callbacks.Callback):
    """Ages, rates and restarts of every meta-step, and the rounds before start ages."""

    def __init__(self, stop_at_round: int | None = None):
        super().__init__()
        self.ages, self.rates, self.restarts, self.rounds = [], [], [], []
        self._stop_at_round = stop_at_round

    def set_trainer(self, trainer):
        self._trainer = trainer

    def on_members_age(self, done, total):
        self.rounds.append((done, total))
        if len(self.rounds) == self._stop_at_round:
            signal.raise_signal(signal.SIGINT)

    def on_train_batch_end(self, batch, logs=None):
        record = self._trainer.last_record
        self.ages.append(record.ages)
        self.rates.append(record.members["learning_rate"].tolist())
        self.restarts.append(record.reinitialised)


# ------------------------------------------------------------------- all of it, stopped and resumed


@pytest.fixture
def differing_trainer(regression_trainer, trained_file):
    def build(**arguments):
        settings = dict(
            inner_optimizer=momentum(cosine_rate(0.05, 50)),
            lifetime=uniform(4, 12),
            learning_rates=log_uniform(0.01, 0.1),
            start_ages=[0, 3],
            initial_members=[None, trained_file],
            initial_noise=[0.0, 0.1],
        )
        return regression_trainer(**(settings | arguments))

    return build


def test_a_run_whose_members_differ_resumes_bit_for_bit(
    differing_trainer, regression_sets, tmp_path
):
    """Stopped by Ctrl-C while a member that just started again is on its way to its start age."""
    whole, record = differing_trainer(), Recorded()
    whole.fit(*regression_sets, 9, steps_per_epoch=3, callbacks=[record])
    assert record.restarts == [[], [], [1], [], [], [0], [], [1], [0]]
    assert record.ages == [
        [2, 5], [4, 7], [6, 5], [8, 7], [10, 9], [2, 11], [4, 13], [6, 5], [2, 7]
    ]  # fmt: skip
    first = [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert record.rounds == first * 3
    by_life = [len({*rates}) for rates in zip(*record.rates)]
    assert by_life == [3, 3]  # a rate for each life
    assert all(0.01 < rate < 0.1 for rate in np.ravel(record.rates))
    end = values(whole)

    stopped = Recorded(stop_at_round=10)  # before the eighth meta-step
    with pytest.raises(KeyboardInterrupt):
        differing_trainer(rater_seed=1).fit(
            *regression_sets, 9, steps_per_epoch=3, callbacks=[Checkpoints(tmp_path), stopped]
        )
    assert len(stopped.ages) == 7
    resumed, record = differing_trainer(rater_seed=99), Recorded()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_trainer(resumed)
    assert checkpoints.restore() == 7
    assert resumed.population.ages()[1] == 1  # of three
    resumed.fit(*regression_sets, 9, steps_per_epoch=3, callbacks=[record])
    assert record.rounds == [(0, 2), (1, 2), (2, 2)]
    assert record.restarts == [[1], [0]]
    assert_same(end, values(resumed))
    assert [int(member.generation) for member in resumed.population.members] == [2, 2]


def test_the_updates_before_a_start_age_are_those_of_a_stream_of_their_own(
    regression_trainer, regression_sets
):
    """Worked out by hand, with the member's own rate in place of the optimizer's."""
    trainer = regression_trainer(
        seed=5, start_ages=[2, 0], learning_rates=[0.02, 0.1], lifetime=None
    )
    states = [tf.nest.map_structure(tf.identity, m.state) for m in trainer.population.members]
    kept = []
    train_step = trainer.train_step

    def before(*arguments):
        kept.extend([v.numpy() for v in m.state.theta] for m in trainer.population.members)
        return train_step(*arguments)

    trainer.train_step = before
    trainer.fit(*regression_sets, 1)
    problem = dataclasses.replace(trainer.problem, optimizer=sgd(0.02))()
    with seeded(1):
        eta = [v.value for v in regression_trainer().rater.trainable_variables]
    stream = BatchStream(regression_sets[0], 8, derive_seed(5, "start_age", 0, 0))
    state = InnerState(*states[0])._replace(hyper={})
    for number in range(2):
        batch = stream.batch(number)
        weights, _ = problem.weigh(eta, state, batch)
        state, _ = inner_update(problem, state, weights, batch)
    for found, expected in zip(kept[0], state.theta, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert_same(kept[1], [leaf.numpy() for leaf in states[1].theta])
    assert trainer.last_record.ages == [4, 2]
    assert trainer.last_record.members["learning_rate"].tolist() == [
        np.float32(0.02),
        np.float32(0.1),
    ]


def test_equal_settings_for_all_change_nothing(regression_trainer, regression_sets):
    """But for rounding: a rate of its own is a variable, and that of the optimizer a constant."""
    plain = regression_trainer()
    listed = regression_trainer(lifetime=[8, 8], learning_rates=0.1)
    for trainer in (plain, listed):
        trainer.fit(*regression_sets, 5)
    for a, b in zip(plain.rater.trainable_variables, listed.rater.trainable_variables):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_terminal_tells_of_members_that_grow_older(regression_trainer, regression_sets, capsys):
    trainer = regression_trainer(start_ages=40)
    show = ShowProgress()
    trainer.fit(*regression_sets, 1, callbacks=[show])
    shown = capsys.readouterr().err
    assert "meta-training 0/1 meta-steps" in shown
    show._progress._interval = -1.0
    for done in (0, 20, 60):
        show.on_members_age(done, 80)
    last = capsys.readouterr().err.splitlines()[-1]
    assert "members grow older: 60/80 updates" in last and last.endswith("left")


# ------------------------------------------------------------------------- what blows up, too early


def test_a_member_that_blows_up_before_its_start_age(regression_trainer, regression_sets):
    """Stops the run, or starts again; ten times in a row and no more."""
    first_tame = 99

    def wild_at_first(seed, member, generation):
        return 1e9 if generation < first_tame and member == 0 else 0.1

    trainer = regression_trainer(start_ages=[12, 0], learning_rates=wild_at_first, lifetime=None)
    with pytest.raises(NonFiniteError, match="Member 0 blew up before its start age"):
        trainer.fit(*regression_sets, 1)
    trainer._ageing.failures = trainer.nonfinite_count  # as with on_nonfinite="reinit"
    with pytest.raises(NonFiniteError, match="Member 0 blew up .* in 10 lives in a row"):
        trainer.fit(*regression_sets, 1)
    assert [int(member.generation) for member in trainer.population.members] == [9, 0]
    first_tame = 11
    trainer.fit(*regression_sets, 1)
    assert [int(member.generation) for member in trainer.population.members] == [11, 0]
    assert int(trainer.nonfinite_count) == 9 + 2
    assert trainer.last_record.ages == [14, 2]


# ---------------------------------------------------------------------------- trained members


def noisy_model() -> keras.Model:
    x = keras.Input((3,), name="x")
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(400)(x))
    hidden = keras.layers.Dropout(0.1)(hidden)
    return keras.Model({"x": x}, keras.layers.Dense(1)(hidden), name="noisy")


def test_members_start_from_a_file_with_noise_of_their_own(tmp_path):
    with seeded(1):
        trained = noisy_model()
    trained.layers[2].moving_mean.assign(np.full(400, 0.3))
    path = str(tmp_path / "final.weights.h5")
    trained.save_weights(path)
    own = initial_members(path, [0.0, 0.0, 0.1], 3, 0, problem_of(noisy_model()))

    def begun(member, generation=0):
        def build():
            model = noisy_model()
            own.load(model, member, generation)
            return model

        return initial_values(build, derive_seed(9, member, generation))

    (first, first_statistics), (second, second_statistics) = begun(0), begun(1)
    assert_same(first, [v.numpy() for v in trained.trainable_variables])
    assert_same(first, second)
    floats = [v for v in first_statistics if v.dtype.is_floating]
    assert_same(floats[0], np.full(400, 0.3, np.float32))
    seeds = [
        [v.numpy().tolist() for v in found if not v.dtype.is_floating]
        for found in (first_statistics, second_statistics)
    ]
    assert seeds[0] != seeds[1]  # dropout draws apart
    (noisy, _), (same, _), (later, _) = begun(2), begun(2), begun(2, 1)
    assert_same(noisy, same)
    kernel, moved = first[0].numpy(), noisy[0].numpy() - first[0].numpy()
    assert moved.std() == pytest.approx(0.1 * np.sqrt(np.mean(kernel**2)), rel=0.1)
    assert np.abs(later[0] - noisy[0]).max() > 1e-3
    assert np.abs(noisy[1]).max() == 0  # biases of zero stay
    assert initial_members(None, 0.0, 3, 0, problem_of(trained)) is None


def frozen_base_model() -> keras.Model:
    x = keras.Input((3,), name="x")
    hidden = keras.layers.Dense(4, trainable=False)(x)
    return keras.Model({"x": x}, keras.layers.Dense(1)(hidden), name="frozen")


def test_frozen_weights_come_from_the_file_and_exist_once(tmp_path):
    paths = []
    for seed in (1, 2):
        with seeded(seed):
            model = frozen_base_model()
        paths.append(str(tmp_path / f"{seed}.weights.h5"))
        model.save_weights(paths[-1])
    problem = problem_of(frozen_base_model())
    initial_members([None, paths[1]], 0.0, 2, 0, problem).load(frozen_base_model(), 1, 0)
    kept = [v.numpy() for v in problem.kept_variables()["frozen"]]
    assert_same(kept, [v.numpy() for v in model.non_trainable_variables])
    own = initial_members(paths, 0.0, 2, 0, problem)
    with pytest.raises(ConfigurationError, match=r"2.weights.h5 the frozen weight dense\w*/kernel"):
        own.load(frozen_base_model(), 1, 0)


@pytest.mark.parametrize(
    "saved, message",
    [
        (lambda: linear_model(2), r"the weight dense\w*/kernel has shape \(3, 1\) and the file's"),
        (
            lambda: keras.Sequential([keras.Input((3,)), *map(keras.layers.Dense, (1, 1))]),
            "holds 6 values and the inner model 'linear' has 4: it is of another model",
        ),
        (
            lambda: keras.Sequential([keras.Input((3,)), keras.layers.Flatten()]),
            "does not fit the inner model 'linear': .*[Ll]ayer 'dense",
        ),
        (None, "cannot be read as Keras weights"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_of_another_model_is_refused(saved, message, tmp_path):
    path = tmp_path / "other.weights.h5"
    path.write_text("no HDF5") if saved is None else saved().save_weights(path)
    with pytest.raises(ConfigurationError, match=message):
        load_weights(linear_model(), str(path), "initial_members")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"initial_members": "none.weights.h5"}, "initial_members: there is no file /.*none.weigh"),
        ({"initial_members": "model.keras"}, "name a file of Keras weights .* ends in .weights.h5"),
        ({"initial_members": [None, 3]}, r"initial_members\[1\] is 3: it must be a path"),
        ({"initial_noise": -0.1}, "initial_noise is -0.1: it must be 0 or a positive number"),
        ({"start_ages": [5]}, "start_ages lists 1 values for 2 members"),
        ({"start_ages": -1}, "start_ages is -1: it must be a whole number of at least 0"),
        ({"learning_rates": 0}, "learning_rates is 0: it must be a positive number"),
        (
            {"learning_rates": 0.1, "inner_optimizer": adam(learning_rate=0.0)},
            "take the place of the optimizer.s rate on its schedule, and that of adam is 0.0",
        ),
    ],
)
def test_members_that_cannot_be_are_refused(regression_trainer, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        regression_trainer(**arguments)
