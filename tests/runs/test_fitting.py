"""Raters fitted to a teacher's scores: what they learn, what is kept, what goes on from it."""

import functools
import json
import shutil

import keras
import numpy as np
import pytest
from scipy.stats import norm, spearmanr
import tensorflow as tf

from dr_keras.baselines.candidates import window_candidates
from dr_keras.baselines.scores import Scores
from dr_keras.commands import fit_rater as command
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.errors import CheckpointError, ConfigurationError, DataError
from dr_keras.meta.callbacks import read_metrics
from dr_keras.meta.checkpoints import rater_steps
from dr_keras.meta.seeds import seeded
from dr_keras.models.losses import squared_error, token_loss
from dr_keras.models.rater_scores import ReferenceLoss
from dr_keras.models.text_models import language_model, text_rater
from dr_keras.runs.experiment import experiment
from dr_keras.runs.fit_lessons import begin_from, lesson
from dr_keras.runs.fit_records import read_fit
from dr_keras.runs.fitting import FittedRater, _schedule
from dr_keras.runs.meta_training import choose_step, meta_train
from dr_keras.serving.loading import load_rater
from dr_keras.training.trainers import RepeatedTrainer
import gin

BINDINGS = """
    MetaTrainer.jit_compile = False
    MetaTrainer.population_size = 1
    MetaTrainer.inner_batch_size = 8
    MetaTrainer.outer_batch_size = 8
    meta_train.judged = False
    MetaEvaluation.jit_compile = False
    MetaEvaluation.updates = 2
    MetaEvaluation.batch_size = 8
"""
DIRECTION = np.array([1.0, -2.0, 0.5, 0.0])


def rows(name, count, seed, windows=2):
    """Regression examples, `windows` of each document."""
    x = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    ids = np.array([f"{name}-{k // windows}#{k % windows}" for k in range(count)], object)
    return ExampleSet({"x": x, "target": x[:, :1]}, ids, ids, ids, name=name)


@pytest.fixture(scope="module")
def parts():
    sets = [rows(n, c, k) for k, (n, c) in enumerate((("t", 600), ("o", 32), ("v", 32), ("e", 8)))]
    return Parts(*sets)


def dense_rater():
    x = keras.Input((4,), name="x")
    hidden = keras.layers.Dense(8, activation="tanh")(x)
    return keras.Model({"x": x}, keras.layers.Dense(1)(hidden), name="rater")


def linear_model():
    x = keras.Input((4,), name="x")
    return keras.Model({"x": x}, keras.layers.Dense(1)(x), name="linear")


def linear(candidates, outer, *, seed=0):
    """Scores by a direction that the examples have."""
    values = candidates.examples.features["x"] @ DIRECTION
    return Scores(7 + 3 * values, 1000.0, 10.0, {"outer": len(outer)})


def skewed(candidates, outer, *, seed=0):
    """The same order, with a tail; some have no score."""
    values = np.exp(2 * candidates.examples.features["x"] @ DIRECTION)
    values[::7] = np.nan
    return Scores(values)


FIT = functools.partial(
    FittedRater,
    epochs=20,
    least_updates=1,
    batch_size=32,
    learning_rate=0.02,
    held_out=0.2,
    jit_compile=False,
)


def fresh():
    with seeded(3):
        return dense_rater()


def scores(rater, examples):
    return np.ravel(rater({"x": examples.features["x"]}))


# ------------------------------------------------------------------------------------------ a fit


def test_a_fit_gives_the_order_of_its_teacher_and_says_what_it_cost(parts, tmp_path):
    rater = fresh()
    record = FIT(teacher=linear, scale=0.5).fit(rater, parts, tmp_path)
    assert json.loads((tmp_path / "fit.json").read_text()) == record
    held = record["held_out"]
    assert held["rank_correlation"] > 0.98 and held["explained"] > 0.95
    found = scores(rater, parts.train)
    assert spearmanr(found, parts.train.features["x"] @ DIRECTION)[0] > 0.98
    # mean 0 and the deviation that was asked for
    assert abs(found.mean()) < 0.05 and found.std() == pytest.approx(0.5, rel=0.1)
    assert record["scores"]["deviation"] == pytest.approx(0.5, rel=0.2)
    assert record["scores"]["effective_share"] == pytest.approx(np.exp(-0.25), abs=0.08)
    # whole documents are held out
    assert held["windows"] % 2 == 0 and 80 <= held["windows"] <= 160
    assert record["fit"]["windows"] + held["windows"] == 600
    # two operations a product and addition: 4 x 8 + 8 x 1 products; a training step is three passes
    updates, one = record["fit"]["updates"], 2 * (4 * 8 + 8)
    assert updates == pytest.approx(20 * record["fit"]["windows"] / 32, rel=0.08)
    spent = one * (3 * updates * 32 + (updates // 25 + 2) * held["windows"])
    assert record["fit"]["flops"] == spent
    assert record["teacher"]["scoring_flops"] == 10 * 600
    assert record["flops"] == 1000 + 10 * 600 + spent
    assert record["teacher"] | {"seconds": 0} == {
        "name": "linear", "seconds": 0, "training_flops": 1000, "scoring_flops": 6000,
        "facts": {"outer": 32},
    }  # fmt: skip


def test_ranks_take_the_tails_off_and_what_has_no_score_is_left_out(parts, tmp_path):
    fit = FIT(teacher=skewed, targets="ranks", huber=None)
    values = skewed(window_candidates(parts.train), None).values
    taught = lesson(
        Scores(values), parts.train, "t", kind="ranks", scale=2.0, held_out=0.2, least=1,
        by_token=False,
    )  # fmt: skip
    targets, fitted, held = taught.windows / 2, taught.fitted, taught.held
    known = np.isfinite(values)
    assert not known[::7].any() and set(fitted) | set(held) == set(np.flatnonzero(known))
    assert not set(fitted) & set(held)
    order = np.sort(norm.ppf((np.arange(known.sum()) + 0.5) / known.sum()))
    np.testing.assert_allclose(np.sort(targets[known]), order / order.std(), atol=1e-5)
    record = fit.fit(fresh(), parts, tmp_path)
    assert record["held_out"]["rank_correlation"] > 0.95
    assert record["fit"]["without_a_score"] == (~known).sum() == 86


def test_a_teacher_may_score_a_part_and_its_rater_learn_from_that(parts, tmp_path):
    record = FIT(teacher=linear, epochs=1, most_windows=101).fit(fresh(), parts, tmp_path)
    windows = record["fit"]["windows"] + record["held_out"]["windows"]
    assert windows == 100  # whole documents
    assert record["teacher"]["scoring_flops"] == 10 * windows
    assert record["fit"]["updates"] == 3
    assert record["data_fingerprint"] == parts.fingerprint


@pytest.mark.parametrize("updates", [0.2, 12, 249, 318, 370, 2640, 40_000])
def test_updates_are_a_whole_number_of_evaluations(updates):
    steps, every = _schedule(updates)
    assert steps % every == 0 and 1 <= steps // every <= 15
    assert steps == pytest.approx(max(updates, 1), rel=0.08)
    assert every % 25 == 0 or updates < 250


def test_a_small_corpus_is_gone_through_more_often(parts):
    taught = lesson(
        linear(window_candidates(parts.train), [0]), parts.train, "t", kind="standard",
        scale=1.0, held_out=0.2, least=1, by_token=False,
    )  # fmt: skip
    assert FIT(teacher=linear, epochs=1, least_updates=70)._trainer(fresh(), taught).steps == 70
    assert FIT(teacher=linear, epochs=1)._trainer(fresh(), taught).steps == 16


def test_a_fit_that_was_stopped_asks_its_teacher_once(parts, tmp_path, monkeypatch):
    asked = []

    def teacher(candidates, outer, *, seed=0):
        asked.append(seed)
        return linear(candidates, outer)

    def interrupted(*_):
        raise KeyboardInterrupt

    fit = FIT(teacher=teacher, epochs=1, seed=5)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RepeatedTrainer, "train", interrupted)
        fit.fit(fresh(), parts, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]
    first, again = fresh(), fresh()
    record = fit.fit(first, parts, tmp_path)
    assert asked == [5]
    with monkeypatch.context() as patch:  # it is loaded
        patch.setattr(RepeatedTrainer, "train", interrupted)
        assert fit.fit(again, parts, tmp_path) == record
    np.testing.assert_array_equal(scores(first, parts.train), scores(again, parts.train))
    for other in (FIT(teacher=teacher, epochs=2, seed=5), FIT(teacher=linear, epochs=1, seed=5)):
        with pytest.raises(CheckpointError, match="other settings, another teacher or other data"):
            other.fit(fresh(), parts, tmp_path)
    weights = tmp_path / "rater.weights.h5"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="cannot be loaded into 'rater' .*checksum.*fit the"):
        fit.fit(fresh(), parts, tmp_path)
    (tmp_path / "fit.json").write_text("{")
    with pytest.raises(CheckpointError, match="fit.json is damaged"):
        fit.fit(fresh(), parts, tmp_path)


@pytest.mark.parametrize(
    "values, message",
    [
        (np.zeros(3), r"gives scores of shape \(3,\) for 600 windows"),
        (np.zeros(600), "gives every window the same score"),
        (np.full(600, np.nan), "scores 0 of 600 windows: 0 to fit .*batch_size .32. and 1:"),
    ],
)
def test_scores_that_cannot_be_learned_from(parts, tmp_path, values, message):
    with pytest.raises(DataError, match=message):
        FIT(teacher=lambda *_, seed: Scores(values)).fit(fresh(), parts, tmp_path)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"targets": "rank"}, "targets is 'rank': choose one of standard, ranks"),
        ({"held_out": 1.0}, "held_out is 1.0: it must lie between"),
        ({"scale": 0.0}, "scale is 0.0: it must be above 0"),
        ({"huber": -1.0}, "huber is -1.0: .* None for squares"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(ConfigurationError, match=message):
        FittedRater(teacher=linear, **setting)


# -------------------------------------------------------------------------------------- by token


SIZE = dict(vocabulary_size=9, sequence_length=6, width=4, layer_count=1, heads=1)


@pytest.fixture(scope="module")
def text():
    """Short windows, half of them padded; their parts."""
    tokens = np.random.default_rng(0).integers(1, 9, (160, 6)).astype(np.int32)
    tokens[:80, 4:] = 0
    ids = np.array([f"d{k}#0" for k in range(160)], object)
    train = ExampleSet({"tokens": tokens}, ids, ids, ids)
    return Parts(train, *[train.take(slice(0, 8))] * 3)


def worth(tokens):
    """What a token adds: 1 for a 3, -1 for a 7; nothing is said of the first."""
    found = np.where(tokens == 3, 1.0, np.where(tokens == 7, -1.0, 0.0))
    return np.where((tokens > 0) & (np.arange(6) > 0), found, np.nan)


def by_token(candidates, outer, *, seed=0, **known):
    model = language_model(**SIZE)
    tokens = worth(candidates.examples.features["tokens"])
    weights = {weight.path: np.asarray(weight) for weight in model.weights}
    return Scores(
        np.nanmean(tokens, axis=1), tokens=tokens.astype(np.float16), weights=weights, **known
    )


def test_the_loss_of_windows_and_of_tokens_by_hand(text):
    scores = by_token(window_candidates(text.train), None)
    given = dict(kind="standard", scale=0.5, held_out=0.2, least=1, by_token=True)
    taught = lesson(scores, text.train, "t", **given)
    unit = scores.values.std() / 0.5
    tokens = (worth(text.train.features["tokens"]) - scores.values.mean()) / unit
    np.testing.assert_allclose(taught.tokens, tokens, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(np.nanmean(tokens, axis=1), taught.windows, atol=1e-5)
    rows = taught.fitted[:3]
    batch = {k: tf.constant(v) for k, v in taught.examples(text.train, rows, "").features.items()}
    given = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    found, ones = taught.loss(huber=1.0, token_share=3.0)(tf.constant(given), batch)
    real = text.train.features["tokens"][rows] > 0
    error = np.abs((given * real).sum(1) / real.sum(1) - taught.windows[rows]) / 0.5
    huber = np.where(error < 1, error**2 / 2, error - 0.5)
    apart = (given - tokens[rows]) / np.nanstd(tokens[taught.fitted])
    np.testing.assert_allclose(found, huber + 3 * np.nanmean(apart**2, axis=1) / 2, rtol=5e-3)
    np.testing.assert_array_equal(ones, 1)


def test_tokens_teach_a_rater_of_windows(text, tmp_path):
    rater_fn = functools.partial(text_rater, **SIZE)
    spent = dict(facts={"outer_nats": 1.0}, training_flops=700.0)
    beginner = functools.partial(by_token, **spent)
    fit = FIT(teacher=by_token, epochs=12, batch_size=8, beginner=beginner)
    assert fit._identity(text)["settings"]["beginner"] == "partial"
    with seeded(1):
        rater = rater_fn()
    record = fit.fit(rater, text, tmp_path / "fit", None, rater_fn)
    assert record["beginning"]["training_flops"] == 700
    assert record["flops"] == record["fit"]["flops"] + 700
    assert record["fit"]["by_token"] and record["held_out"]["explained"] > 0.5
    assert len(rater({"tokens": text.train.features["tokens"]}).shape) == 1
    with pytest.raises(ConfigurationError, match="no twin by token .there is no function"):
        fit.fit(rater, text, tmp_path / "none")
    with pytest.raises(ConfigurationError, match="has no twin by token .*per_token"):
        fit.fit(rater, text, tmp_path / "none", None, lambda: rater)


def test_a_rater_may_begin_with_what_its_teacher_knows(text):
    weights = by_token(window_candidates(text.train), None).weights
    rater = text_rater(**SIZE)
    head = [np.asarray(v) for v in rater.variables if v.path.startswith("score/")]
    begin_from(rater, weights, "beginner", "t")
    after = {v.path.replace("_layer/", "/"): np.asarray(v) for v in rater.variables}
    assert len(head) == 2 and len(after) == len(weights) + 2
    for name, value in weights.items():
        np.testing.assert_array_equal(after[name], value)
    for before, name in zip(head, ("score/kernel", "score/bias")):
        np.testing.assert_array_equal(after[name], before)
    wider = text_rater(**SIZE | {"width": 6})
    with pytest.raises(
        ConfigurationError, match="rater.beginner: t has no weights for token_embedding.*width"
    ):
        begin_from(wider, weights, "beginner", "t")
    with pytest.raises(ConfigurationError, match="t has no weights"):
        begin_from(rater, None, "beginner", "t")


def test_a_rater_by_token_that_reads_a_reference(text, tmp_path):
    reference = ReferenceLoss(language_model(**SIZE), token_loss)

    def share(candidates, outer, *, seed=0):
        return Scores(np.nanmean(worth(candidates.examples.features["tokens"]), axis=1))

    fit = FIT(teacher=share, epochs=1, batch_size=8)
    rater = text_rater(**SIZE, per_token=True, features=["reference_loss"])
    record = fit.fit(rater, text, tmp_path / "a", reference)
    assert np.isfinite(record["held_out"]["explained"]) and record["flops"] > 0
    of_member = text_rater(**SIZE, features=["inner_loss"])
    with pytest.raises(ConfigurationError, match="cannot be exported, or score"):
        fit.fit(of_member, text, tmp_path / "b")


# ------------------------------------------------------------------------------ a run goes on


def setup(parts, fit):
    return experiment(
        parts, dense_rater, linear_model, squared_error, initial_rater=fit, on_overlap="drop"
    )


def values(trainer):
    member = trainer.population.members[0]
    return [np.asarray(v) for v in (*trainer.rater.variables, *member.state.theta)]


def test_meta_training_goes_on_from_the_fit_and_may_choose_it(parts, tmp_path):
    gin.parse_config(BINDINGS)
    fit = FIT(teacher=linear, epochs=2)
    train = functools.partial(meta_train, steps_per_epoch=2)
    run = tmp_path / "run"
    fitted = train(run, setup(parts, fit), 0)
    assert rater_steps(run) == [0] and read_fit(run)["teacher"]["name"] == "linear"
    (record,) = read_metrics(run)
    assert record["kind"] == "epoch" and record["meta_step"] == 0
    assert record["validation_loss"] > 0 and record["random_validation_loss"] > 0
    expected, kept = scores(fitted.rater, parts.train), fresh()
    for path in (run / "fitted" / "rater.weights.h5", run / "checkpoints" / "rater-0.weights.h5"):
        kept.load_weights(path)
        np.testing.assert_array_equal(scores(kept, parts.train), expected)
    assert choose_step(run)[0] == 0
    # One that died after its fit and before its first checkpoint begins again, with the fit
    died = tmp_path / "died"
    shutil.copytree(run, died, ignore=shutil.ignore_patterns("checkpoints"))
    whole = train(died, setup(parts, fit), 4)
    # Going on is as if it had never stopped, and asks no teacher
    resumed = train(run, setup(parts, fit), 4)
    for a, b in zip(values(whole), values(resumed)):
        np.testing.assert_array_equal(a, b)
    for folder in (run, died):
        assert [r["meta_step"] for r in read_metrics(folder, "epoch")] == [0, 2, 4]
        assert rater_steps(folder) == [0, 2, 4]
    assert not np.array_equal(scores(resumed.rater, parts.train), expected)
    with pytest.raises(ConfigurationError, match="meta_steps is 0"):
        train(tmp_path / "scratch", setup(parts, None), 0)


with gin.unlock_config():
    _CONFIGURABLE = {
        name: gin.configurable(f"fitting_test_{name}")(function)
        for name, function in {
            "parts": lambda: Parts(
                *[rows(n, c, k) for k, (n, c) in enumerate(zip("tove", (120, 16, 16, 8)))]
            ),
            "rater": dense_rater,
            "model": linear_model,
            "teacher": linear,
        }.items()
    }


def test_the_verb_fits_judges_and_exports(tmp_path, capsys):
    bindings = [*BINDINGS.split("\n"), "experiment.data = @fitting_test_parts"]
    bindings += ["experiment.rater = @fitting_test_rater", "meta_train.meta_steps = 4"]
    bindings += ["experiment.inner_model = @fitting_test_model"]
    bindings += ["experiment.per_example_loss = @squared_error", "fitted_rater.batch_size = 16"]
    bindings += ["fitted_rater.least_updates = 20"]
    bindings += ["fitted_rater.teacher = @fitting_test_teacher", "fitted_rater.jit_compile = False"]
    flags = [f"--base_dir={tmp_path}"]
    flags += [f"--gin_param={binding.strip()}" for binding in bindings if binding.strip()]
    assert command.main(flags) == 2
    assert "fits no rater: bind experiment.initial_rater" in capsys.readouterr().err
    gin.clear_config()
    fitted = "--gin_param=experiment.initial_rater = @fitted_rater()"
    assert command.main([*flags, fitted]) == 0
    reason, path = capsys.readouterr().out.splitlines()
    assert reason.startswith("fitted rater: lowest validation loss of 1 meta-evaluations")
    assert path == str(tmp_path / "export" / "1") and load_rater(path).metadata["training"]
