"""What the rater learned: damage, sources, features of texts, meta-training, both extremes."""

from collections.abc import Mapping

from dr_keras.report import learned_plots
from dr_keras.report.page import (
    Block,
    Example,
    Figure,
    Heading,
    Paragraph,
    Photograph,
    Section,
    Table,
    section,
)
from dr_keras.report.words import count, number, shares, spaced
from dr_keras.studies.results import Results


@section("pictures", place=60)
def pictures(results: Results) -> Section | None:
    """What the kind of data adds."""
    blocks: list[Block] = []
    for picture in results.pictures:
        blocks += [Heading(picture.heading), Photograph(picture)]
    return Section("The data, as the rater sees it", blocks) if blocks else None


@section("learned", place=70)
def learned(results: Results) -> Section | None:
    """Scores by source, and against figures of the text."""
    found, blocks = results.findings, []
    where = f"on {found['sample']:,} windows of the train part, evenly spread" if (
        "sample" in found
    ) else "of the train part"  # fmt: skip
    if "distributions" in found:
        blocks.append(
            Figure(
                lambda: learned_plots.score_boxes(found["distributions"]),
                "Scores of the train part by source.",
                "Scores by source, the lowest mean percentile first: boxes from quartile to"
                " quartile, lines from 5% to 95%.",
            )
        )
    if len(found.get("sources", {}).get("shares", ())) > 1:
        blocks.append(
            Figure(
                lambda: learned_plots.source_mixture(found["sources"]),
                "Share of each source in what is kept, against the share that is dropped.",
                "What is kept, by source, as more of the lowest-rated is dropped.",
            )
        )
    if "correlations" in found:
        blocks.append(
            Figure(
                lambda: learned_plots.correlation_bars(found["correlations"]),
                "Rank correlation of the score with heuristics, length, perplexity and damage.",
                f"Rank correlation of the score with each figure of the text, {where}; the dot is"
                " the mean of the correlations within each source.",
            )
        )
    lasso = found.get("lasso")
    if lasso and lasso.get("reason"):
        blocks.append(Paragraph(f"No Lasso: {lasso['reason']}.", note=True))
    elif lasso:
        blocks.append(
            Figure(
                lambda: learned_plots.lasso_bars(lasso),
                "Coefficients of a cross-validated Lasso of the score on all of these.",
                "A cross-validated Lasso of the score on all of these at once: what it leaves in,"
                " and how much of the score's variance that explains.",
            )
        )
    return Section("What the rater learned", blocks)


@section("damage", place=80)
def damage(results: Results) -> Section:
    """How scores follow known damage."""
    quality, scores = results.rater.quality, results.findings.get("scores")
    blocks: list[Block] = []
    if quality.examples is not None:
        kinds = {"all kinds": quality, **quality.by_damage}
        where = f"Measured on {quality.measured_on}: " if quality.measured_on else ""
        blocks = [
            Paragraph(
                "The rater never saw which examples were damaged. AUC is the chance that a clean"
                " example scores above a damaged one (0.5 is chance, 1 perfect); the rank"
                " correlation of score and level among the damaged should be close to −1."
            ),
            Table.of_columns(
                f"{where}{quality.clean or 0:,} clean examples.",
                {
                    "damage": [spaced(name) for name in kinds],
                    "damaged": [count(q.damaged) for q in kinds.values()],
                    f"AUC, level ≥ {quality.minimum_level or 0:g}": [
                        number(q.auc) for q in kinds.values()
                    ],
                    "AUC, all levels": [number(q.auc_all) for q in kinds.values()],
                    "rank correlation": [number(q.spearman, 2) for q in kinds.values()],
                },
            ),
        ]
    if quality.reason:
        blocks.append(Paragraph(f"Not measured: {quality.reason}.", note=True))
    if scores and set(scores["groups"]) - {"level unknown"}:
        blocks.append(
            Figure(
                lambda: learned_plots.score_histogram(scores),
                "Histogram of scores of clean and of damaged examples.",
                "Scores of the train part, each group scaled to 100%.",
            )
        )
    if scores and scores["kinds"]:
        blocks.append(
            Figure(
                lambda: learned_plots.score_against_level(scores),
                "Score against level of damage, one panel for each kind of damage.",
                "Dots: single examples (a sample). Line: running median. Dashed: median of clean"
                " examples.",
            )
        )
    return Section("Does the score follow the damage?", blocks)


@section("meta_training", place=90)
def meta_training(results: Results) -> Section:
    """How the rater was trained."""
    found, blocks = results.findings, []
    curves, norms = found.get("meta_curves"), found.get("meta_gradient_norm")
    agreement = found.get("agreement")
    if curves:
        blocks.append(
            Figure(
                lambda: learned_plots.meta_curves(curves),
                f"Curves of meta-training: {', '.join(curves)}.",
                "Meta-training: the outer loss is what the rater is trained to lower.",
            )
        )
    if norms and norms["meta_steps"]:
        blocks.append(
            Figure(
                lambda: learned_plots.meta_gradient_curve(norms),
                "Norm of the meta-gradient through training.",
                "Norm of the meta-gradient: mean of the population and every member.",
            )
        )
    if agreement and len(agreement["meta_steps"]) > 1:
        blocks.append(
            Figure(
                lambda: learned_plots.agreement_curves(agreement),
                "Rank correlation of the scores of successive checkpoints.",
                "Do checkpoints agree? Rank correlation of their scores, each with the next and"
                " with the last.",
            )
        )
    return Section("How the rater was trained", blocks)


def _example(example: Mapping) -> Example:
    facts = []
    if example.get("percentile") is not None:
        facts.append(f"percentile {100 * float(example['percentile']):.1f}")
    if example.get("score") is not None:
        facts.append(f"score {float(example['score']):.3f}")
    if example.get("source"):
        facts.append(f"source {example['source']}")
    level = example.get("level")
    if level is not None and level == level:
        kind = spaced(str(example.get("damage") or "damaged"))
        facts.append("clean" if level == 0 else f"{kind}, level {level:.2f}")
    facts.append(str(example.get("id", "")))
    return Example(" · ".join(fact for fact in facts if fact), example["text"])


@section("extremes", place=100)
def extremes(results: Results) -> Section | None:
    """The lowest- and highest-rated examples."""
    found = {title: group for title, group in results.findings.get("extremes", {}).items() if group}
    if not found:
        return None
    note = (
        "Percentile: position among the scores of the training texts; 0 is the worst. Level and"
        " kind of damage are shown for the reader; the rater was not told."
    )
    blocks: list[Block] = [Paragraph(note, note=True)]
    for title, group in found.items():
        blocks += [Heading(title), *map(_example, group)]
    return Section("What it rates lowest and highest", blocks)


@section("corpus", place=110)
def corpus(results: Results) -> Section:
    """What the parts hold."""
    found = results.corpus
    text = any(part.unique_tokens != part.examples for part in found.parts.values())
    parts = list(found.parts.values())
    return Section(
        "The corpus",
        [
            Paragraph(
                f"{found.name}; fingerprint {found.fingerprint[:16]}. The parts share no document:"
                " train feeds the models, outer guides the rater, validation chooses its checkpoint"
                " and the discard fraction, and test was used for nothing but what is reported."
            ),
            Table.of_columns(
                "Parts by a hash of the content.",
                {
                    "part": list(found.parts),
                    "documents": [count(part.documents) for part in parts],
                    "examples": [count(part.examples) for part in parts],
                    "unique tokens": [count(p.unique_tokens) if text else None for p in parts],
                    "sources": [shares(part.by_source) for part in parts],
                    "damage": [shares(part.by_damage) for part in parts],
                },
                wide=["sources", "damage"],
            ),
        ],
    )
