"""The page about a student and its teacher, and the same for a terminal."""

from collections.abc import Mapping
import os

from dr_keras.report import page
from dr_keras.runs.fit_records import told
from dr_keras.system import whole_files

_SHOWN = 20  # sources; those that are smaller are folded away, and no part of the text
_WAYS = {"texts": "score_texts", "pipeline": "in tf.data", "compiled": "compiled by XLA"}


def write_page(found: Mapping, path: str | os.PathLike) -> None:
    """Writes report.html of what `studies.distillation.compared` found."""
    text = page.render_sections("dr_keras: a student and its teacher", _sections(found))
    whole_files.write_text(path, text, errors="replace")


def as_text(found: Mapping) -> str:
    """For a terminal: the tables of the page, n-grams left out."""
    lines = [told(found["fit"])]
    lines += [f"note: {sentence}." for sentence in found["agreement"]["warnings"]]
    agreement = found["agreement"]
    tables = [_whole(agreement), _by_source(agreement, last=_SHOWN), _costs(found["raters"])]
    return "\n\n".join(["\n".join(lines), *(table.as_text() for table in tables)])


def _sections(found: Mapping) -> list[page.Section]:
    agreement = found["agreement"]
    notes = [page.Paragraph(f"Note: {sentence}.") for sentence in agreement["warnings"]]
    blocks = [page.Paragraph(f"A rater {told(found['fit'])}."), *notes, _whole(agreement)]
    sections = [page.Section("Does it choose as its teacher does?", blocks)]
    inside: list[page.Block] = [_by_source(agreement, last=_SHOWN)]
    if len(agreement["by_source"]) > _SHOWN:
        inside.append(page.Folded("Smaller sources", [_by_source(agreement, first=_SHOWN)]))
    if "by_damage" in agreement:
        inside.append(_groups(agreement["by_damage"], "kind of damage", "By what is known of it."))
    sections.append(page.Section("Within sources", inside))
    sections.append(page.Section("What does it cost?", [_costs(found["raters"])]))
    if found["ngrams"]:
        sections.append(page.Section("What has it learned?", [_ngrams(found["ngrams"])]))
    return sections


def _whole(agreement: Mapping) -> page.Table:
    within = agreement["within_sources"]
    caption = (
        f"On {page.plural(agreement['windows'], 'window')} of documents held out from the fit:"
        f" rank correlation {page.number(agreement['rank_correlation']) or page.DASH}; within"
        f" sources {page.number(within['rank_correlation']) or page.DASH} "
        + (f"({within['reason']})." if "reason" in within else f"(mean of {within['sources']}).")
    )
    rows = [
        {
            "discarded": f"{one['discarded']:.0%}",
            "each keeps": page.number(one["kept"], 0),
            "both keep": f"{one['share']:.1%}",
            "a random choice": f"{one['chance']:.0%}",
        }
        for one in agreement["kept_by_both"]
    ]
    return page.Table.of(caption, rows)


def _by_source(agreement: Mapping, first: int = 0, last: int | None = None) -> page.Table:
    return _groups(
        dict(list(agreement["by_source"].items())[first:last]),
        "source",
        "By source, the largest first. Ranks are among all windows, 1 the best.",
    )


def _groups(groups: Mapping, what: str, caption: str) -> page.Table:
    rows = [
        {
            what: name,
            "windows": page.number(one["windows"], 0),
            "rank correlation": page.number(one["rank_correlation"]) or page.DASH,
            "mean rank by the teacher": page.number(one["teacher"]),
            "by the student": page.number(one["student"]),
        }
        for name, one in groups.items()
    ]
    return page.Table.of(caption, rows)


def _costs(raters: Mapping) -> page.Table:
    rows = []
    for name, one in raters.items():
        speed = one.get("speed", {})
        row = {
            "rater": name,
            "parameters": page.number(one["parameters"], 0),
            "FLOPs a window": page.flops(one["flops"]),
        }
        rows.append(row | {words: page.number(speed.get(way), 2) for way, words in _WAYS.items()})
    caption = (
        "FLOPs are those of matrix products, of which lookups have none; the others are MB of text"
        " a CPU second of this machine, from text, windows included."
    )
    return page.Table.of(caption, rows)


def _ngrams(ngrams: list) -> page.Table:
    rows = [
        {
            "n-gram": repr(one["ngram"]),
            "worth": page.number(one["worth"], 2),
            "tells": page.number(one["tells"], 4),
            "windows that have it": f"{one['windows']:.1%}",
            "of its row": f"{one['named']:.0%}",
        }
        for one in ngrams
    ]
    caption = (
        "The n-grams that move scores most, those that raise them first. Worth: what a token that"
        " one ends at adds to the sum of which the score is the mean; tells: that times the"
        " standard deviation of its share of a window's tokens; of its row: how much of what shares"
        " its row of the hashed table it is."
    )
    return page.Table.of(caption, rows)
