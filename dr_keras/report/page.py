"""What the pages of reports are made of: style, tables, figures, one self-contained HTML file."""

from collections.abc import Iterable, Mapping, Sequence
import html

from dr_keras.report import plots

_CSS = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #ffffff; --soft: #5c6370;
  --line: #d9dce1; --box: #f4f6f8; --accent: #0062a3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #16181c; --soft: #a2a9b4;
  --line: #383d45; --box: #20242a; --accent: #6cb8ee; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 54rem; margin: 0 auto; padding: 2rem 1.2rem 4rem; }
h1 { font-size: 1.15rem; color: var(--soft); font-weight: 600; margin: 0 0 .6rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .5rem; }
.answer { font-size: 1.35rem; line-height: 1.4; margin: 0 0 1.2rem; padding: .9rem 1.1rem;
  border-left: .35rem solid var(--accent); background: var(--box); }
.answer.worse { border-color: #c0392b; }
.answer.undecided, .answer.too_small { border-color: #d08a00; }
.answer small { display: block; font-size: .9rem; color: var(--soft); margin-top: .5rem; }
figure { margin: 1rem 0; } figcaption, .note { color: var(--soft); font-size: .9rem; }
svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; margin: .6rem 0; }
.table figcaption { padding-bottom: .3rem; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child, .text { text-align: left; }
.text { display: inline-block; min-width: 11rem; white-space: normal; overflow-wrap: anywhere; }
th { white-space: normal; } td:has(> .text) { text-align: left; }
tr.candidate td { font-weight: 700; }
.example { border: 1px solid var(--line); border-radius: .3rem; margin: .6rem 0; }
.example header { background: var(--box); padding: .3rem .7rem; font-size: .85rem;
  color: var(--soft); }
pre { margin: 0; padding: .6rem .7rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .85rem/1.45 ui-monospace, Menlo, Consolas, monospace; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--accent); }
"""


def text(value) -> str:
    """Escaped for HTML."""
    return html.escape(str(value), quote=True)


def count(value) -> str:
    """A whole number with commas, a dash for None."""
    return "–" if value is None else f"{value:,}"


def number(value, digits: int = 3) -> str:
    """A number, a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds in a readable unit."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], bold=None) -> str:
    """A table; cells are HTML already. `bold` is the first cell of the row to stress.

    A wide table scrolls, and its caption stays.
    """
    lines = ["<table><thead><tr>"]
    lines += [f'<th scope="col">{text(name)}</th>' for name in head]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        marked = ' class="candidate"' if row[0] == bold else ""
        lines.append(f"<tr{marked}>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>")
    return (
        f'<figure class="table"><figcaption>{text(caption)}</figcaption><div class="scroll">'
        + "".join(lines)
        + "</tbody></table></div></figure>"
    )


def shares(counts: Mapping[str, int]) -> str:
    """The largest eight of some counts as percentages, a dash for none."""
    total = sum(counts.values())
    if not total:
        return "–"
    largest = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{name.replace('_', ' ')} {100 * count / total:.0f}%" for name, count in largest[:8]]
    return ", ".join(shown) + (f" and {len(largest) - 8} more" if len(largest) > 8 else "")


def figure(figure, description: str, prefix: str, caption: str) -> str:
    """A matplotlib figure inside the page; see `plots.to_svg`."""
    svg = plots.to_svg(figure, description, prefix)
    return f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>"


def cost(results: Mapping) -> str:
    """Time and memory of the stages."""
    stages = results["stages"]
    if not stages:
        return ""
    rows = [
        (
            text(name.replace("_", " ")),
            duration(stage["seconds"]),
            "–"
            if stage["peak_memory_bytes"] is None
            else f"{stage['peak_memory_bytes'] / 2**20:,.0f} MiB",
        )
        for name, stage in stages.items()
    ]
    total = sum(stage["seconds"] for stage in stages.values())
    return "<h2>What it cost</h2>" + table(
        f"Wall time, {duration(total)} in all, and peak memory of the process.",
        ("stage", "time", "peak memory"),
        rows,
    )


def settings(results: Mapping) -> str:
    """Settings and versions, folded away."""
    rows = [
        (text(name), f'<span class="text">{text(value)}</span>')
        for group in ("settings", "versions")
        for name, value in dict(results[group]).items()
    ]
    return (
        "<details><summary>Settings and versions</summary>"
        + table(f"Written {results['created']}", ("name", "value"), rows)
        + "</details>"
    )


def whole(title: str, body: Sequence[str]) -> str:
    """The page: one file that needs no network. `body` is HTML already."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{_CSS}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )
