"""Figures of the paper: cells that improve (6), compute saved (1), tasks while training (5)."""

from dr_keras.report import page, paper_plots
from dr_keras.studies import scoreboard
from dr_keras.studies.results import Results


@page.section("improved", place=29)
def improved(results: Results) -> page.Section | None:
    """In how many cells of size and figure the candidate is better than the reference."""
    if results.rater is None:
        return None
    cells = scoreboard.improvements(results)
    if len(cells) < 2:
        return None
    protocol = results.protocol
    tally = scoreboard.tally(cell.difference for cell in cells)
    more = sum(cell.gain > 0 for cell in cells)
    said = (
        f"Of {len(cells)} cells (sizes and figures), {protocol.candidate} is ahead of"
        f" {protocol.reference} in {more} by the mean over seeds; by more than two standard errors"
        f" it is {tally.shown()}."
    )
    figure = page.Figure(
        lambda: paper_plots.improved_cells(cells),
        f"How much better {protocol.candidate} is than {protocol.reference}, figure by figure.",
        f"How much better {protocol.candidate} is than {protocol.reference}, in the figure's own"
        " unit: blue is better, red worse, strong beyond two standard errors.",
    )
    return page.Section("How many figures improve?", [page.Paragraph(said), figure])


@page.section("tasks", place=32)
def tasks(results: Results) -> page.Section | None:
    """Figures of tasks while models train."""
    protocol = results.protocol
    chance = {name: task.chance for name, task in results.tasks.items()}
    blocks: list[page.Block] = [
        page.Figure(
            lambda size=size: paper_plots.task_curves(size, protocol, chance),
            f"Accuracy and likelihood of tasks while models of {size.name} train.",
            f"{size.name}: tasks while training, mean and standard deviation over seeds. Accuracy:"
            " dotted is a guess. Likelihood: nats per byte of the right answer; more is better.",
        )
        for size in results.sizes
        if size.arms[protocol.reference].metric_curves
    ]
    return page.Section("Tasks while training", blocks) if blocks else None


@page.section("saved", place=38)
def saved(results: Results) -> page.Section | None:
    """The bar of compute saved, with what the rater adds."""
    if results.compute is None:
        return None
    protocol = results.protocol
    figure = page.Figure(
        lambda: paper_plots.compute_saved(results),
        f"Operations to reach the final loss of {protocol.reference}, as shares of its run.",
        f"What it takes to get as low as {protocol.reference} does in its whole run (dashed):"
        " training, and scoring for this run alone; light is what is saved, ± its deviation over"
        " seeds. What was made once, such as by meta-training, is given in runs of"
        f" {protocol.reference} and is shared by all that come after.",
    )
    return page.Section("How much compute does it save?", [figure])
