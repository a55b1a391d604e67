"""Records of a run: metrics.jsonl, TensorBoard, progress."""

import io
import json

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import tensorflow as tf

from dr_keras.meta import score_health
from dr_keras.meta.callbacks import (
    MetricsFile,
    ScoreHealth,
    ShowProgress,
    Summaries,
    TrainerCallback,
    extremes_table,
    read_metrics,
)
from dr_keras.meta.checkpoints import Checkpoints
from dr_keras.meta.scoring import Scorer
from dr_keras.models.losses import counted_by, squared_error
from dr_keras.system.progress import Progress


def test_metrics_hold_every_step_and_epoch(regression_trainer, regression_sets, tmp_path):
    trainer = regression_trainer()
    steps, weights = [], [trainer.rater.get_weights()]

    def keep(batch, logs):
        steps.append(logs)
        weights.append(trainer.rater.get_weights())

    history = trainer.fit(
        *regression_sets,
        5,
        steps_per_epoch=2,
        callbacks=[
            MetricsFile(tmp_path / "run"),
            keras.callbacks.LambdaCallback(on_train_batch_end=keep),
        ],
        validate=lambda: {"validation_loss": 1.5},
    )
    records = read_metrics(tmp_path / "run")
    assert [(r["kind"], r["meta_step"]) for r in records] == [
        ("step", 1),
        ("step", 2),
        ("epoch", 2),
        ("step", 3),
        ("step", 4),
        ("epoch", 4),
        ("step", 5),
        ("epoch", 5),
    ]
    records_of_steps = read_metrics(tmp_path / "run", "step")
    epochs = read_metrics(tmp_path / "run", "epoch")
    for record, values in zip(records_of_steps, steps):
        assert record["outer_loss"] == pytest.approx(values["outer_loss"])
        assert np.mean(record["members"]["outer_loss"]) == pytest.approx(record["outer_loss"])
        assert len(record["members"]["meta_gradient_norm"]) == 2
    assert [r["ages"] for r in records_of_steps] == [[2, 2], [4, 4], [6, 2], [8, 4], [2, 6]]
    assert [r["reinitialised"] for r in records_of_steps] == [[], [], [1], [], [0]]
    assert [r["validation_loss"] for r in epochs] == [1.5] * 3
    assert [r["outer_loss"] for r in epochs] == pytest.approx(history.history["outer_loss"])
    moved = [
        np.sqrt(sum(np.sum((new - old) ** 2) for new, old in zip(after, before)))
        for before, after in zip(weights, weights[1:])
    ]
    assert [r["outer_update_norm"] for r in records_of_steps] == pytest.approx(moved, rel=1e-4)
    # A ratio over meta-steps takes two of them; an epoch's is the mean of those that are known.
    ratios = [r["meta_gradient_snr_steps"] for r in records_of_steps]
    assert ratios[0] is None and records_of_steps[0]["meta_gradient_snr"] is not None
    expected = [ratios[1], (ratios[2] + ratios[3]) / 2, ratios[4]]
    assert [r["meta_gradient_snr_steps"] for r in epochs] == pytest.approx(expected)


def test_records_after_the_restored_step_are_dropped(regression_trainer, regression_sets, tmp_path):
    """A run killed at step 5 whose last checkpoint is of step 3."""
    first = regression_trainer()
    first.fit(
        *regression_sets,
        3,
        steps_per_epoch=3,
        callbacks=[MetricsFile(tmp_path), Checkpoints(tmp_path)],
    )
    first.fit(*regression_sets, 5, steps_per_epoch=9, callbacks=[MetricsFile(tmp_path)])
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"kind": "step", "meta_st')  # cut off in a line
    lost = read_metrics(tmp_path)
    assert lost[-1]["meta_step"] == 5
    resumed = regression_trainer(rater_seed=9)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_trainer(resumed)
    assert checkpoints.restore() == 3
    resumed.fit(*regression_sets, 5, steps_per_epoch=9, callbacks=[MetricsFile(tmp_path)])
    records = read_metrics(tmp_path)
    assert [(r["kind"], r["meta_step"]) for r in records] == [
        ("step", 1),
        ("step", 2),
        ("step", 3),
        ("epoch", 3),
        ("step", 4),
        ("step", 5),
        ("epoch", 5),
    ]
    for record in (*records, *lost):  # the same run, so the same figures; this one is of the clock
        assert (0 <= record.pop("data_wait_share", -1) < 1) == (record["kind"] == "epoch")
    assert records == lost
    assert not list(tmp_path.glob("unfinished*"))


def test_figures_without_a_word_in_json_are_null(regression_trainer, regression_sets, tmp_path):
    trainer = regression_trainer(on_nonfinite="reinit", lifetime=None)
    theta = trainer.population.members[1].state.theta[0]
    theta.assign(tf.fill(theta.shape, np.nan))
    trainer.fit(*regression_sets, 1, callbacks=[MetricsFile(tmp_path)])
    line = (tmp_path / "metrics.jsonl").read_text().splitlines()[0]
    record = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} in the file"))
    assert record["members"]["outer_loss"][1] is None
    assert record["members"]["outer_loss"][0] == pytest.approx(record["outer_loss"])


def test_a_run_without_metrics_has_no_records(tmp_path):
    assert read_metrics(tmp_path) == []


class TwoSets(TrainerCallback):
    """What a trainer with two held-out sets and members of two rates leaves behind."""

    def on_train_batch_end(self, batch, logs=None):
        record = self.trainer.last_record
        loss = record.members["outer_loss"]
        steps = np.array([np.nan, 0.5]) if record.meta_step == 1 else np.array([0.25, 0.5])
        record.members |= {
            "outer_loss/books": loss + 1,
            "outer_loss/web": loss - 1,
            "learning_rate": np.array([0.1, 0.2]),
            "meta_gradient_snr_steps": steps,
        }
        logs |= {
            "outer_loss/books": logs["outer_loss"] + 1,
            "outer_loss/web": logs["outer_loss"] - 1,
            "meta_gradient_snr": np.nan if record.meta_step == 1 else -0.25,
            "outer_update_norm": 0.125,
        }


# ------------------------------------------------------------------------------- health of scores


def test_epochs_say_how_the_scores_that_weighed_them_spread(
    regression_trainer, regression_sets, labelled_set, tmp_path
):
    batches = []

    class Keep(TrainerCallback):
        def on_train_batch_end(self, batch, logs=None):
            record = self.trainer.last_record
            batches.append((record.scores.reshape(-1, 8), record.rows.reshape(-1, 8)))

    @counted_by(lambda batch: batch["x"][:, 0])
    def loss(outputs, batch):
        return squared_error(outputs, batch)

    trainer = regression_trainer(per_example_loss=loss)
    trainer.fit(
        labelled_set,
        regression_sets[1],
        5,
        steps_per_epoch=3,
        callbacks=[Keep(), ScoreHealth(meta_steps=2, most_sources=1), MetricsFile(tmp_path)],
    )
    lengths = labelled_set.features["x"][:, 0]
    epochs = read_metrics(tmp_path, "epoch")
    for record, steps in zip(epochs, (slice(1, 3), slice(3, 5)), strict=True):  # two of each
        scores, rows = (np.concatenate(part) for part in zip(*batches[steps]))
        expected = score_health.figures(scores, lengths[rows], labelled_set.sources[rows], ["web"])
        assert len(expected) == 7
        assert {name: record[name] for name in expected} == pytest.approx(expected)
        assert "score_mean/books" not in record  # of two sources the larger is shown
    # Nothing has a length here unless the loss counts.
    assert score_health.lengths(labelled_set, np.arange(3)) is None


def test_scores_that_say_nothing_are_warned_of_at_the_end(
    regression_trainer, regression_sets, capsys
):
    trainer = regression_trainer()
    for weights in trainer.rater.trainable_variables:
        weights.assign(weights * 0)
    callbacks = [ScoreHealth(), ShowProgress()]
    trainer.fit(*regression_sets, 1, callbacks=callbacks)
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("warning: scores hardly differ (standard deviation 0 within")
    trainer.rater.trainable_variables[0].assign_add(trainer.rater.trainable_variables[0] + 3)
    trainer.rater.trainable_variables[2].assign_add(trainer.rater.trainable_variables[2] + 3)
    trainer.fit(*regression_sets, 2, callbacks=callbacks)
    assert "warning" not in capsys.readouterr().err


# ---------------------------------------------------------------------------------- TensorBoard


@pytest.fixture
def labelled_set(example_set):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3)).astype(np.float32)
    return example_set(
        {"x": x, "target": x[:, :1]},
        "train",
        sources=["web"] * 12 + ["books"] * 8,
        render=lambda row: f"x is {row['x'][0]:.2f} | with a bar",
    )


def test_event_files_hold_what_people_look_for(
    regression_trainer, regression_sets, labelled_set, tmp_path
):
    trainer = regression_trainer()
    summaries = Summaries(tmp_path, labelled_set, sample_size=20, extremes=3)
    summaries.write_text("operative_config", "a binding")
    steps = []
    trainer.fit(
        labelled_set,
        regression_sets[1],
        4,
        steps_per_epoch=2,
        callbacks=[
            TwoSets(),
            summaries,
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: steps.append(logs)
            ),
        ],
        validate=lambda: {"validation_loss": 1.5},
    )
    events = EventAccumulator(str(tmp_path / "summaries" / "meta_train"), {"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    means = (
        "outer_loss",
        "meta_gradient_norm",
        "inner_loss_before",
        "inner_loss_after",
        "weight_entropy",
        "effective_sample_size",
        "outer_loss/web",
        "meta_gradient_snr",
        "outer_update_norm",
    )
    expected = {f"mean/{name}" for name in means}
    for member in (0, 1):
        expected |= {
            f"outer_loss/member_{member}",
            f"outer_loss/books/member_{member}",
            f"learning_rate/member_{member}",
            f"meta_gradient_snr_steps/member_{member}",
            f"meta_gradient_norm/member_{member}",
            f"age/member_{member}",
        }
    expected |= {
        "scores/all",
        "scores/web",
        "scores/books",
        "meta_steps_per_second",
        "epoch/validation_loss",
        "lowest_rated",
        "highest_rated",
        "operative_config",
    }
    assert expected <= tags

    def series(tag):
        return [(e.step, tf.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]

    np.testing.assert_allclose(
        [value for _, value in series("mean/outer_loss")],
        [values["outer_loss"] for values in steps],
        rtol=1e-6,
    )
    # A ratio that is not known yet is no point.
    assert [step for step, _ in series("mean/meta_gradient_snr")] == [2, 3, 4]
    assert [step for step, _ in series("meta_gradient_snr_steps/member_0")] == [2, 3, 4]
    assert [step for step, _ in series("meta_gradient_snr_steps/member_1")] == [1, 2, 3, 4]
    assert [step for step, _ in series("age/member_1")] == [1, 2, 3, 4]
    assert [float(value) for _, value in series("age/member_1")] == [2, 4, 2, 4]
    assert [step for step, _ in series("scores/web")] == [2, 4]
    assert series("meta_steps_per_second")[0][1] > 0
    # A histogram's rows are (left, right, count): each example is in one bin.
    assert series("scores/web")[1][1][:, 2].sum() == 12
    assert series("scores/books")[1][1][:, 2].sum() == 8
    table = series("lowest_rated")[1][1].item().decode()
    scores = Scorer(trainer.rater)(labelled_set)
    assert f"train-{scores.argmin()} |" in table.splitlines()[2]
    assert len(table.splitlines()) == 2 + 3


def test_scalars_can_be_thinned_out(regression_trainer, regression_sets, tmp_path):
    regression_trainer().fit(
        *regression_sets, 6, callbacks=[Summaries(tmp_path, None, scalar_interval=3)]
    )
    events = EventAccumulator(str(tmp_path / "summaries" / "meta_train"), {"tensors": 0})
    events.Reload()
    assert [e.step for e in events.Tensors("mean/outer_loss")] == [3, 6]
    assert "scores/all" not in events.Tags()["tensors"]


def test_the_table_of_extremes_survives_any_text(labelled_set):
    scores = np.arange(20.0)
    lines = extremes_table(labelled_set, scores, [19, 0]).splitlines()
    assert lines[2].startswith("| 19.000 | books | train-19 | x is ")
    assert lines[3].startswith("| 0.000 | web | train-0 | x is ")
    assert "\\| with a bar" in lines[2]  # a bare one would begin a column


# ------------------------------------------------------------------------------ scores, progress


@pytest.mark.parametrize("batch_size", [3, 7, 20, 64])
def test_scoring_a_set_equals_calling_the_rater(batch_size, regression_trainer, labelled_set):
    rater = regression_trainer().rater
    scorer = Scorer(rater, batch_size, jit_compile=False)
    expected = rater(dict(labelled_set.features)).numpy()[:, 0]
    np.testing.assert_allclose(scorer(labelled_set), expected, rtol=1e-5, atol=1e-6)
    assert scorer(labelled_set.take([])).shape == (0,)
    for variable in rater.trainable_variables:  # the weights of the moment are used
        variable.assign(variable * 0)
    assert not scorer(labelled_set).any()


def test_progress_shows_the_figures_that_matter(regression_trainer, regression_sets, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(
        "dr_keras.meta.callbacks.Progress",
        lambda *arguments: Progress(*arguments, stream=stream, interval=0),
    )
    trainer = regression_trainer()
    trainer.fit(*regression_sets, 2)
    trainer.fit(*regression_sets, 3, callbacks=[ShowProgress()])
    trainer.fit(*regression_sets, 4, callbacks=[TwoSets(), ShowProgress()])
    lines = stream.getvalue().splitlines()
    assert "2/3 meta-steps" in lines[0] and "compiling" in lines[0]
    assert "3/3 meta-steps" in lines[1] and "outer loss" in lines[1] and "ESS" in lines[1]
    assert "worst" not in lines[1]
    loss = trainer.last_record.members["outer_loss"].mean()
    assert f"outer loss {loss:.3f} (worst: books {loss + 1:.3f})  ESS" in lines[-1]
    assert lines[-1].startswith("meta-training 4/4 meta-steps in ")


def test_progress_shows_the_last_meta_evaluation_beside_chance(
    regression_trainer, regression_sets, monkeypatch
):
    notes = []
    monkeypatch.setattr(Progress, "update", lambda self, done, note="": notes.append(note))
    regression_trainer().fit(
        *regression_sets,
        4,
        steps_per_epoch=2,
        callbacks=[ShowProgress()],
        validate=lambda: {"validation_loss": 1.5, "random_validation_loss": 1.75},
    )
    assert len(notes) == 5  # one for compiling
    assert [("validation 1.500 (random choice 1.750)" in note) for note in notes[1:]] == [
        False,
        False,
        True,
        True,
    ]
