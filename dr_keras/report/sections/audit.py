"""Whom the choice favours: the corpus before and after filtering, beside the held-out set."""

from collections.abc import Mapping

from dr_keras.report import audit_plots, page
from dr_keras.studies.results import Results

_SHOWN = 12  # groups of a dimension; the others are folded away


@page.section("audit", place=87)
def audit(results: Results) -> page.Section | None:
    """Shares and mean scores of groups, and what the held-out set lacks."""
    found = results.findings.get("audit")
    if not found:
        return None
    told = {name: g for name, g in found["dimensions"].items() if len(g) > 1 or _is_foreign(g)}
    notes = found["notes"] or ["no group lost half of its share, and the held-out set lacks none"]
    blocks: list[page.Block] = [page.Paragraph(f"Note: {note}.") for note in notes]
    held_out = f"{found['held_out']:,}" if found["held_out"] is not None else "an unknown number"
    blocks.append(
        page.Paragraph(
            f"Of {found['documents']:,} examples {found['kept']:,} are kept; {held_out} were looked"
            " at of the held-out set that the rater was made for. A group counts as lacking where"
            " its share is less than half of that in the corpus, and by more than three standard"
            " errors. A script is that of most letters; a language is told apart by a field alone."
        )
    )
    if told:
        blocks.append(
            page.Figure(
                lambda: audit_plots.shares(told),
                "Share of every group before and after filtering, and in the held-out set.",
                "Grey: share of the corpus; blue: of what is kept; the ring: of the held-out set."
                f" The largest {audit_plots.SHOWN} groups of each kind.",
            )
        )
    for dimension, groups in told.items():
        rows = [_row(name, group) for name, group in groups.items()]
        blocks.append(page.Table.of(f"By {page.spaced(dimension)}.", rows[:_SHOWN]))
        if rows[_SHOWN:]:
            table = page.Table.of(f"By {page.spaced(dimension)}, smaller.", rows[_SHOWN:])
            blocks.append(page.Folded(f"{len(rows) - _SHOWN} more", [table]))
    return page.Section("Whom does the choice favour?", blocks)


def _is_foreign(groups: Mapping[str, Mapping]) -> bool:
    """Whether the held-out set has little of the only group there is."""
    return any(
        g["held_out_share"] is not None and g["held_out_share"] < 0.5 for g in groups.values()
    )


def _row(name: str, group: Mapping) -> dict[str, str | None]:
    stayed = group["kept"] / group["documents"] if group["documents"] else 0.0
    held_out = group["held_out_share"]
    return {
        "group": name,
        "examples": page.number(group["documents"], 0),
        "mean score": page.number(group["mean_score"]),
        "kept of it": f"{100 * stayed:.0f}%",
        "share before": f"{100 * group['share_before']:.1f}%",
        "share after": f"{100 * group['share_after']:.1f}%",
        "in the held-out set": None if held_out is None else f"{100 * held_out:.1f}%",
    }
