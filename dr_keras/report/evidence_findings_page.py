"""The part of the evidence report about what the rater learned."""

from collections.abc import Mapping

from dr_keras.report import learned_plots, page, plots
from dr_keras.report import quickstart_report as report


def findings(found: Mapping | None) -> str:
    """HTML of the `analysis` section of the results; nothing where there is none."""
    if not found:
        return ""
    body = [
        "<h2>What the rater learned</h2>",
        page.figure(
            learned_plots.score_boxes(found["distributions"]),
            "Scores of the train part by source.",
            "boxes",
            "Scores by source, the lowest mean percentile first: boxes from quartile to quartile,"
            " lines from 5% to 95%.",
        ),
    ]
    if len(found["sources"]["shares"]) > 1:
        body.append(
            page.figure(
                learned_plots.source_mixture(found["sources"]),
                "Share of each source in what is kept, against the share that is dropped.",
                "mixture",
                "What is kept, by source, as more of the lowest-rated is dropped.",
            )
        )
    where = f"on {found['sample']:,} windows of the train part, evenly spread"
    body.append(
        page.figure(
            learned_plots.correlation_bars(found["correlations"]),
            "Rank correlation of the score with heuristics, length, perplexity and damage.",
            "correlations",
            f"Rank correlation of the score with each figure of the text, {where}; the dot is the"
            " mean of the correlations within each source.",
        )
    )
    if found["lasso"].get("reason"):
        body.append(f'<p class="note">No Lasso: {page.text(found["lasso"]["reason"])}.</p>')
    else:
        body.append(
            page.figure(
                learned_plots.lasso_bars(found["lasso"]),
                "Coefficients of a cross-validated Lasso of the score on all of these.",
                "lasso",
                "A cross-validated Lasso of the score on all of these at once: what it leaves in,"
                " and how much of the score's variance that explains.",
            )
        )
    body.append(report.quality_section(found["quality"], None))
    body.append(_meta_training(found["meta_training"]))
    body.append(report.extremes_section(found["extremes"]))
    return "".join(body)


def _meta_training(found: Mapping) -> str:
    if not found:
        return ""
    body = ["<h2>How the rater was trained</h2>"]
    if found["curves"]:
        body.append(
            page.figure(
                plots.meta_curves(found["curves"]),
                f"Curves of meta-training: {', '.join(found['curves'])}.",
                "meta",
                "Meta-training: the outer loss is what the rater is trained to lower.",
            )
        )
    if found["meta_gradient_norm"]["meta_steps"]:
        body.append(
            page.figure(
                learned_plots.meta_gradient_curve(found["meta_gradient_norm"]),
                "Norm of the meta-gradient through training.",
                "norms",
                "Norm of the meta-gradient: mean of the population and every member.",
            )
        )
    if len(found["agreement"]["meta_steps"]) > 1:
        body.append(
            page.figure(
                learned_plots.agreement_curves(found["agreement"]),
                "Rank correlation of the scores of successive checkpoints.",
                "agreement",
                "Do checkpoints agree? Rank correlation of their scores, each with the next and"
                " with the last.",
            )
        )
    return "".join(body)
