"""What the rater learned: damage, sources, features of texts, meta-training, both extremes."""

from collections.abc import Callable, Mapping
import functools

from dr_keras.report import learned_plots, page
from dr_keras.studies.results import Results


@page.section("pictures", place=60)
def pictures(results: Results) -> page.Section | None:
    """What the kind of data adds."""
    blocks: list[page.Block] = []
    for picture in results.pictures:
        blocks += [page.Heading(picture.heading), page.Photograph(picture)]
    return page.Section("The data, as the rater sees it", blocks) if blocks else None


def _figures(
    found: Mapping, figures: Mapping[str, tuple[Callable, str, str]], absent: Mapping[str, bool]
) -> list[page.Block]:
    """The figures (drawing function, description, caption) of the findings that there are."""
    return [
        page.Figure(functools.partial(draw, found[key]), description, caption)
        for key, (draw, description, caption) in figures.items()
        if found.get(key) and not absent.get(key)
    ]


@page.section("learned", place=70)
def learned(results: Results) -> page.Section:
    """Scores by source, and against figures of the text."""
    found = results.findings
    where = f"on {found.get('sample', 0):,} windows of the train part, evenly spread"
    lasso = found.get("lasso", {}).get("reason")
    figures = {
        "distributions": (
            learned_plots.score_boxes,
            "Scores of the train part by source.",
            "Scores by source, the lowest mean percentile first: boxes from quartile to quartile,"
            " lines from 5% to 95%.",
        ),
        "sources": (
            learned_plots.source_mixture,
            "Share of each source in what is kept, against the share that is dropped.",
            "What is kept, by source, as more of the lowest-rated is dropped.",
        ),
        "correlations": (
            learned_plots.correlation_bars,
            "Rank correlation of the score with heuristics, length, perplexity and damage.",
            f"Rank correlation of the score with each figure of the text, {where}; the dot is the"
            " mean of the correlations within each source.",
        ),
        "lasso": (
            learned_plots.lasso_bars,
            "Coefficients of a cross-validated Lasso of the score on all of these.",
            "A cross-validated Lasso of the score on all of these at once: what it leaves in, and"
            " how much of the score's variance that explains.",
        ),
    }
    absent = {"lasso": bool(lasso), "sources": len(found.get("sources", {}).get("shares", ())) < 2}
    blocks: list[page.Block] = _figures(found, figures, absent)
    if lasso:
        blocks.append(page.Paragraph(f"No Lasso: {lasso}.", note=True))
    return page.Section("What the rater learned", blocks)


@page.section("damage", place=80)
def damage(results: Results) -> page.Section | None:
    """How scores follow known damage."""
    if results.rater is None:
        return None
    quality, scores = results.rater.quality, results.findings.get("scores")
    blocks: list[page.Block] = []
    if quality.examples is not None:
        kinds = {"all kinds": quality, **quality.by_damage}
        where = f"Measured on {quality.measured_on}: " if quality.measured_on else ""
        blocks = [
            page.Paragraph(
                "The rater never saw which examples were damaged. AUC is the chance that a clean"
                " example scores above a damaged one (0.5 is chance, 1 perfect); the rank"
                " correlation of score and level among the damaged should be close to −1."
            ),
            page.Table.of(
                f"{where}{quality.clean or 0:,} clean examples.",
                [
                    {
                        "damage": page.spaced(name),
                        "damaged": page.number(of_kind.damaged, 0),
                        f"AUC, level ≥ {quality.minimum_level or 0:g}": page.number(of_kind.auc),
                        "AUC, all levels": page.number(of_kind.auc_all),
                        "rank correlation": page.number(of_kind.spearman, 2),
                    }
                    for name, of_kind in kinds.items()
                ],
            ),
        ]
    if quality.reason:
        blocks.append(page.Paragraph(f"Not measured: {quality.reason}.", note=True))
    if scores and set(scores["groups"]) - {"level unknown"}:
        blocks.append(
            page.Figure(
                lambda: learned_plots.score_histogram(scores),
                "Histogram of scores of clean and of damaged examples.",
                "Scores of the train part, each group scaled to 100%.",
            )
        )
    if scores and scores["kinds"]:
        blocks.append(
            page.Figure(
                lambda: learned_plots.score_against_level(scores),
                "Score against level of damage, one panel for each kind of damage.",
                "Dots: single examples (a sample). Line: running median. Dashed: median of clean"
                " examples.",
            )
        )
    return page.Section("Does the score follow the damage?", blocks)


@page.section("meta_training", place=90)
def meta_training(results: Results) -> page.Section:
    """How the rater was trained."""
    found = results.findings
    figures = {
        "meta_curves": (
            learned_plots.meta_curves,
            f"Curves of meta-training: {', '.join(found.get('meta_curves', ()))}.",
            "Meta-training: the outer loss is what the rater is trained to lower.",
        ),
        "meta_gradient_norm": (
            learned_plots.meta_gradient_curve,
            "Norm of the meta-gradient through training.",
            "Norm of the meta-gradient: mean of the population and every member.",
        ),
        "agreement": (
            learned_plots.agreement_curves,
            "Rank correlation of the scores of successive checkpoints.",
            "Do checkpoints agree? Rank correlation of their scores, each with the next and with"
            " the last.",
        ),
    }
    absent = {
        "meta_gradient_norm": not found.get("meta_gradient_norm", {}).get("meta_steps"),
        "agreement": len(found.get("agreement", {}).get("meta_steps", ())) < 2,
    }
    return page.Section("How the rater was trained", _figures(found, figures, absent))


def _example(example: Mapping) -> page.Example:
    facts = []
    if example.get("percentile") is not None:
        facts.append(f"percentile {100 * float(example['percentile']):.1f}")
    if example.get("score") is not None:
        facts.append(f"score {float(example['score']):.3f}")
    if example.get("source"):
        facts.append(f"source {example['source']}")
    level = example.get("level")
    if level is not None and level == level:
        kind = page.spaced(str(example.get("damage") or "damaged"))
        facts.append("clean" if level == 0 else f"{kind}, level {level:.2f}")
    facts.append(str(example.get("id", "")))
    return page.Example(" · ".join(fact for fact in facts if fact), example["text"])


@page.section("extremes", place=110)
def extremes(results: Results) -> page.Section | None:
    """The lowest- and highest-rated examples."""
    found = {title: group for title, group in results.findings.get("extremes", {}).items() if group}
    if not found:
        return None
    note = (
        "Percentile: position among the scores of the training texts; 0 is the worst. Level and"
        " kind of damage are shown for the reader; the rater was not told."
    )
    blocks: list[page.Block] = [page.Paragraph(note, note=True)]
    for title, group in found.items():
        blocks += [page.Heading(title), *map(_example, group)]
    return page.Section("What it rates lowest and highest", blocks)


@page.section("corpus", place=120)
def corpus(results: Results) -> page.Section:
    """What the parts hold."""
    found = results.corpus
    text = any(part.unique_tokens != part.examples for part in found.parts.values())
    rows = [
        {
            "part": name,
            "documents": page.number(part.documents, 0),
            "examples": page.number(part.examples, 0),
            "unique tokens": page.number(part.unique_tokens, 0) if text else None,
            "sources": page.shares(part.by_source),
            "damage": page.shares(part.by_damage),
        }
        for name, part in found.parts.items()
    ]
    held_out = ""
    if found.target:
        held_out = f" Outer, validation and test are of the target, {found.target}."
    said = (
        f"{found.name}; fingerprint {found.fingerprint[:16]}.{held_out} The parts share no"
        " document: train feeds the models, outer guides the rater, validation chooses its"
        " checkpoint and the discard fraction, and test was used for nothing but what is reported."
    )
    remarks = [page.Paragraph(remark, note=True) for remark in found.remarks]
    table = page.Table.of("Parts by a hash of the content.", rows, wide=["sources", "damage"])
    return page.Section("The corpus", [page.Paragraph(said), *remarks, table])
