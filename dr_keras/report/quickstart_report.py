"""`report.html`: one page, no network, that a reader who did not run the study can follow.

The order is that of a reader's questions: the answer in one sentence and one picture; the figures
behind it; what was compared, on what, and what it cost; then how the rater scores, how it was
trained, and what it rates lowest and highest. All of it comes from `results.json`
(`dr_keras.studies.results`) except the single scores, meta-training curves and texts, which are
handed over beside it. Sections without data are left out.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib

from dr_keras.report import page, plots
from dr_keras.studies.former_results import validate
from dr_keras.studies.verdict import percent
from dr_keras.system import whole_files


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
                page.text(name),
                percent(discarded, 1) if discarded is not None else "–",
                page.count(arm["unique_tokens"]),
                page.count(arm["tokens_seen"]),
                page.number(arm.get("epochs"), 1),
                f"{final['mean']:.3f}{spread}",
                *_match_cells(match, name == comparison["reference"]),
            )
        )
    head = (
        "arm",
        "discarded",
        "unique tokens",
        "tokens seen",
        "epochs",
        "final test loss",
        "steps to match",
        "share",
    )
    seeds = len(comparison["seeds"])
    caption = (
        f"{comparison['name']}: {comparison['model']['parameters']:,} parameters, "
        f"{comparison['steps']:,} steps of {comparison['batch_size']} × "
        f"{comparison['sequence_length']} tokens, {seeds} seed{'' if seeds == 1 else 's'}. "
        "Loss in nats per token, mean ± standard deviation over seeds. “Steps to match” are "
        f"those needed to reach the final loss of {comparison['reference']}."
    )
    table = page.table(caption, head, rows, page.text(comparison["candidate"]))
    described = [
        f"<li><b>{page.text(name)}</b>: {page.text(arm['description'])}</li>"
        for name, arm in comparison["arms"].items()
        if arm.get("description")
    ]
    return table + (f"<ul>{''.join(described)}</ul>" if described else "")


def _quality_rows(rater: Mapping) -> list[tuple[str, ...]]:
    rows = [("all kinds", rater)] + list(rater.get("by_damage", {}).items())
    return [
        (
            page.text(name.replace("_", " ")),
            page.count(figures.get("damaged")),
            page.number(figures.get("auc")),
            page.number(figures.get("auc_all")),
            page.number(figures.get("spearman"), 2),
        )
        for name, figures in rows
    ]


def quality_section(rater: Mapping, scored: ScoredExamples | None) -> str:
    """HTML on how scores follow known damage, from a `rater` section of results."""
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
            page.table(
                f"{where}{rater.get('clean', 0):,} clean texts.",
                (
                    "damage",
                    "damaged texts",
                    f"AUC, level ≥ {level:g}",
                    "AUC, all levels",
                    "rank correlation",
                ),
                _quality_rows(rater),
            )
        )
    if rater.get("reason"):
        parts.append(f'<p class="note">Not measured: {page.text(rater["reason"])}.</p>')
    if scored is not None and len(scored.scores):
        parts.append(
            page.figure(
                plots.score_histogram(scored.scores, scored.levels),
                "Histogram of scores of clean and of damaged texts.",
                "histogram",
                "Scores, each group scaled to 100%.",
            )
        )
        if any(level > 0 for level in scored.levels):
            parts.append(
                page.figure(
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
    header = " · ".join(page.text(fact) for fact in facts if fact)
    text = page.text(example["text"])
    return f'<div class="example"><header>{header}</header><pre>{text}</pre></div>'


def extremes_section(examples: Mapping[str, Sequence[Mapping]] | None) -> str:
    """HTML of the lowest- and highest-rated examples; see `write_report`."""
    if not examples or not any(examples.values()):
        return ""
    parts = [
        "<h2>What it rates lowest and highest</h2>",
        '<p class="note">Percentile: position among the scores of the training texts; 0 is the '
        "worst. Level and kind of damage are shown for the reader; the rater was not told.</p>",
    ]
    for title, group in examples.items():
        if group:
            parts.append(f"<h3>{page.text(title)}</h3>" + "".join(_example(e) for e in group))
    return "".join(parts)


def _corpus(corpus: Mapping) -> str:
    rows = [
        (
            page.text(part),
            page.count(figures.get("documents")),
            page.count(figures["examples"]),
            page.count(figures["unique_tokens"]),
            f'<span class="text">{page.text(page.shares(figures.get("by_source", {})))}</span>',
            f'<span class="text">{page.text(page.shares(figures.get("by_damage", {})))}</span>',
        )
        for part, figures in corpus["parts"].items()
    ]
    return (
        "<h2>The corpus</h2>"
        f"<p>{page.text(corpus['name'])}; fingerprint"
        f" <code>{page.text(corpus['fingerprint'][:16])}</code>."
        " The parts share no document: train feeds the models, outer guides the rater, validation "
        "chooses among its checkpoints, and test was used for nothing but the losses above.</p>"
        + page.table(
            "Parts by a hash of the document's content.",
            ("part", "documents", "examples", "unique tokens", "sources", "damage"),
            rows,
        )
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
        f"<h1>{page.text(results['title'])}</h1>",
        f'<p class="answer {page.text(headline["outcome"])}">{page.text(headline["text"])}'
        f"<small>{page.text(' '.join(figures))}</small></p>",
        page.figure(
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
        answer = page.text(comparison["verdict"]["text"])
        body.append(f"<h2>{page.text(comparison['name'])}</h2><p>{answer}</p>")
        figure = plots.loss_curves(comparison)
        body.append(page.figure(figure, _curves_description(comparison), f"curves{k}", ""))
    body.append(
        "<details><summary>Every seed by itself</summary>"
        + page.figure(
            plots.loss_curves(main, seeds=True),
            _curves_description(main),
            "seeds",
            "One line a seed.",
        )
        + "</details>"
    )
    body.append(quality_section(results["rater"], scored))
    panels = {title: lines for title, lines in (meta_curves or {}).items() if any(lines.values())}
    if panels:
        body.append("<h2>How the rater was trained</h2>")
        body.append(
            page.figure(
                plots.meta_curves(panels),
                f"Curves of meta-training: {', '.join(panels)}.",
                "meta",
                "Meta-training: the outer loss is what the rater is trained to lower.",
            )
        )
    body += [extremes_section(examples), _corpus(results["corpus"])]
    body += [page.cost(results), page.settings(results)]
    return page.whole(results["title"], body)


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
    content = render_report(results, scored=scored, meta_curves=meta_curves, examples=examples)
    path = pathlib.Path(path)
    # Text from a wrong decoding may hold lone surrogates, which UTF-8 cannot.
    whole_files.write_text(path, content, errors="replace")
    return path
