"""Whether the meta-training of the rater can be trusted: signal, noise, and what scores follow."""

from collections.abc import Mapping
import functools

from dr_keras.report import meta_plots, page
from dr_keras.studies.meta_health import quarters
from dr_keras.studies.results import Results

_NAMED = {
    "sets": (
        "outer loss",
        "Outer loss of each held-out set",
        "Outer loss of each held-out set, mean over members.",
    ),
    "sources": (
        "mean score",
        "Mean score of each source",
        "Mean score of each source relative to the mean of all, of the batches that were weighed;"
        " the sources furthest from it.",
    ),
}


@page.section("meta_health", place=100)
def meta_health(results: Results) -> page.Section | None:
    """Figures that a run of meta-training logged of itself, and how to read them."""
    found = results.findings.get("meta_health")
    if not found:
        return None
    panels = found["panels"]
    blocks: list[page.Block] = [
        page.Paragraph(f"At the end of meta-training {sentence}") for sentence in found["warnings"]
    ]
    shown = [title for name, title in meta_plots.TITLES.items() if name in panels]
    if shown:
        blocks.append(
            page.Figure(
                lambda: meta_plots.health_panels(panels),
                f"Curves of meta-training: {', '.join(shown)}.",
                "Means of neighbouring meta-steps. Beyond a dotted line, length explains about half"
                " of the order of the scores.",
            )
        )
    blocks += [
        page.Figure(
            functools.partial(meta_plots.named_curves, panels[name], what),
            f"{description} through meta-training: {', '.join(panels[name])}.",
            caption,
        )
        for name, (what, description, caption) in _NAMED.items()
        if name in panels
    ]
    rows = _rows(panels, found["members"])
    if rows:
        caption = "Means over the first and the last quarter of the run."
        blocks.append(page.Table.of(caption, rows, wide=["how to read it"]))
    return page.Section("Can the meta-training be trusted?", blocks)


def _rows(panels: Mapping, members: int) -> list[dict[str, str | None]]:
    said = {
        "signal": {
            "across members": (
                "signal-to-noise across members",
                "how far members agree on where to move the rater: 0 is chance. The mean of"
                f" {page.plural(members, 'member')} moves it, with {members} times this ratio.",
            ),
            "over steps": (
                "signal-to-noise over meta-steps",
                "how far a member's meta-gradient points the same way for some meta-steps: 0 is"
                " chance.",
            ),
        },
        "update": {
            "outer update": (
                "norm of the outer update",
                "how far a meta-step moves the rater, learning rate and decay included.",
            )
        },
        "length": {
            "score and length": (
                "rank correlation with length",
                "near 1 or −1 the rater has learned little but the number of tokens.",
            ),
            "share of variance": (
                "share of the scores' variance that length explains",
                "near 1 likewise, few short windows among many full ones included.",
            ),
        },
        "spread": {
            "within a batch": (
                "standard deviation of scores",
                "near 0 all examples weigh the same.",
            ),
            "between sources": (
                "of which between sources",
                "near all of it, the rater tells sources apart and little else.",
            ),
        },
    }
    rows: list[dict[str, str | None]] = []
    for panel, lines in said.items():
        for label, (what, meaning) in lines.items():
            if label in panels.get(panel, {}):
                first, last = quarters(panels[panel][label])
                rows.append(
                    {
                        "figure": what,
                        "first": f"{first:.3g}",
                        "last": f"{last:.3g}",
                        "how to read it": meaning,
                    }
                )
    return rows
