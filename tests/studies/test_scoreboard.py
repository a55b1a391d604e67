import dataclasses
import pathlib
import runpy

import pytest
import study

from dr_keras.studies.paired import false_calls
from dr_keras.studies.scoreboard import Scoreboard, rivals, tallies, tally
from dr_keras.studies.sizes import Difference

TOOL = runpy.run_path(str(pathlib.Path(__file__).parents[2] / "tools" / "scoreboard.py"))


def test_rivals_are_what_somebody_would_train_by():
    arms = ["random", "rater", "unfiltered", "classifier", "rater_inverted", "least_damaged"]
    assert rivals(arms, study.protocol()) == ["unfiltered", "random", "classifier"]
    shares = ["unfiltered", "rater 10%", "random 10%", "rater 50%", "random 50%"]
    half = study.protocol(candidate="rater 50%", baselines=["random 50%"])
    assert rivals(shares, half) == ["unfiltered", "random 50%"]


def test_a_tally_counts_outcomes_and_what_chance_would_call():
    cells = [Difference(-1.0, 0.1, outcome, pairs=3) for outcome in ("better", "better", "worse")]
    found = tally([*cells, Difference(0.0, 1.0, "undecided", pairs=5)])
    assert (found.better, found.undecided, found.worse, found.cells) == (2, 1, 1, 4)
    assert found.by_chance == pytest.approx(3 * false_calls(3) + false_calls(5))
    assert found.shown() == (
        "better in 2 of 4, worse in 1 (by chance alone 0.3 better and 0.3 worse)"
    )
    unsure = tally([Difference(0.0, None, "undecided", "one seed", 1)])
    assert unsure.shown() == "better in 0 of 1, worse in 0"


def test_cells_are_sizes_rivals_and_tasks():
    results = study.evidence()
    counted = results.tallies
    # 30k has heuristics_c4 as well, and the candidate is best everywhere.
    assert (counted["test loss"].better, counted["test loss"].cells) == (5, 5)
    assert counted["accuracy of tasks"].cells == counted["loss on other corpora"].cells == 5
    assert counted["accuracy of tasks"].undecided == 5  # the same for all arms
    assert list(counted)[0] == "test loss" and "validation loss" not in counted
    assert tallies(results.sizes, results.protocol) == counted
    judged = study.retraining().tallies
    assert list(judged) == ["accuracy"] and judged["accuracy"].better == 2


def test_several_studies_are_one_table(tmp_path, capsys):
    won, lost = study.evidence(), study.results({"unfiltered": 2.2, "random": 2.2, "rater": 2.5})
    board = Scoreboard.of({"code": won, "law|chat": lost})
    assert len(board.rows) == 5 + 2
    assert board.tally(rival="random").better == 2 and board.tally(rival="random").worse == 1
    assert board.tally(study="law|chat").worse == 2
    assert [row.flops_share is None for row in board.rows] == [False] * 5 + [True] * 2
    for folder, results in (("a", won), ("b", lost)):
        results.write(tmp_path / folder / "results.json")
    assert TOOL["main"]([f"code={tmp_path / 'a'}", f"law|chat={tmp_path / 'b/results.json'}"]) == 0
    printed = capsys.readouterr().out
    assert printed == board.markdown()
    gap = won.sizes[0].arms["rater"].final.against["random"]
    assert f"| code | 30k | random | {gap.shown()} | 5 | better | " in printed
    assert "| law/chat | byte model | unfiltered | +0.2" in printed
    best, rater = board.losses["30k"]["rater"]["code"], won.sizes[0].arms["rater"]
    assert list(board.losses["30k"])[0] == "rater"  # the furthest below the reference
    assert best.startswith(f"{rater.final.mean:.3f} ± {rater.final.spread:.3f} (")
    assert best.endswith(f" / {100 * rater.account.flops_share:.0f}%)")
    assert f"| rater | {best} |" in printed and "| byte model | law/chat |" in printed
    assert "| random | 2 | 0 | 1 |" in printed and "| all | 5 | 0 | 2 |" in printed
    targeted = dataclasses.replace(won, corpus=dataclasses.replace(won.corpus, target="papers"))
    targeted.write(tmp_path / "a" / "results.json")
    assert TOOL["main"]([str(tmp_path / "a")]) == 0
    assert "| papers | 5 | 0 | 0 |" in capsys.readouterr().out
    assert "All cells: better in 5 of 7, worse in 2 (by chance" in printed


def test_studies_that_cannot_be_read_are_named(tmp_path, capsys):
    assert TOOL["main"]([str(tmp_path)]) == 2
    assert "results.json does not exist" in capsys.readouterr().err
    study.results().write(tmp_path / "results.json")
    assert TOOL["main"]([str(tmp_path), str(tmp_path)]) == 2
    assert f"two studies are called '{tmp_path.name}'" in capsys.readouterr().err


def test_a_cell_without_a_comparison_is_left_out():
    results = study.results()
    arm = results.sizes[0].arms["rater"]
    alone = dataclasses.replace(arm, final=dataclasses.replace(arm.final, against={}))
    size = dataclasses.replace(results.sizes[0], arms=results.sizes[0].arms | {"rater": alone})
    assert tallies([size], results.protocol) == {}
