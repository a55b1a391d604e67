"""`report.html`: one page, no network, that a reader who did not run the study can follow.

The order is that of a reader's questions: the answer in one sentence and one picture; the figures
behind it; what was compared, on what, and what it cost; then how the rater scores, how it was
trained, and what it rates lowest and highest. All of it comes from `results.json`
(`dr_keras.evaluation.results`) except the single scores, meta-training curves and texts, which are
handed over beside it. Sections without data are left out.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import html
import os
import pathlib

from dr_keras import whole_files
from dr_keras.analysis import plots
from dr_keras.evaluation.results import validate
from dr_keras.evaluation.verdict import percent

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
caption { text-align: left; color: var(--soft); font-size: .9rem; padding-bottom: .3rem; }
th, td { padding: .35rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child, .text { text-align: left; }
.text { display: inline-block; min-width: 11rem; white-space: normal; overflow-wrap: anywhere; }
th { white-space: normal; }
tr.candidate td { font-weight: 700; }
.example { border: 1px solid var(--line); border-radius: .3rem; margin: .6rem 0; }
.example header { background: var(--box); padding: .3rem .7rem; font-size: .85rem;
  color: var(--soft); }
pre { margin: 0; padding: .6rem .7rem; white-space: pre-wrap; overflow-wrap: anywhere;
  font: .85rem/1.45 ui-monospace, Menlo, Consolas, monospace; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--accent); }
"""


@dataclasses.dataclass(frozen=True)
class ScoredExamples:
    """Scores of single examples with what is known about their damage, [N] each.

    Attributes:
        scores: higher is better.
        levels: damage in [0, 1], 0 clean, NaN unknown.
        kinds: kind of damage; anything for clean and unknown ones.
    """

    scores: Sequence[float]
    levels: Sequence[float]
    kinds: Sequence[str | None]


def _text(value) -> str:
    return html.escape(str(value), quote=True)


def _count(value) -> str:
    return "–" if value is None else f"{value:,}"


def _number(value, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], bold=None) -> str:
    """A table; cells are HTML already. `bold` is the first cell of the row to stress."""
    lines = [f"<table><caption>{_text(caption)}</caption><thead><tr>"]
    lines += [f'<th scope="col">{_text(name)}</th>' for name in head]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        marked = ' class="candidate"' if row[0] == bold else ""
        lines.append(f"<tr{marked}>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>")
    return '<div class="scroll">' + "".join(lines) + "</tbody></table></div>"


def _figure(figure, description: str, prefix: str, caption: str) -> str:
    svg = plots.to_svg(figure, description, prefix)
    return f"<figure>{svg}<figcaption>{_text(caption)}</figcaption></figure>"


def _curves_description(comparison: Mapping) -> str:
    ends = ", ".join(f"{n} {a['final']['mean']:.3f}" for n, a in comparison["arms"].items())
    return (
        f"Test loss against training steps of {comparison['name']}. Final losses in nats per "
        f"token: {ends}."
    )


def _match_cells(match: Mapping, is_reference: bool) -> tuple[str, str]:
    if is_reference:
        return "reference", "–"
    if match["steps"] is None:
        return "not reached", "–"
    return f"{match['steps']:.0f}", percent(match["share"])


def _arms_table(comparison: Mapping) -> str:
    rows = []
    for name, arm in comparison["arms"].items():
        final, match = arm["final"], arm["match"]
        spread = "" if final["spread"] is None else f" ± {final['spread']:.3f}"
        discarded = arm.get("discard_fraction")
        rows.append(
            (
                _text(name),
                percent(discarded, 1) if discarded is not None else "–",
                _count(arm["unique_tokens"]),
                _count(arm["tokens_seen"]),
                _number(arm.get("epochs"), 1),
                f"{final['mean']:.3f}{spread}",
                *_match_cells(match, name == comparison["reference"]),
            )
        )
    head = (
        "arm", "discarded", "unique tokens", "tokens seen", "epochs", "final test loss",
        "steps to match", "share",
    )
    seeds = len(comparison["seeds"])
    caption = (
        f"{comparison['name']}: {comparison['model']['parameters']:,} parameters, "
        f"{comparison['steps']:,} steps of {comparison['batch_size']} × "
        f"{comparison['sequence_length']} tokens, {seeds} seed{'' if seeds == 1 else 's'}. "
        "Loss in nats per token, mean ± standard deviation over seeds. “Steps to match” are "
        f"those needed to reach the final loss of {comparison['reference']}."
    )
    table = _table(caption, head, rows, _text(comparison["candidate"]))
    described = [
        f"<li><b>{_text(name)}</b>: {_text(arm['description'])}</li>"
        for name, arm in comparison["arms"].items()
        if arm.get("description")
    ]
    return table + (f"<ul>{''.join(described)}</ul>" if described else "")


def _quality_rows(rater: Mapping) -> list[tuple[str, ...]]:
    rows = [("all kinds", rater)] + list(rater.get("by_damage", {}).items())
    return [
        (
            _text(name.replace("_", " ")),
            _count(figures.get("damaged")),
            _number(figures.get("auc")),
            _number(figures.get("auc_all")),
            _number(figures.get("spearman"), 2),
        )
        for name, figures in rows
    ]


def _quality(rater: Mapping, scored: ScoredExamples | None) -> str:
    parts = ["<h2>Does the score follow the damage?</h2>"]
    if "auc" in rater:
        level = rater.get("minimum_level", 0.0)
        parts.append(
            "<p>The rater never saw which texts were damaged. AUC is the chance that a clean text "
            "scores above a damaged one (0.5 is chance, 1 perfect); the rank correlation of score "
            "and level among the damaged should be close to −1.</p>"
        )
        where = f"Measured on {rater['measured_on']}: " if rater.get("measured_on") else ""
        parts.append(
            _table(
                f"{where}{rater.get('clean', 0):,} clean texts.",
                ("damage", "damaged texts", f"AUC, level ≥ {level:g}", "AUC, all levels",
                 "rank correlation"),
                _quality_rows(rater),
            )
        )
    if rater.get("reason"):
        parts.append(f'<p class="note">Not measured: {_text(rater["reason"])}.</p>')
    if scored is not None and len(scored.scores):
        parts.append(
            _figure(
                plots.score_histogram(scored.scores, scored.levels),
                "Histogram of scores of clean and of damaged texts.",
                "histogram",
                "Scores, each group scaled to 100%.",
            )
        )
        if any(level > 0 for level in scored.levels):
            parts.append(
                _figure(
                    plots.score_against_level(scored.scores, scored.levels, scored.kinds),
                    "Score against level of damage, one panel for each kind of damage.",
                    "levels",
                    "Dots: single texts (a sample). Line: running median. Dashed: median of clean "
                    "texts.",
                )
            )
    return "".join(parts) if len(parts) > 1 else ""


def _example(example: Mapping) -> str:
    facts = []
    if example.get("percentile") is not None:
        facts.append(f"percentile {100 * float(example['percentile']):.1f}")
    if example.get("score") is not None:
        facts.append(f"score {float(example['score']):.3f}")
    if example.get("source"):
        facts.append(f"source {example['source']}")
    level = example.get("level")
    if level is not None and level == level:
        kind = str(example.get("damage") or "damaged").replace("_", " ")
        facts.append("clean" if level == 0 else f"{kind}, level {level:.2f}")
    facts.append(str(example.get("id", "")))
    header = " · ".join(_text(fact) for fact in facts if fact)
    text = _text(example["text"])
    return f'<div class="example"><header>{header}</header><pre>{text}</pre></div>'


def _examples(examples: Mapping[str, Sequence[Mapping]] | None) -> str:
    if not examples or not any(examples.values()):
        return ""
    parts = [
        "<h2>What it rates lowest and highest</h2>",
        '<p class="note">Percentile: position among the scores of the training texts; 0 is the '
        "worst. Level and kind of damage are shown for the reader; the rater was not told.</p>",
    ]
    for title, group in examples.items():
        if group:
            parts.append(f"<h3>{_text(title)}</h3>" + "".join(_example(e) for e in group))
    return "".join(parts)


def _corpus(corpus: Mapping) -> str:
    rows = [
        (
            _text(part),
            _count(figures.get("documents")),
            _count(figures["examples"]),
            _count(figures["unique_tokens"]),
            f'<span class="text">{_text(_shares(figures.get("by_source", {})))}</span>',
            f'<span class="text">{_text(_shares(figures.get("by_damage", {})))}</span>',
        )
        for part, figures in corpus["parts"].items()
    ]
    return (
        "<h2>The corpus</h2>"
        f"<p>{_text(corpus['name'])}; fingerprint <code>{_text(corpus['fingerprint'][:16])}</code>."
        " The parts share no document: train feeds the models, outer guides the rater, validation "
        "chooses among its checkpoints, and test was used for nothing but the losses above.</p>"
        + _table(
            "Parts by a hash of the document's content.",
            ("part", "documents", "examples", "unique tokens", "sources", "damage"),
            rows,
        )
    )


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    if not total:
        return "–"
    largest = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{name.replace('_', ' ')} {100 * count / total:.0f}%" for name, count in largest[:8]]
    return ", ".join(shown) + (f" and {len(largest) - 8} more" if len(largest) > 8 else "")


def _cost(results: Mapping) -> str:
    stages = results["stages"]
    if not stages:
        return ""
    rows = [
        (
            _text(name.replace("_", " ")),
            _duration(stage["seconds"]),
            "–"
            if stage["peak_memory_bytes"] is None
            else f"{stage['peak_memory_bytes'] / 2**20:,.0f} MiB",
        )
        for name, stage in stages.items()
    ]
    total = sum(stage["seconds"] for stage in stages.values())
    return "<h2>What it cost</h2>" + _table(
        f"Wall time, {_duration(total)} in all, and peak memory of the process.",
        ("stage", "time", "peak memory"),
        rows,
    )


def _settings(results: Mapping) -> str:
    rows = [
        (_text(name), f'<span class="text">{_text(value)}</span>')
        for group in ("settings", "versions")
        for name, value in dict(results[group]).items()
    ]
    return (
        "<details><summary>Settings and versions</summary>"
        + _table(f"Written {results['created']}", ("name", "value"), rows)
        + "</details>"
    )


def render_report(
    results: Mapping,
    *,
    scored: ScoredExamples | None = None,
    meta_curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] | None = None,
    examples: Mapping[str, Sequence[Mapping]] | None = None,
) -> str:
    """The page as text; arguments as for `write_report`."""
    validate(results)
    headline, comparisons = results["headline"], results["comparisons"]
    main = comparisons[0]
    figures = [main["verdict"]["figures"] + "."] if main["verdict"].get("figures") else []
    if headline["auc"] is not None:
        figures.append(f"The rater tells clean from damaged text with AUC {headline['auc']:.3f}.")
    if headline["steps_to_match"] is not None:
        figures.append(
            f"Steps to match {main['reference']}: {headline['steps_to_match']:.0f} of "
            f"{main['steps']}."
        )
    body = [
        f"<h1>{_text(results['title'])}</h1>",
        f'<p class="answer {_text(headline["outcome"])}">{_text(headline["text"])}'
        f"<small>{_text(' '.join(figures))}</small></p>",
        _figure(
            plots.loss_curves(main),
            _curves_description(main),
            "answer",
            "Loss on the test part while training; lower is better. Bands: standard deviation over "
            "seeds. The first steps run off the top.",
        ),
    ]
    body += [_arms_table(comparison) for comparison in comparisons]
    body.append(
        "<p>Every arm trains the same model from random weights for the same number of steps on "
        "batches of the same size; the arms differ only in the data they may draw from. An arm "
        "with fewer unique tokens repeats them more often. An arm counts as better only where the "
        "difference of the means exceeds the sum of both spreads.</p>"
    )
    for k, comparison in enumerate(comparisons[1:], 1):
        answer = _text(comparison["verdict"]["text"])
        body.append(f"<h2>{_text(comparison['name'])}</h2><p>{answer}</p>")
        figure = plots.loss_curves(comparison)
        body.append(_figure(figure, _curves_description(comparison), f"curves{k}", ""))
    body.append(
        "<details><summary>Every seed by itself</summary>"
        + _figure(
            plots.loss_curves(main, seeds=True), _curves_description(main), "seeds",
            "One line a seed.",
        )
        + "</details>"
    )
    body.append(_quality(results["rater"], scored))
    panels = {title: lines for title, lines in (meta_curves or {}).items() if any(lines.values())}
    if panels:
        body.append("<h2>How the rater was trained</h2>")
        body.append(
            _figure(
                plots.meta_curves(panels),
                f"Curves of meta-training: {', '.join(panels)}.",
                "meta",
                "Meta-training: the outer loss is what the rater is trained to lower.",
            )
        )
    body += [_examples(examples), _corpus(results["corpus"]), _cost(results), _settings(results)]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(results['title'])}</title><style>{_CSS}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def write_report(
    results: Mapping,
    path: str | os.PathLike,
    *,
    scored: ScoredExamples | None = None,
    meta_curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]] | None = None,
    examples: Mapping[str, Sequence[Mapping]] | None = None,
) -> pathlib.Path:
    """Writes report.html, under a temporary name first.

    Args:
        results: as in results.json; validated. The first comparison gives the main picture.
        path: of the page.
        scored: single scores with levels and kinds of damage, for the two score figures.
        meta_curves: panel title -> line label -> [(meta-step, value)].
        examples: heading -> examples, each with "text" and, where known, "id", "source", "score",
            "percentile" (0 to 1), "level" and "damage".

    Raises:
        DataError: `results` is not of the schema.
    """
    page = render_report(results, scored=scored, meta_curves=meta_curves, examples=examples)
    path = pathlib.Path(path)
    # Text from a wrong decoding may hold lone surrogates, which UTF-8 cannot.
    whole_files.write_text(path, page, errors="replace")
    return path
