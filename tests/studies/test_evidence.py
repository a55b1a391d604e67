"""The evidence protocol end to end, so small that its figures mean nothing."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from dr_keras.commands import evaluate as command
from dr_keras.studies.evidence import SWEEP, Evidence
from dr_keras.studies.results import Results, TaskFacts
from dr_keras.studies.sizes import Run

ARMS = (
    "random_as_rater", "perplexity_middle", "conditional_loss", "best_sources", "rater_inverted",
    "least_damaged", "source_weights",
)  # fmt: skip
# The rater that ships reads windows of 128 bytes; meta-training has tests of its own.
BINDINGS = {
    "META_STEPS": "2",
    "Workers.count": "0",
    "SEEDS": "(0, 1)",
    "evidence.rater": "'damaged_prose'",
    "evidence.meta_training_flops": "1e9",
    "evidence.more_arms": repr(ARMS),
    "evidence.sweep": "(0.25, 0.5)",
    "evidence.sweep_seeds": "(0,)",
    "evidence.test_size": "48",
    "evidence.validation_size": "48",
    "evidence.tasks": "@jsonl_tasks()",
    "evidence.ask_tasks": "1",
    "evidence.corpora": "[@other/jsonl_corpus()]",
    "damaged_corpus.corpus": "@jsonl_corpus()",
    "LanguageModelTrainer.steps": "4",
    "LanguageModelTrainer.batch_size": "8",
    "LanguageModelTrainer.evaluation_batch_size": "16",
    "LanguageModelTrainer.evaluate_every": "2",
    "evidence.shorter_runs": "(0.5,)",
    "evidence.shorter_arms": "('rater', 'best_sources')",
    "source_weights.table": "{'even': 1, 'odd': 3}",
    "LanguageModelTrainer.jit_compile": "False",
    "small/language_model.width": "8",
    "medium/language_model.width": "12",
    "language_model.layer_count": "1",
    "small/language_model.layer_count": "1",
    "medium/language_model.layer_count": "1",
    "tuning_trainer.steps": "2",
}


def arguments(folder, base_dir, **changes):
    paths = {
        "jsonl_corpus.path": repr(str(folder / "corpus.jsonl")),
        "other/jsonl_corpus.path": repr(str(folder / "other.jsonl")),
        "other/jsonl_corpus.name": "'letters'",
        "jsonl_tasks.paths": repr(str(folder / "toy_validation.jsonl")),
        "jsonl_tasks.items": "6",
    }
    bindings = BINDINGS | paths | changes
    return [
        "--gin_file=experiments/evidence_minutes.gin", f"--base_dir={base_dir}",
        *(f"--gin_param={name} = {value}" for name, value in bindings.items()),
    ]  # fmt: skip


def lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus of two sources, another corpus, and a task."""
    folder = tmp_path_factory.mktemp("evidence")
    subjects = ["The river", "An old clock", "Her letter", "That garden", "Every winter", "A song"]
    verbs = ["carried", "remembered", "forgot", "measured", "answered", "followed"]
    things = ["the quiet road", "a broken gate", "their long walk", "nobody at all", "its own name"]

    def text(k):
        parts = [
            f"{subjects[(k + j) % 6]} {verbs[(k * j + 1) % 6]} {things[(k + 2 * j) % 5]}"
            f" {k * 7 + j}."
            for j in range(12)
        ]
        return " ".join(parts)

    lines(folder / "corpus.jsonl", [
        {"text": text(k), "id": str(k), "source": "even" if k % 2 == 0 else "odd"}
        for k in range(120)
    ])  # fmt: skip
    lines(folder / "other.jsonl", [{"text": text(1000 + k), "id": str(k)} for k in range(6)])
    lines(folder / "toy_validation.jsonl", [
        {"context": f"{subjects[k % 6]} {k}", "choices": [verbs[k % 6], "xyz"], "gold": k % 2}
        for k in range(8)
    ])  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def study(folder):
    base_dir = folder / "study"
    assert command.main(arguments(folder, base_dir)) == 0
    return base_dir


def test_every_arm_and_figure_is_in_the_results(study):
    found = Results.load(study / "results.json")
    small, medium = found.sizes
    assert list(small.arms) == ["unfiltered", "rater", "random", *ARMS]
    assert list(medium.arms) == ["unfiltered", "rater", "random"]
    assert small.parameters < medium.parameters
    seen = small.steps * small.batch_size
    for arm in (*small.arms.values(), *medium.arms.values()):
        assert set(arm.curves) == {"0", "1"} and arm.final.spread is not None
        assert arm.budget.epochs * arm.budget.pool_examples == pytest.approx(seen)
        assert 0 <= arm.metrics["toy accuracy"].mean <= 1
        assert arm.metrics["toy likelihood"].mean < 0
        assert {"validation loss", "loss on letters"} < set(arm.metrics)
        assert set(arm.by_source) == {"even", "odd"}
    chosen = found.protocol.discard_fraction
    dropped = {arm.discard_fraction for n, arm in small.arms.items() if n != "unfiltered"}
    assert len(dropped) == 1  # all arms drop exactly as many
    # Passages of 112 to 128 bytes: what arms see is equal to the unit all the same.
    assert {arm.budget.tokens_seen for arm in small.arms.values()} == {seen * 127}
    assert small.discard_fraction == pytest.approx(chosen, abs=0.06)
    swept = found.sweep["30k"]
    losses = {float(f): v.validation.mean for f, v in swept.fractions.items()}
    assert set(losses) == {0.25, 0.5} and min(losses, key=losses.get) == swept.best == chosen
    assert 0 <= found.findings["learned_fraction"]["discard_fraction"] < 1
    assert small.bytes_per_token == 1.0  # of text in ASCII, read by bytes
    bits = small.arms["rater"].bits_per_byte
    assert bits.mean == pytest.approx(small.arms["rater"].final.mean / np.log(2))
    # Rivals: all but what is no way to train, and two at the other size; two seeds are no verdict.
    assert found.tallies["test loss"].undecided == len(ARMS) + 2
    assert found.rater.quality.within_sources is not None
    assert set(found.findings["within_sources"]["by_source"]) == {"even", "odd"}
    assert "score of conditional_loss" in str(found.findings["correlations"])
    assert found.tasks["toy"] == TaskFacts(questions=6, available=8, chance=0.5)
    for name, curve in small.arms["rater"].metric_curves.items():
        assert [step for step, _ in curve.mean] == [2, 4]  # asked once before the end
        assert curve.mean[-1][1] == pytest.approx(small.arms["rater"].metrics[name].mean)
    assert set(small.arms["rater"].metric_curves) == {"toy accuracy", "toy likelihood"}
    audit = found.findings["audit"]
    assert set(audit["dimensions"]) >= {"source", "script", "length", "damage"}
    assert audit["kept"] == round((1 - chosen) * audit["documents"])


def test_flops_in_the_results_are_those_of_the_formula(study):
    found = Results.load(study / "results.json")
    small = found.sizes[0]
    training = 3 * small.forward_flops * small.steps * small.batch_size
    assert small.arms["unfiltered"].account.run == Run(training, 0.0, training)
    rater = small.arms["rater"].account.run
    windows = found.compute.scored_examples
    # Windows that are joined are each scored: more than 8 / (1 - f) of them for a step.
    read = min(small.arms["rater"].budget.passes, 1.0) * windows
    assert min(small.steps * 8 / (1 - small.discard_fraction), windows) <= read
    assert rater.scoring == pytest.approx(found.compute.rater_forward_flops * read)
    assert found.compute.meta_training["total"] == 1e9
    scorers = found.compute.scorers
    assert set(scorers) == {"perplexity", "conditional_loss", "best_sources", "source_weights"}
    # So many steps on the train part, two on the outer part; two models score.
    conditional, step = scorers["conditional_loss"], 3 * small.forward_flops * small.batch_size
    assert conditional.training == step * (small.steps + 2)
    assert conditional.forward == 2 * small.forward_flops
    assert conditional.scoring == conditional.forward * found.compute.scored_examples
    arm = small.arms["conditional_loss"]  # whose windows are joined to other numbers
    read = min(arm.budget.passes, 1.0) * windows
    assert arm.account.run.scoring == pytest.approx(conditional.forward * read)
    assert small.arms["best_sources"].account.run.scoring == 0
    assert small.arms["random"].account.run.scoring == 0


def test_shorter_runs_are_held_against_the_full_one(study):
    found = Results.load(study / "results.json")
    small, medium = found.sizes
    assert list(small.shorter_runs["0.5"]) == ["rater", "best_sources"]
    assert list(medium.shorter_runs["0.5"]) == ["rater"]  # it has no best_sources
    for size in found.sizes:
        run, whole = size.shorter_runs["0.5"]["rater"], size.arms["rater"]
        assert run.steps == 2 and set(run.final.by_seed) == set(whole.curves)
        gap = run.final.mean - size.arms["unfiltered"].final.mean
        assert run.final.against["unfiltered"].difference == pytest.approx(gap)
        # Half of the training, half of the scoring.
        full = size.arms["unfiltered"].account.run.total
        share = whole.account.run.total / 2 / full
        assert run.flops_share == pytest.approx(share) and share > 0.5
    assert "goes through its whole schedule" in (study / "report.html").read_text()


def test_the_page_is_one_file_with_the_answer_first(study):
    page = (study / "report.html").read_text(encoding="utf-8")
    found = Results.load(study / "results.json")
    assert page.index(found.answer.text[:40]) < page.index("<svg") < page.index("<table")
    for text in (
        "How much to drop",
        "Compute",
        "What the rater learned",
        "chance 50.0%",
        "Rated lowest",
        "The corpus",
    ):
        assert text in page
    assert "http://www.w3.org" in page and "<script" not in page and "src=" not in page
    assert list((study / "summaries" / "cells" / "30k").glob("rater-*-0/events*"))


def test_a_finished_study_is_read_a_missing_cell_run_again_and_the_target_mixed_in(
    folder, study, tmp_path, capsys
):
    again = tmp_path / "again"
    shutil.copytree(study, again)
    cells = {path: path.stat().st_mtime_ns for path in (again / "cells").rglob("*.json")}
    lost = sorted(cells)[0]
    content = json.loads(lost.read_text())
    lost.unlink()
    # The second run of each size, with the target's text, is all that is to be done beside it.
    changes = {"evidence.with_target": "0.25", "evidence.more_arms": "()", "SEEDS": "(0,)"}
    changes["evidence.shorter_runs"] = "()"
    assert command.main(arguments(folder, again, **changes)) == 0
    assert {p for p, when in cells.items() if p.stat().st_mtime_ns != when} == {lost}
    rerun = json.loads(lost.read_text())
    assert rerun["record"]["curve"] == content["record"]["curve"]
    assert rerun["tasks"] == content["tasks"]
    assert not list((again / "claims").rglob("*.claim"))
    assert "recommendation:" in capsys.readouterr().out
    found, before = (Results.load(path / "results.json") for path in (again, study))
    assert [size.name for size in found.sizes] == ["30k", "30k + target", "120k", "120k + target"]
    assert set(found.sweep) == {"30k"}
    alone, mixed = found.sizes[:2]
    outer = found.corpus.parts["outer"]
    for name, arm in mixed.arms.items():
        first = before.sizes[0].arms[name].final.by_seed["0"]
        assert alone.arms[name].final.by_seed == {"0": first} != arm.final.by_seed
        seen = arm.budget.tokens_seen
        assert seen == alone.arms[name].budget.tokens_seen
        # To within one window of a quarter, and epochs of the whole outer part.
        assert abs(arm.budget.target_tokens_seen - seen / 4) <= 127
        epochs = arm.budget.target_tokens_seen / outer.unique_tokens
        assert arm.budget.target_epochs == pytest.approx(epochs, 0.2)
        assert arm.budget.pool_tokens == alone.arms[name].budget.pool_tokens
        assert alone.arms[name].budget.target_tokens_seen == 0
    assert "of them target text" in (again / "report.html").read_text()


def test_another_configuration_or_damaged_cell_is_refused(folder, study, capsys):
    changed = {"LanguageModelTrainer.steps": "8"}
    assert command.main(arguments(folder, study, **changed)) == 2
    assert "holds a run with another configuration" in capsys.readouterr().err
    path = sorted((study / "cells").rglob("*.json"))[0]
    content = path.read_text()
    path.write_text(content[:50])
    assert command.main(arguments(folder, study)) == 2
    assert "is damaged" in capsys.readouterr().err
    path.write_text(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evidence.core_arms": "('rater',)"}, "core_arms lacks unfiltered"),
        ({"evidence.sweep": "()"}, "give one of them"),
        ({"evidence.discard_fraction": "0.0"}, "unfiltered is an arm of its own"),
        ({"evidence.discard_fraction": "'most'"}, "must be a number, 'learned' or None"),
        ({"evidence.online_arms": "('unfiltered',)"}, "unfiltered chooses nothing"),
        ({"evidence.sweep_sizes": "'some'"}, "must be 'all' or 'smallest'"),
        (
            {"CORPUS": "@jsonl_corpus()"},
            "evidence: the arm least_damaged needs a corpus whose damage is",
        ),
        ({"evidence.shorter_arms": "('dsir',)"}, "names 'dsir', which is neither in core_arms"),
        ({"evidence.shorter_runs": "(1.5,)"}, "1.5 is no share of the steps"),
        ({"evidence.shorter_runs": "(0.3,)"}, "30k: 0.3 of 4 steps must be a whole number of"),
        ({"SEQUENCE_LENGTH": "64"}, "rates windows of 128 tokens, the study has 64"),
        ({"evidence.with_target": "1.5"}, "must be a share of every batch between 0 and 1"),
        (
            {"evidence.with_target": "0.1", "evidence.online_arms": "('rater',)"},
            "has no place for text that is not chosen",
        ),
        ({"evidence.rater": "'nowhere'"}, "nowhere is not a directory"),
    ],
)
def test_mistakes_are_one_plain_line(folder, tmp_path, capsys, change, message):
    assert command.main(arguments(folder, tmp_path / "study", **change)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


ONLINE = {
    "evidence.online_arms": "('rater', 'random')",
    "evidence.more_arms": "()",
    "evidence.core_arms": "('unfiltered', 'rater', 'random', 'rater_inverted')",
    "evidence.discard_fraction": "0.25",
    "evidence.sweep": "None",
    "evidence.shorter_arms": "('rater',)",
    "evidence.tasks": "()",
    "evidence.corpora": "()",
    "SIZES": "{'30k': @small/LanguageModelTrainer}",
}


@pytest.mark.long
def test_random_in_oversized_batches_of_a_single_pass_is_not_run_twice(folder, tmp_path, capsys):
    chosen = arguments(folder, tmp_path / "study", **ONLINE)
    unused = ("other/", "jsonl_tasks", "medium/")
    chosen = [a for a in chosen if not a.startswith(tuple(f"--gin_param={u}" for u in unused))]
    assert command.main(chosen) == 0
    assert "random: on a single pass this is the unfiltered arm; not run" in capsys.readouterr().out
    found = Results.load(tmp_path / "study" / "results.json")
    assert found.protocol.same_as_unfiltered == [("30k", "random")]
    assert found.sweep == {}  # the fraction was given
    arms = found.sizes[0].arms
    assert set(arms) == {"unfiltered", "rater", "rater_inverted"}
    train = found.corpus.parts["train"].examples
    assert arms["rater"].budget.pool_examples == train  # drawn from all of it
    # Four batches of ceil(8 / 0.75), and what it takes to fill the padding of those kept.
    assert 4 * 11 / train < arms["rater"].budget.passes < 6 * 11 / train
    assert {arm.budget.tokens_seen for arm in arms.values()} == {4 * 8 * 127}
    assert arms["rater_inverted"].discard_fraction == pytest.approx((train * 3 // 11) / train)
    assert (
        "this arm is the unfiltered arm, so it was not run twice"
        in (tmp_path / "study" / "report.html").read_text()
    )


def test_the_smallest_size_may_have_more_seeds():
    given = Evidence(
        data=None, sizes={"s": None, "m": None}, tokenizer=None, seeds=(0, 1, 2), more_seeds=(3, 2)
    )
    assert given.seeds_of("s") == [0, 1, 2, 3] and given.seeds_of("m") == [0, 1, 2]
    assert given.tried == SWEEP
    assert dataclasses.replace(given, discard_fraction=0.5).tried == ()
    assert dataclasses.replace(given, discard_fraction="learned").tried == ()
    assert dataclasses.replace(given, discard_fraction=0.5, sweep=(0.1,)).tried == (0.1,)


@pytest.mark.long
def test_two_processes_split_the_cells_of_one_folder(folder, tmp_path):
    command_line = [sys.executable, "-m", "dr_keras", "evaluate"]
    command_line += arguments(folder, tmp_path / "study", **{"evidence.sweep": "()",
                              "evidence.discard_fraction": "'learned'"})  # fmt: skip
    both = [subprocess.Popen(command_line, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=900)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    done = [re.findall(r"(\S+ \S+(?: \S+)?, seed \d): 4/4 steps in", error) for error in errors]
    assert all(done), "one process did everything"
    assert (
        len(done[0]) + len(done[1]) == len(set(done[0]) | set(done[1])) == 2 * (3 + len(ARMS) + 3)
    )
    found = Results.load(tmp_path / "study" / "results.json")
    learned = found.findings["learned_fraction"]["discard_fraction"]
    assert found.protocol.discard_fraction == round(learned, 2) and learned > 0.01
    assert found.protocol.chosen_by == "the rater's own weights"
    assert not list((tmp_path / "study" / "claims").rglob("*.claim"))
