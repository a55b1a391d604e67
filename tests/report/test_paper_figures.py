"""The figures that the paper has, and the audit: what they say of figures that are known."""

import dataclasses

import numpy as np
import pytest
import study

from dr_keras.rating.audit import audit, counted, tally
from dr_keras.report import audit_plots, page, paper_plots
from dr_keras.report.sections import checkpoints as checkpoints_section
from dr_keras.report.sections.checkpoints import checkpoints
from dr_keras.studies import scoreboard
from dr_keras.studies.results import Results, to_json


def with_tasks(loss: float, accuracy: float, seed: int) -> dict:
    """A cell that ends at a loss and an accuracy, and was asked half-way."""
    likelihood = -2 + accuracy
    figures = {"accuracy": [[200, 0.5], [400, accuracy]]}
    figures["right_likelihood"] = [[200, -1.5], [400, likelihood]]
    return study.cell(
        [(0, 5.0), (200, 3.0), (400, loss + seed / 100)],
        tasks={"toy": {"accuracy": accuracy, "right_likelihood": likelihood}},
        task_curves={"toy": figures},
    )


def asked(arms: dict[str, tuple[float, float]], given=None):
    """A size of arms -> (loss, accuracy)."""
    cells = {
        arm: {seed: with_tasks(*figures, seed) for seed in study.SEEDS}
        for arm, figures in arms.items()
    }
    return study.size(cells, given)


@pytest.fixture(scope="module")
def results():
    made = asked({"unfiltered": (2.5, 0.5), "random": (2.6, 0.5), "rater": (2.3, 0.75)})
    tasks = {"toy": {"questions": 6, "available": 8, "chance": 0.25}}
    return study.results(sizes=[made], tasks=tasks)


def drawn(figure):
    """Titles and texts of a figure."""
    return " ".join(
        [*(axes.get_title() for axes in figure.axes)]
        + [text.get_text() for axes in figure.axes for text in axes.texts]
    )


def test_cells_that_improve_are_counted_by_their_own_sign(results):
    cells = {cell.name: cell for cell in scoreboard.improvements(results)}
    assert list(cells) == ["test loss", "toy accuracy", "toy likelihood"]
    assert cells["test loss"].gain == pytest.approx(0.2)  # a lower loss is better
    assert cells["toy accuracy"].gain == cells["toy likelihood"].gain == pytest.approx(0.25)
    assert all(cell.difference.outcome == "better" for cell in cells.values())
    text = page.render(results, sections=["improved"])
    assert "Of 3 cells (sizes and figures), rater is ahead of unfiltered in 3" in text
    assert "better in 3 of 3, worse in 0" in text
    shown = drawn(paper_plots.improved_cells(list(cells.values())))
    assert shown.split() == ["+0.200", "+0.250", "+0.250"]


def test_a_single_figure_and_those_that_chose_are_no_cells():
    one = study.results()
    assert [cell.name for cell in scoreboard.improvements(one)] == ["test loss"]
    assert "How many figures improve?" not in page.render(one, sections=["improved"])
    assert "validation loss" not in {c.name for c in scoreboard.improvements(study.evidence())}


def test_tasks_while_training_are_means_over_seeds(results):
    (size,) = results.sizes
    curve = size.arms["rater"].metric_curves["toy accuracy"]
    assert curve.mean == [(200, 0.5), (400, 0.75)] and curve.spread == [(200, 0.0), (400, 0.0)]
    figure = paper_plots.task_curves(size, results.protocol, {"toy": 0.25})
    accuracy, likelihood = figure.axes[:2]
    lines = {line.get_label(): line.get_ydata() for line in accuracy.lines}
    assert list(lines["rater"]) == [0.5, 0.75] and list(lines["unfiltered"]) == [0.5, 0.5]
    assert [0.25, 0.25] in [list(line.get_ydata()) for line in accuracy.lines]  # a guess
    assert likelihood.get_title() == "toy likelihood"
    assert "Tasks while training" in page.render(results, sections=["tasks"])
    assert "Tasks while" not in page.render(study.evidence(), sections=["tasks"])
    assert Results.of(to_json(results)) == results  # the curves are part of results.json


def test_the_bar_of_compute_is_training_and_scoring_until_the_loss_is_reached():
    results = study.evidence()
    size = results.sizes[0]
    account, full = size.arms["rater"].account, size.arms["unfiltered"].account.run.total
    figure = paper_plots.compute_saved(results)
    (axes,) = figure.axes
    rows = [label.get_text() for label in axes.get_yticklabels()]
    row = rows.index("30k, rater")
    parts = [
        bar for bar in axes.patches
        if abs(bar.get_y() + bar.get_height() / 2 - row) < 0.1 and bar.get_width() > 0
    ]  # fmt: skip
    training, scoring, saved = parts
    steps = size.arms["rater"].match.steps
    assert training.get_width() == pytest.approx(100 * steps / 400)
    spent = training.get_width() + scoring.get_width()
    assert spent == pytest.approx(100 * account.flops_share)
    assert saved.get_x() + saved.get_width() == pytest.approx(100)
    shown = drawn(figure)
    assert f"made once: {account.making / full:.3g} runs" in shown
    assert "never reaches the loss of unfiltered" in shown  # a random choice
    assert "How much compute does it save?" in page.render(results, sections=["saved"])
    assert "How much compute" not in page.render(study.results(), sections=["saved"])


def test_checkpoints_are_shown_by_meta_step_and_inner_model():
    given = study.protocol(candidate="big@20")
    losses = {"small@10": 2.6, "small@20": 2.5, "big@10": 2.5, "big@20": 2.2}
    arms = {"unfiltered": (2.5, 0.5), "random": (2.6, 0.5)}
    made = asked(arms | {arm: (loss, 3 - loss) for arm, loss in losses.items()}, given)
    runs = {
        name: {
            "parameters": 10, "meta_steps": [10, 20], "arms": [f"{name}@10", f"{name}@20"],
            "flops": 1e9,
        }
        for name in ("small", "big")
    }  # fmt: skip
    results = study.results(sizes=[made], protocol=given, findings={"checkpoints": runs})
    assert paper_plots.gain(made, "big@20", "unfiltered", "test loss")[0] == pytest.approx(0.3)
    assert paper_plots.gain(made, "big@20", "unfiltered", "toy likelihood")[0] == pytest.approx(0.3)
    figure = paper_plots.improvement(made, given, runs)
    loss, likelihood = figure.axes[:2]
    lines = {tuple(np.round(np.asarray(line.get_ydata(), float), 6)) for line in loss.lines}
    assert {(-0.1, 0.0), (0.0, 0.3)} <= lines and (-0.1, -0.1) in lines  # dashed: random
    assert "likelihood" in likelihood.get_title()
    text = checkpoints_section.as_text(results)
    assert "big, meta-step 20" in text and "+0.3000" in text
    assert checkpoints(study.results()) is None
    assert "Do raters get better" in page.render(results, sections=["checkpoints"])


def found_audit():
    groups = {"source": ["a$b$"] * 60 + ["b"] * 40, "length": ["under 64 bytes"] * 100}
    held_out = counted({"source": ["b"] * 500, "length": ["64 to 255 bytes"] * 500})
    return audit(tally(groups, np.arange(100.0), np.arange(100) >= 50), held_out)


def test_the_audit_says_what_the_held_out_set_lacks():
    found = found_audit()
    html = page.render(study.results(findings={"audit": found}), sections=["audit"])
    assert "Whom does the choice favour?" in html
    assert "by source, the held-out set has less than half the share of" in html
    for cell in ("60.0%", "20.0%", "0.0%", "17%"):  # before, after, held out, kept of it
        assert f"<td>{cell}</td>" in html
    rings = [
        line.get_xdata()[0]
        for line in audit_plots.shares(found["dimensions"]).axes[0].lines
        if line.get_markerfacecolor() == "none"
    ]
    assert sorted(rings) == [0.0, 100.0]
    single = found | {"dimensions": {"source": found["dimensions"]["source"]}}
    assert len(audit_plots.shares(single["dimensions"]).axes) == 1


def test_an_audit_that_finds_nothing_says_so():
    groups = {"source": ["a", "b"] * 50}
    found = audit(tally(groups, np.zeros(100), [True, True, False, False] * 25))
    quiet = dataclasses.replace(study.results(), findings={"audit": found | {"notes": []}})
    assert "no group lost half of its share" in page.render(quiet, sections=["audit"])
