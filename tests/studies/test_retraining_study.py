"""The retraining study on tiny images, from the command line to the page."""

import json
from pathlib import Path
import shutil

import numpy as np
import pytest
import tensorflow as tf

import dr_keras
from dr_keras.commands.meta_train import main as meta_train_command
from dr_keras.commands.retraining_study import main
from dr_keras.errors import CheckpointError
from dr_keras.studies.rater import read_scores
from dr_keras.studies.results import Results
from dr_keras.studies.retraining import arm_name

MNIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist.npz"


def bars(count, rng):
    """Images of 8 x 8 with one bright column; its half is the label."""
    place = rng.integers(0, 8, count)
    images = rng.integers(0, 40, (count, 8, 8), np.uint8)
    images[np.arange(count), :, place] = 250
    return images, (place >= 4).astype(np.uint8)


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    rng = np.random.default_rng(0)
    (x_train, y_train), (x_test, y_test) = bars(800, rng), bars(120, rng)
    path = tmp_path_factory.mktemp("images") / "bars.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def arguments(base_dir, npz, **bindings):
    settings = {
        "IMAGES": str(npz),
        "IMAGE_SHAPE": (8, 8, 1),
        "CLASSES": 2,
        "META_STEPS": 6,
        "meta_train.steps_per_epoch": 3,
        "MetaTrainer.population_size": 2,
        "MetaTrainer.inner_batch_size": 16,
        "MetaTrainer.outer_batch_size": 16,
        "MetaTrainer.jit_compile": False,
        "MetaEvaluation.jit_compile": False,
        "MetaEvaluation.updates": 2,
        "MetaEvaluation.batch_size": 8,
        "image_classifier.channels": (4,),
        "image_rater.channels": (4,),
        "ExampleTrainer.jit_compile": False,
        "ExampleTrainer.steps": 20,
        "ExampleTrainer.batch_size": 16,
        "ExampleTrainer.evaluate_every": 10,
        "ExampleTrainer.evaluation_batch_size": 60,
        "retraining_study.seeds": (0, 1),
        "retraining_study.discard_fractions": (0.25, 0.5),
        "ScoreAgainstCorruption.extremes": 4,
        "image_pictures.extremes": 4,
        "label_noise.probability": 0.2,
        "Workers.count": 0,
        **bindings,
    }
    given = ["--base_dir", str(base_dir), "--gin_file", "experiments/mnist_corruption.gin"]
    given += ["--gin_param", "CORRUPTIONS = [@pixel_noise(), @label_noise()]"]
    for name, value in settings.items():
        given += ["--gin_param", f"{name} = {value!r}"]
    return given


@pytest.fixture(scope="module")
def study(npz, tmp_path_factory):
    base_dir = tmp_path_factory.mktemp("study") / "run"
    assert main(arguments(base_dir, npz)) == 0
    return base_dir


def test_results_say_what_each_arm_left_out(study, npz):
    found = Results.load(study / "results.json")
    (size,) = found.sizes
    arms = size.arms
    assert list(arms) == ["unfiltered", "rater 25%", "random 25%", "rater 50%", "random 50%"]
    assert found.protocol.candidate == "rater 50%" and found.protocol.seeds == [0, 1]
    total = arms["unfiltered"].budget.pool_examples
    ids, scores = read_scores(study)
    assert len(scores) == total == len(set(ids))
    for share in (25, 50):
        dropped = arms[f"rater {share}%"].dropped
        assert dropped.examples == share * total // 100
        assert dropped.examples == total - arms[f"rater {share}%"].budget.pool_examples
        assert 0 <= dropped.mislabelled <= dropped.examples
        other = arms[f"random {share}%"].budget
        assert other.pool_examples == arms[f"rater {share}%"].budget.pool_examples
    for name, arm in arms.items():
        accuracy = arm.metrics["accuracy"]
        assert accuracy.mean == pytest.approx(np.mean(list(accuracy.by_seed.values())))
        assert accuracy.spread == pytest.approx(np.std(list(accuracy.by_seed.values()), ddof=1))
        assert accuracy.higher_is_better and set(accuracy.against) == set(arms) - {name}
    line = found.rater.line
    assert line.measured_on == "120 test images at 10 levels" and -1 <= line.pearson <= 1
    assert found.rater.quality.by_damage.keys() == {
        "label_noise", "pixel_noise", "pixel_noise+label_noise"
    }  # fmt: skip
    assert found.corpus.name == "bars"
    assert [picture.file for picture in found.pictures] == [
        "plots/score_against_corruption.png", "plots/extremes.png"
    ]  # fmt: skip


def test_accuracy_is_that_of_the_trained_model(study):
    record = json.loads((study / "cells" / "model" / "unfiltered-0-0.json").read_text())["record"]
    assert record["tokens_seen"] == 20 * 16 and [step for step, _ in record["curve"]] == [0, 10, 20]
    assert record["metrics"]["accuracy"] * 120 == pytest.approx(
        round(record["metrics"]["accuracy"] * 120)
    )


def test_pictures_during_training_and_at_the_end(study):
    names = {path.name for path in (study / "plots").iterdir()}
    expected = {
        f"{name}{when}.png"
        for name in ("score_against_corruption", "extremes")
        for when in ("-3", "-6", "")
    }
    assert names == expected
    for name in names:
        image = tf.io.decode_png((study / "plots" / name).read_bytes()).numpy()
        assert min(image.shape[:2]) > 200 and image.std() > 5
    epochs = [json.loads(line) for line in open(study / "metrics.jsonl")]
    epochs = [record for record in epochs if record["kind"] == "epoch"]
    assert [sorted(key for key in e if key.startswith("corruption")) for e in epochs] == [
        ["corruption_pearson", "corruption_slope", "corruption_spearman"]
    ] * 2
    assert all(0 <= epoch["damage_auc"] <= 1 for epoch in epochs)
    tags = set()
    for path in (study / "summaries" / "images").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    assert {"score_against_corruption", "extremes", "corruption/pearson"} <= tags


def test_the_page(study):
    page = (study / "report.html").read_text(encoding="utf-8")
    for text in (
        "Does the score follow the corruption?", "mislabelled among dropped", "rater 50%",
        "data:image/png;base64,", "What it rates lowest and highest", "What it cost",
    ):  # fmt: skip
        assert text in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_rater_is_exported_for_images(study):
    rater = dr_keras.load_rater(study / "export")
    ids, scores = read_scores(study)
    assert rater.metadata["kind"] == "images"
    images, _ = bars(5, np.random.default_rng(1))
    found = rater({"image": images[..., None]})
    assert found["score"].shape == (5,) and np.isfinite(found["score"]).all()
    assert abs(rater.reference.quantiles[500] - np.median(scores)) < 0.1 * np.ptp(scores) + 1e-6


def test_a_second_call_reuses_everything_and_draws_again(study, npz, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(study, copy)
    (copy / "report.html").unlink()
    before = (copy / "cells" / "model" / "unfiltered-0-0.json").stat().st_mtime_ns
    assert main(arguments(copy, npz)) == 0
    printed = capsys.readouterr().out
    assert printed.count("done before") == 5 and "report:" in printed
    assert (copy / "report.html").exists()
    assert (copy / "cells" / "model" / "unfiltered-0-0.json").stat().st_mtime_ns == before
    (copy / "scores.npz").write_bytes(b"not scores")
    assert main(arguments(copy, npz)) == 2
    assert "scores.npz cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "bindings, message",
    [
        ({"retraining_study.candidate": 0.3}, "candidate is 0.3: it must be one of discard_frac"),
        ({"retraining_study.seeds": ()}, "seeds is empty"),
        ({"retraining_study.discard_fractions": (0.0, 0.5)}, "discard_fractions holds 0"),
        ({"IMAGES": "gone.npz"}, "error: there is no file gone.npz"),
        ({"CORRUPTIONS": []}, "DamageFound needs clean and damaged train examples of known level"),
        ({"CLASSES": 1}, "labels are not in 0 to 0, first 1 of 'train-"),
    ],
)
def test_settings_that_cannot_work(bindings, message, npz, tmp_path, capsys):
    assert main(arguments(tmp_path / "run", npz, **bindings)) == 2
    assert message in capsys.readouterr().err


def test_a_model_for_other_images_is_refused_before_training(npz, tmp_path, capsys):
    given = arguments(tmp_path / "run", npz, IMAGE_SHAPE=(10, 8, 1))
    assert meta_train_command(given) == 2
    error = capsys.readouterr().err
    assert "does not take the examples of 'train' (image: uint8 (8, 8, 1), values 0 to 255" in error


def test_names_of_the_arms():
    assert arm_name("rater", 0.1) == "rater 10%" and arm_name("random", 0.125) == "random 12.5%"
    assert arm_name("unfiltered", 0.0) == "unfiltered"


@pytest.mark.skipif(not MNIST.exists(), reason=f"MNIST is not at {MNIST}")
def test_a_short_run_on_mnist_ranks_corruption(tmp_path):
    given = ["--base_dir", str(tmp_path), "--gin_file", "experiments/mnist_corruption.gin"]
    settings = {
        "IMAGES": str(MNIST), "image_data.max_images": 8000, "META_STEPS": 50,
        "MetaTrainer.population_size": 2, "meta_train.evaluate": False,
        "ScoreAgainstCorruption.size": 500, "ScoreAgainstCorruption.sample_size": 64,
    }  # fmt: skip
    for name, value in settings.items():
        given += ["--gin_param", f"{name} = {value!r}"]
    assert meta_train_command(given) == 0
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["kind"] == "epoch" and last["corruption_pearson"] < -0.9


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.9])
def test_scores_that_were_cut_short_are_refused(kept, tmp_path):
    path = tmp_path / "scores.npz"
    np.savez(path, ids=np.array(["a", "b"]), scores=np.array([1.0, 2.0]))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    with pytest.raises(CheckpointError, match="scores.npz cannot be read"):
        read_scores(tmp_path)
