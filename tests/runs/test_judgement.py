"""A judgement finds what is there and nothing where there is nothing; it resumes; it says so."""

import dataclasses
import hashlib
import json
import types

import keras
import numpy as np
import pytest

from dr_keras.commands import meta_train
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.errors import CheckpointError, ConfigurationError, NonFiniteError
from dr_keras.meta.checkpoints import rater_path
from dr_keras.models.losses import squared_error
from dr_keras.runs import meta_training
from dr_keras.runs.experiment import Experiment
from dr_keras.runs.judgement import judge, read_judgement
from dr_keras.runs.verdict import JudgedRater, Judgement, sentence
from dr_keras.training.meta_evaluation import MetaEvaluation
import gin

LYING, FREE, OPPOSITE = -1.0, 0.0, 1.0  # weight of `lies` in the score


def examples(name: str, count: int, lying: float, seed: int) -> ExampleSet:
    """y = 2 x0 - x1, with the other sign where it lies; `noise` says nothing of that."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 2)).astype(np.float32)
    lies = (rng.random(count) < lying).astype(np.float32)
    target = (x @ np.array([2.0, -1.0], np.float32)) * (1 - 2 * lies)
    known = np.stack([lies, rng.normal(size=count)], axis=1).astype(np.float32)
    ids = np.array([f"{name}-{row}" for row in range(count)], object)
    return ExampleSet({"x": x, "target": target, "known": known}, ids, ids, ids, name=name)


def inner_model() -> keras.Model:
    x = keras.Input((2,), name="x")
    return keras.Model({"x": x}, keras.layers.Dense(1)(x))


@pytest.fixture(autouse=True)
def short():
    gin.clear_config()
    gin.parse_config(
        """
        MetaEvaluation.optimizer = @sgd()
        sgd.learning_rate = 0.1
        MetaEvaluation.updates = 8
        MetaEvaluation.batch_size = 8
        MetaEvaluation.jit_compile = False
        """
    )
    yield
    gin.clear_config()


@pytest.fixture(scope="module")
def parts() -> Parts:
    return Parts(
        examples("train", 300, 0.45, 0), examples("outer", 60, 0.0, 1),
        examples("validation", 60, 0.0, 2), examples("test", 60, 0.0, 3),
    )  # fmt: skip


@pytest.fixture
def setup(parts) -> Experiment:
    known = keras.Input((2,), name="known")
    score = keras.layers.Dense(1, use_bias=False)(known)
    rater = keras.Model({"known": known}, score)
    return Experiment(parts, rater, inner_model, squared_error, lambda: None, 0)


def keep(setup: Experiment, run, step: int, weight: float, noise: float = 0.0):
    """A run's rater that scores by so much of `lies` and of `noise`."""
    before = setup.rater.get_weights()
    setup.rater.set_weights([np.array([[weight], [noise]], np.float32)])
    path = rater_path(run, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    setup.rater.save_weights(path, overwrite=True)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"rater-{step}.sha256").write_text(checksum + "\n")
    setup.rater.set_weights(before)
    return (run, step)


def test_a_known_signal_helps_its_opposite_is_worse_and_noise_is_neither(setup, tmp_path):
    raters = {
        "oracle": keep(setup, tmp_path / "a", 3, LYING),
        "noise": keep(setup, tmp_path / "b", 5, FREE, noise=1.0),
        "liar": keep(setup, tmp_path, 7, OPPOSITE),
    }
    before = setup.rater.get_weights()
    found = judge(setup, raters, tmp_path, {"oracle": 2e9})
    assert [rater.outcome for rater in found.raters] == ["better", "undecided", "worse"]
    assert found.helps and found.chosen == "oracle"
    assert [rater.run for rater in found.raters] == ["a", "b", "."]
    np.testing.assert_array_equal(setup.rater.get_weights()[0], before[0])
    oracle, noise, liar = found.raters
    differences = np.subtract(found.random, oracle.losses)
    assert len(differences) == 5 and oracle.gain == pytest.approx(differences.mean())
    assert oracle.standard_error > differences.std(ddof=1) / np.sqrt(5)
    behind = np.subtract(liar.losses, oracle.losses).mean()
    assert liar.behind == pytest.approx(behind) and oracle.behind is None
    assert found.updates == 32 and found.flops > 0 and found.unit == ""
    assert "Filter: trained on what the oracle rater of meta-step 3 keeps" in found.text
    assert "2e+09 FLOPs (oracle)" in found.text
    assert read_judgement(tmp_path) == found
    assert not (tmp_path / "judgement-partial.jsonl").exists()


def test_the_same_score_for_all_is_the_random_choice(setup, tmp_path):
    found = judge(setup, {"rater": keep(setup, tmp_path, 2, FREE)}, tmp_path)
    (rater,) = found.raters
    assert rater.gain == 0 and rater.outcome == "undecided" and not found.helps
    assert found.chosen is None and found.text.startswith("Do not filter: ")
    assert "name a target" not in found.text  # that is about text


def test_it_judges_as_meta_evaluation_does(setup, tmp_path):
    setup.rater.set_weights([np.array([[LYING], [0]], np.float32)])
    evaluation = setup.meta_evaluation()
    found = judge(
        setup, {"rater": keep(setup, tmp_path, 2, LYING)}, repeats=1, updates=8,
        validation_size=256, seed=0,
    )  # fmt: skip
    assert found.raters[0].losses == evaluation.losses()
    assert found.random == evaluation.losses(use_scores=False)
    assert not found.helps and "raise judge.repeats" in found.text  # one pair says nothing


def test_a_judgement_that_was_stopped_goes_on(setup, tmp_path, monkeypatch):
    raters = {"rater": keep(setup, tmp_path, 2, LYING)}
    whole = judge(setup, raters, repeats=3)
    original, made = MetaEvaluation.row_losses, []

    def stopping(self, repeat, use_scores=True, progress=None):
        made.append((repeat, use_scores))
        if "again" not in made and len(made) == 3:
            raise KeyboardInterrupt
        return original(self, repeat, use_scores, progress)

    monkeypatch.setattr(MetaEvaluation, "row_losses", stopping)
    with pytest.raises(KeyboardInterrupt):
        judge(setup, raters, tmp_path, repeats=3)
    with open(tmp_path / "judgement-partial.jsonl", "a") as file:
        file.write('{"key": "half a li')
    made.append("again")
    found = judge(setup, raters, tmp_path, repeats=3)
    assert made[4:] == [(1, False), (1, True), (2, False), (2, True)]
    assert dataclasses.replace(found, seconds=0, key="") == dataclasses.replace(
        whole, seconds=0, key="", raters=found.raters
    )
    assert found.raters[0].losses == whole.raters[0].losses
    made[:] = ["again"]
    assert judge(setup, raters, tmp_path, repeats=3) == found and made == ["again"]
    raters = {"rater": keep(setup, tmp_path, 2, LYING, noise=0.5)}  # another rater
    assert judge(setup, raters, tmp_path, repeats=3) != found and len(made) == 7


def test_a_rater_whose_training_blows_up_is_worse(setup, tmp_path, monkeypatch):
    original = MetaEvaluation.row_losses

    def blown_up(self, repeat, use_scores=True, progress=None):
        sums, counts = original(self, repeat, use_scores, progress)
        return (sums * np.nan if use_scores and repeat == 1 else sums), counts

    monkeypatch.setattr(MetaEvaluation, "row_losses", blown_up)
    found = judge(setup, {"rater": keep(setup, tmp_path, 2, LYING)}, tmp_path, repeats=2)
    (rater,) = found.raters
    assert rater.outcome == "worse" and rater.gain is None and rater.losses[1] is None
    assert "not finite" in found.text and read_judgement(tmp_path) == found
    monkeypatch.setattr(
        MetaEvaluation, "row_losses",
        lambda self, *_: (np.full(60, np.nan), np.ones(60)),
    )  # fmt: skip
    with pytest.raises(NonFiniteError, match="on a random choice"):
        judge(setup, {"rater": (tmp_path, 2)}, repeats=2)


def test_what_cannot_be_judged(setup, tmp_path):
    with pytest.raises(ConfigurationError, match="no rater to judge"):
        judge(setup, {})
    with pytest.raises(CheckpointError, match="no rater of meta-step 4"):
        judge(setup, {"rater": (tmp_path, 4)})
    with pytest.raises(ConfigurationError, match="judge.repeats is 0"):
        judge(setup, {"rater": keep(setup, tmp_path, 2, LYING)}, repeats=0)
    (tmp_path / "judgement.json").write_text('{"raters": [')
    with pytest.raises(CheckpointError, match="remove it"):
        read_judgement(tmp_path)


def judged(gain, error, outcome, name="rater", step=50, **more) -> JudgedRater:
    losses = [2.5, 2.5]
    return JudgedRater(
        name=name, run=".", step=step, losses=losses, gain=gain, standard_error=error,
        threshold=2.9, outcome=outcome, **more,
    )  # fmt: skip


def said(*raters, chosen=None, **more) -> str:
    given = dict(updates=200, batch_size=8, discard_fraction=0.5, unit="nats per token")
    given |= dict(validation_examples=1024, validation_documents=300)
    return sentence(
        Judgement(
            random=[2.5, 2.5], raters=list(raters), chosen=chosen, helps=chosen is not None,
            text="", **(given | more),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    "text, parts",
    [
        (
            said(judged(0.06, 0.005, "better"), chosen="rater", target="abstracts"),
            ["Filter: ", "lower loss on abstracts", "by 0.0600 ± 0.0050", "nats per token", "50%"],
        ),
        (
            said(judged(-0.001, 0.002, "undecided")),
            ["Do not filter: ", "within what chance gives: -0.0010 ± 0.0020", "name a target"],
        ),
        (
            said(judged(-0.05, 0.002, "worse"), target="abstracts"),
            ["did worse on abstracts", "beyond chance: by 0.0500 ± 0.0020", "Larger batches"],
        ),
        (
            said(
                judged(0.06, 0.005, "better", "fitted", 0, made_flops=1e12),
                judged(0.05, 0.005, "better", "scratch", 90, behind=0.01, behind_error=0.004),
                chosen="fitted",
            ),
            ["the fitted rater of meta-step 0", "the scratch rater of meta-step 90 0.0500 ± 0.0050"
             " (better), 0.0100 ± 0.0040 behind it", "1e+12 FLOPs (fitted)"],
        ),
    ],
)  # fmt: skip
def test_a_judgement_in_words(text, parts):
    assert [part for part in parts if part not in text] == []


def run_with(tmp_path, setup, losses: dict[int, float]):
    lines = [
        {"kind": "epoch", "meta_step": step, "validation_loss": loss, "random_validation_loss": 2.0}
        for step, loss in losses.items()
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for step in losses:
        keep(setup, tmp_path, step, LYING if step != 2 else FREE)


def test_the_checkpoint_that_is_taken_is_the_one_judged_best(setup, tmp_path):
    """A fitted rater (meta-step 0) that meta-training did not improve, whatever the short ones."""
    run_with(tmp_path, setup, {0: 1.9, 2: 1.5, 4: 1.8})
    raters = meta_training.best_raters(tmp_path)
    assert raters == {"fitted": (tmp_path, 0), "refined": (tmp_path, 2)}
    assert meta_training.choose_step(tmp_path)[0] == 2
    assert judge(setup, raters, tmp_path).chosen == "fitted"
    step, reason = meta_training.choose_step(tmp_path)
    assert step == 0 and "longer pairs of trainings it gains" in reason
    run_with(tmp_path, setup, {0: 1.9, 2: 1.5, 4: 1.2})  # meta-training went on
    assert meta_training.judgement_of(tmp_path) is None
    assert meta_training.choose_step(tmp_path)[0] == 4


def test_a_rater_that_was_judged_no_better_is_said_to_be(setup, tmp_path, monkeypatch, capsys):
    run_with(tmp_path, setup, {2: 1.5, 4: 1.8})
    raters = meta_training.best_raters(tmp_path)
    assert raters == {"rater": (tmp_path, 2)}
    judge(setup, raters, tmp_path)
    step, reason = meta_training.choose_step(tmp_path)
    assert step == 2 and reason.startswith("lowest validation loss of 2 meta-evaluations (1.5")
    assert "NO better than a random choice" in reason and "do not filter" in reason
    done = types.SimpleNamespace(meta_step=keras.ops.convert_to_tensor(4))
    monkeypatch.setattr(meta_training, "meta_train", lambda base_dir: done)
    monkeypatch.setattr(meta_train.common, "parse_gin", lambda arguments: None)
    assert meta_train.main(["--base_dir", str(tmp_path), "--gin_file", "any.gin"]) == 0
    assert "\nDo not filter: trained on what the rater of meta-step 2" in capsys.readouterr().out
