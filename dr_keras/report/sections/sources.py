"""What the scores know beyond where a text comes from."""

from collections.abc import Mapping

from dr_keras.report import page
from dr_keras.studies.results import Results

_SHOWN = 20  # sources; those that are smaller are folded away


@page.section("sources", place=85)
def sources(results: Results) -> page.Section | None:
    """Spread of scores and ranking within sources, with a warning where there is little of it."""
    found = results.findings.get("within_sources")
    if not found:
        return None
    blocks: list[page.Block] = [
        page.Paragraph(f"Note: {sentence}.") for sentence in found["warnings"]
    ]
    within = results.rater.quality.within_sources if results.rater else None
    text = (
        f"Standard deviation of scores {found['spread']:.3g}: {found['between']:.3g} between the"
        f" means of sources, {found['within']:.3g} within them (squares add up)."
    )
    if within is not None:
        text += (
            " Within sources, clean examples score above damaged ones with AUC"
            f" {page.number(within.auc) or page.DASH} (mean of {within.auc_sources} sources), and"
            f" score and level correlate by {page.number(within.spearman, 2) or page.DASH}"
            f" ({within.spearman_sources} sources). What is told between sources alone counts for"
            " nothing here."
        )
    blocks.append(page.Paragraph(text))
    caption = "Scores by source, the largest first; the mean is relative to that of all."
    rows = [_row(name, one) for name, one in found["by_source"].items()]
    blocks.append(page.Table.of(caption, rows[:_SHOWN]))
    if rows[_SHOWN:]:
        table = page.Table.of("Smaller sources.", rows[_SHOWN:])
        blocks.append(page.Folded("More sources", [table]))
    return page.Section("Within sources", blocks)


def _row(name: str, one: Mapping) -> dict[str, str | None]:
    return {
        "source": name,
        "examples": page.number(one["examples"], 0),
        "mean score": page.number(one["mean"]),
        "spread": page.number(one["spread"]),
        "AUC": page.number(one.get("auc")),
        "rank correlation with the level": page.number(one.get("spearman"), 2),
    }
