"""The whole path on a corpus small enough for a test: stages, reuse, resume, errors."""

import contextlib
import io
import json
import re
import shutil

import numpy as np
import pytest

from dr_keras.baselines.selection import select_by_score
from dr_keras.commands import meta_evaluate
from dr_keras.commands import quickstart as command
from dr_keras.errors import CheckpointError
from dr_keras.meta.callbacks import read_metrics
from dr_keras.meta.checkpoints import rater_path, rater_steps
from dr_keras.runs import meta_training
from dr_keras.serving.loading import load_rater
from dr_keras.studies.results import Results
from dr_keras.training.paired_gain import PairedGain
import gin

WORDS = [
    "the",
    "a",
    "model",
    "learns",
    "text",
    "from",
    "data",
    "that",
    "people",
    "wrote",
    "with",
    "care",
    "and",
    "some",
    "luck",
]
SMALL = """
    SEQUENCE_LENGTH = 32 | META_STEPS = 4 | meta_train.steps_per_epoch = 2
    language_model.width = 8 | language_model.layer_count = 1 | language_model.heads = 1
    text_rater.width = 8 | text_rater.layer_count = 1 | text_rater.heads = 1
    MetaTrainer.inner_batch_size = 4 | MetaTrainer.outer_batch_size = 4
    MetaTrainer.jit_compile = False | MetaEvaluation.jit_compile = False
    MetaEvaluation.updates = 2 | MetaEvaluation.batch_size = 4
    LanguageModelTrainer.steps = 4 | LanguageModelTrainer.evaluate_every = 2
    judge.repeats = 1 | judge.updates = 2 | judge.batch_size = 4
    LanguageModelTrainer.batch_size = 4 | LanguageModelTrainer.jit_compile = False
    compare_filtered.seeds = (0, 1) | Workers.count = 0
    Baselines.more_arms = {'longest': @longest} | compare_filtered.more_arms = ('longest',)
"""


with gin.unlock_config():

    @gin.configurable
    def longest(study, discard_fraction, seed):
        """An arm of the user's own."""
        tokens = study.candidates.tokens
        return select_by_score("longest", study.candidates, tokens, discard_fraction)


def params(*more):
    lines = [part.strip() for line in SMALL.splitlines() for part in line.split("|")]
    return [f"--gin_param={line}" for line in [*lines, *more] if line]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder with `my.jsonl`, and `good.jsonl`, of which ten documents are of pages there."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)

    def write(name, count, pages):
        with open(folder / name, "w", encoding="utf-8") as file:
            for number in range(count):
                text = " ".join(rng.choice(WORDS, rng.integers(5, 40)))
                source = ("web", "books")[number % 2]
                record = {"id": f"d{number}", "text": text, "source": source, "page": pages(number)}
                file.write(json.dumps(record) + "\n")

    write("my.jsonl", 300, lambda number: number)
    write("good.jsonl", 150, lambda number: number if number < 10 else f"good {number}")
    return folder


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    base_dir = tmp_path_factory.mktemp("run") / "mine"
    arguments = ["--input", str(corpus / "my.jsonl"), "--target", str(corpus / "good.jsonl")]
    arguments += ["--group_field", "page", "--base_dir", str(base_dir), *params()]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert command.main(arguments) == 0  # one pair of trainings never tells that a rater helps
    for name in ("results.json", "report.html"):
        shutil.copy(base_dir / name, base_dir.parent / name)
    (base_dir.parent / "output").write_text(output.getvalue(), encoding="utf-8")
    assert not (base_dir / "export").exists() and not (base_dir / "filtered").exists()
    arguments.append("--anyway")
    assert command.main(arguments) == 0
    return base_dir, arguments


def test_a_run_whose_raters_are_no_better_than_chance_stops(finished):
    base_dir, _ = finished
    stopped = Results.load(base_dir.parent / "results.json")
    assert stopped.answer.outcome == "do_not_filter" and not stopped.sizes
    assert stopped.rater is None and list(stopped.stages) == ["corpus", "meta_train"]
    assert stopped.answer.text.startswith("Do not filter: ")
    page = (base_dir.parent / "report.html").read_text(encoding="utf-8")
    assert "Do not filter" in page and "Is the rater better than chance?" in page
    assert "Curves of meta-training" in page and "Arms and metrics" not in page
    went_on = Results.load(base_dir / "results.json").answer.text
    assert went_on.startswith(f"{stopped.answer.text} The arms were trained all the same. ")
    output = (base_dir.parent / "output").read_text(encoding="utf-8")
    assert "--anyway" in output and "Do not filter: " in output and "rater:   " not in output


def test_a_run_leaves_results_report_rater_and_filtered_corpus(finished):
    base_dir, _ = finished
    results = Results.load(base_dir / "results.json")
    (size,) = results.sizes
    arms = size.arms
    assert set(arms) == {"unfiltered", "random", "rater", "longest"}
    longest, rater = (arms[arm].budget.pool_tokens for arm in ("longest", "rater"))
    assert longest > rater
    assert arms["random"].budget.pool_tokens < 0.7 * arms["unfiltered"].budget.pool_tokens
    kept = sum(1 for p in base_dir.glob("filtered/kept-*.jsonl") for _ in open(p))
    dropped = sum(1 for p in base_dir.glob("filtered/dropped-*.jsonl") for _ in open(p))
    documents = results.corpus.parts["train"].documents
    assert kept + dropped == documents
    assert 0.35 * documents < kept < 0.65 * documents
    assert results.answer.outcome == "too_small"
    text = results.answer.text
    assert "fresh models did " in text and " on good " in text  # judged before the arms
    assert " By the loss on good, this corpus is too small for a verdict" in text
    assert results.corpus.target == "good" and "Final loss on good" in results.answer.figures
    assert re.search(r"\d+ of \d+ .* the target good has them", results.corpus.remarks[-1])
    assert set(arms["rater"].metrics) == {"loss on my, its own test part"}
    assert results.rater.quality.reason == "no damage of known level in this corpus"
    assert list(results.stages) == ["corpus", "meta_train", "export", "filter", "compare"]
    page = (base_dir / "report.html").read_text(encoding="utf-8")
    assert (
        "too small for a verdict" in page
        and results.corpus.remarks[-1] in page
        and 'src="http' not in page
    )
    rater = load_rater(base_dir / "export")
    assert rater(["the model learns"])["score"].shape == (1,)
    assert rater.metadata["training"]["meta_step"] in (2, 4)


def test_a_second_run_reuses_everything(finished, capsys):
    base_dir, arguments = finished
    before = {p: p.stat().st_mtime_ns for p in (base_dir / "cells" / "model").iterdir()}
    assert command.main(arguments[:-1]) == 0  # what went on once needs no --anyway
    output = capsys.readouterr().out
    assert output.count("done before") == 5
    assert {p: p.stat().st_mtime_ns for p in (base_dir / "cells" / "model").iterdir()} == before


def test_an_interrupted_comparison_goes_on_at_the_cell(finished, capsys):
    base_dir, arguments = finished
    kept = base_dir / "cells" / "model" / "rater-50-0.json"
    before = kept.stat().st_mtime_ns
    (base_dir / "stages" / "compare.json").unlink()
    lost = base_dir / "cells" / "model" / "rater-50-1.json"
    old = json.loads(lost.read_text())["record"]["curve"]
    lost.unlink()
    assert command.main(arguments) == 0
    assert kept.stat().st_mtime_ns == before
    assert json.loads(lost.read_text())["record"]["curve"] == old
    assert "model rater 50%, seed 1: 4/4 steps" in capsys.readouterr().err


def test_another_configuration_is_refused(finished, capsys):
    base_dir, arguments = finished
    assert command.main([*arguments, "--gin_param=example_softmax.temperature = 2.0"]) == 2
    error = capsys.readouterr().err
    assert "holds a run with another configuration" in error
    assert "example_softmax.temperature" in error


def test_fresh_removes_runs_only(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert command.main(["--fresh", "--base_dir", str(tmp_path)]) == 2
    assert "holds something else than a run" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()


def test_a_target_needs_a_corpus_to_choose_from(capsys):
    assert command.main(["--target", "good.jsonl"]) == 2
    assert "name the corpus to choose from as well, with --input" in capsys.readouterr().err


def test_missing_input_is_one_line(tmp_path, capsys):
    absent = tmp_path / "absent.jsonl"
    assert command.main(["--input", str(absent), "--base_dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and str(absent) in error and "Traceback" not in error


def test_choose_step_by_validation_loss(finished):
    base_dir, _ = finished
    evaluated = dict(meta_training.evaluated_steps(base_dir))
    assert sorted(evaluated) == rater_steps(base_dir) == [2, 4]
    step, reason = meta_training.choose_step(base_dir, "best")
    assert evaluated[step] == min(evaluated.values())
    assert "2 meta-evaluations" in reason and "a random choice reaches" in reason
    assert meta_training.choose_step(base_dir, "latest")[0] == 4
    assert meta_training.choose_step(base_dir, "2") == (2, "named by the user")
    with pytest.raises(CheckpointError, match="use best, latest, or one of 2, 4"):
        meta_training.choose_step(base_dir, "3")
    with pytest.raises(CheckpointError, match="no checkpoint of a rater"):
        meta_training.choose_step(base_dir.parent, "best")


@pytest.mark.parametrize(
    "losses, chosen, no_better",
    [([2.5, 2.4], 4, True), ([2.2, 2.4], 2, False), ([2.3, 2.4], 2, True)],
)
def test_a_run_whose_raters_are_no_better_than_chance_says_so(
    losses, chosen, no_better, tmp_path, monkeypatch
):
    monkeypatch.setattr(meta_training, "rater_steps", lambda base_dir: [2, 4])
    lines = [
        {"kind": "epoch", "meta_step": step, "validation_loss": loss, "random_validation_loss": 2.3}
        for step, loss in zip((2, 4), losses)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    step, reason = meta_training.choose_step(tmp_path)
    assert step == chosen and "a random choice reaches 2.3000" in reason
    assert ("NO rater of this run does better" in reason) == no_better


def test_raters_are_judged_anew_as_meta_training_judged_them(finished, capsys):
    """With the run's own settings the command prints what metrics.jsonl has."""
    base_dir, _ = finished
    before = sorted(base_dir.rglob("*"))
    assert meta_evaluate.main(["--base_dir", str(base_dir)]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    epochs = read_metrics(base_dir, "epoch")
    chance = epochs[0]["random_validation_loss"]
    assert "less than a random choice" in heading
    assert [line.split()[:3] for line in lines] == [
        ["random", "choice", f"{chance:.4f}"],
        *(["meta-step", str(e["meta_step"]), f"{e['validation_loss']:.4f}"] for e in epochs),
    ]
    better = int(epochs[1]["validation_loss"] < chance)
    assert lines[2].endswith(f"lower in {better} of 1") and "±" not in lines[2]
    assert sorted(base_dir.rglob("*")) == before


def test_raters_are_judged_by_pairs(finished, capsys):
    base_dir, _ = finished
    repeats = "--gin_param=MetaEvaluation.repeats = 3"
    arguments = ["--base_dir", str(base_dir), "--checkpoints", "4", repeats]
    assert meta_evaluate.main(arguments) == 0
    _, chance, rater = capsys.readouterr().out.splitlines()
    assert "±" in chance and rater.startswith("meta-step 4") and rater.endswith("of 3")
    gain = PairedGain(1 / 6, 0.05, 2.5)
    assert meta_evaluate.line(8, [1.0, 2.0, 4.0], [1.5, 3.0, 3.0], gain) == (
        "meta-step 8    2.3333 ± 1.5275   0.1667 ± 0.0500 (better), lower in 2 of 3"
    )


def test_a_rater_that_is_not_there_is_not_judged(finished, capsys):
    base_dir, _ = finished
    assert meta_evaluate.main(["--base_dir", str(base_dir), "--checkpoints", "2,3"]) == 2
    assert "one of 2, 4" in capsys.readouterr().err
    assert meta_evaluate.main(["--base_dir", str(base_dir.parent)]) == 2
    assert "no checkpoint of a rater" in capsys.readouterr().err


def test_other_data_is_refused(finished):
    base_dir, _ = finished
    with pytest.raises(CheckpointError, match="a run on other data"):
        meta_training.check_same_data(base_dir, "0" * 64)


def test_damaged_rater_weights_are_not_exported(finished, tmp_path, capsys):
    from dr_keras.commands import export_rater

    base_dir, _ = finished
    path = rater_path(base_dir, 2)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(flipped)
    try:
        config = base_dir / "parsed_config.gin"
        arguments = ["--base_dir", str(base_dir), "--checkpoint", "2", "--gin_file", str(config)]
        corpus_line = "--gin_param=text_data.corpus = @embedded_corpus()"
        small = "--gin_param=embedded_corpus.packages = ('keras_hub',)"
        assert export_rater.main([*arguments, corpus_line, small]) == 2
        assert "is damaged" in capsys.readouterr().err
    finally:
        path.write_bytes(content)
    assert len(read_metrics(base_dir, "step")) == 4
