"""Wins, ties and losses of the candidate against every other arm, size by size."""

from dr_keras.report import page, plots
from dr_keras.studies import scoreboard
from dr_keras.studies.paired import false_calls
from dr_keras.studies.results import Results
from dr_keras.studies.sizes import LOSS

_DRAWN = 4  # cells from which a figure says more than the table


@page.section("scoreboard", place=27)
def rivals(results: Results) -> page.Section | None:
    """Paired differences to every rival, and how many are more than chance."""
    protocol = results.protocol
    digits = 3 if protocol.metric == LOSS else 4

    cells = list(scoreboard.cells(results))
    if not cells:
        return None
    rows = [
        {
            "size": size.name if len(results.sizes) > 1 else None,
            "against": page.spaced(rival),
            "difference": found.shown(digits),
            "seeds": str(found.pairs),
            "outcome": found.outcome,
            "why": found.reason,
        }
        for size, rival, found in cells
    ]
    if len(results.sizes) == 1:
        rows = [{name: cell for name, cell in row.items() if name != "size"} for row in rows]
    caption = (
        f"Test {protocol.metric.removeprefix('test ')} of {protocol.candidate} minus that of the"
        " other arm, seed by seed: mean ± its standard error."
    )
    blocks: list[page.Block] = [
        page.Paragraph(f"{figure.capitalize()}: {protocol.candidate} is {found.shown()}.")
        for figure, found in results.tallies.items()
    ]
    blocks.append(page.Table.of(caption, rows, wide=["why"]))
    if len(cells) >= _DRAWN:
        blocks.append(
            page.Figure(
                lambda: plots.differences(protocol, cells),
                "Differences to every rival, with two standard errors.",
                f"{protocol.candidate.capitalize()} minus the other arm, bars of two standard"
                f" errors; {'left' if not protocol.higher_is_better else 'right'} of the line it is"
                " better.",
            )
        )
    fewest = min(found.pairs for _, _, found in cells)
    chance = false_calls(fewest)
    if chance:
        blocks.append(
            page.Paragraph(
                f"With {fewest} seeds two arms that do not differ are called better or worse in"
                f" {100 * chance:.0f} of 100 cells, half of them better: one win says little, many"
                " wins say much. Cells of one study share the runs of the candidate's arm, so they"
                " tend to fall together.",
                note=True,
            )
        )
    return page.Section("Against every other arm", blocks)
