"""What the quick start reports: results.json, report.html, and a table for the terminal."""

import pathlib

import numpy as np

from dr_keras.config import run_configuration
from dr_keras.data.documents import Document
from dr_keras.meta.callbacks import read_metrics
from dr_keras.rating.score_files import read_scores
from dr_keras.report.quickstart_report import ScoredExamples, write_report
from dr_keras.serving.loading import load_rater
from dr_keras.studies import results, verdict
from dr_keras.training.metrics import rater_quality


def write(
    base_dir: pathlib.Path,
    train: list[Document],
    corpus: dict,
    exported: dict,
    kept: dict,
    comparison: dict,
    timings: dict,
    title: str,
) -> dict:
    """Writes results.json and report.html.

    Args:
      base_dir: the run directory, with the filter's scores.
      train: documents of the train part.
      corpus: the `corpus` section of the results.
      exported: the export stage's result.
      kept: the filter's manifest.
      comparison: one comparison of the results, without verdict but with "too_small".
      timings: the `stages` section of the results.
      title: of the report.

    Returns:
      The results.
    """
    scored = _scored(base_dir, train)
    labels = [d.level for d, _, _ in scored]
    quality = {"reason": "no damage of known level in this corpus"}
    if any(level is not None for level in labels):
        quality = rater_quality(
            [score for _, score, _ in scored],
            [np.nan if level is None else level for level in labels],
            [d.damage for d, _, _ in scored],
            measured_on=f"all {len(scored):,} documents of the train part",
        )
    rater = load_rater(str(base_dir / exported["path"]))
    training = rater.metadata["training"]
    quality |= {
        "parameters": rater.metadata["parameters"],
        "meta_step": training["meta_step"],
        "fingerprint": rater.fingerprint,
    }
    comparison = dict(comparison)
    too_small = comparison.pop("too_small")
    comparison["verdict"] = verdict.judge(comparison["arms"], too_small=too_small)
    found = results.assemble(
        study="quickstart",
        title=title,
        corpus=corpus,
        rater=quality,
        comparisons=[comparison],
        stages=timings,
        settings={
            "filter": kept["settings"],
            "achieved_discard_fraction": kept["achieved_fraction"],
            "chosen_rater": training["chosen"],
            "configuration": run_configuration.PARSED_CONFIG,
        },
        meta_training={"epochs": read_metrics(base_dir, "epoch")},
    )
    results.write_results(found, base_dir / "results.json")
    known = any(level is not None for level in labels)
    write_report(
        found,
        base_dir / "report.html",
        scored=_scored_examples(scored) if known else None,
        meta_curves=_meta_curves(base_dir),
        examples=_extremes(scored),
    )
    return found


def _scored(base_dir: pathlib.Path, train: list[Document]) -> list[tuple[Document, float, float]]:
    """(document, score, percentile) of the train part, from the filter's score file."""
    scores = read_scores(base_dir / "filtered" / "scores.parquet")
    rows = scores.rows()
    return [
        (d, float(scores.score[rows[d.id]]), float(scores.percentile[rows[d.id]])) for d in train
    ]


def _scored_examples(scored) -> ScoredExamples:
    return ScoredExamples(
        [score for _, score, _ in scored],
        [np.nan if d.level is None else d.level for d, _, _ in scored],
        [d.damage for d, _, _ in scored],
    )


def _extremes(scored, count: int = 8) -> dict[str, list[dict]]:
    order = np.argsort([score for _, score, _ in scored], kind="stable")

    def shown(row: int) -> dict:
        document, score, percentile = scored[row]
        return {
            "text": document.text[:600],
            "id": document.id,
            "source": document.source,
            "score": score,
            "percentile": percentile,
            "level": document.level,
            "damage": document.damage,
        }

    return {
        "Rated lowest": [shown(int(row)) for row in order[:count]],
        "Rated highest": [shown(int(row)) for row in order[::-1][:count]],
    }


def _meta_curves(base_dir: pathlib.Path) -> dict[str, dict[str, list]]:
    """Panels of the report: losses, validation, gradient norms, sharpness of the weights."""
    steps, epochs = read_metrics(base_dir, "step"), read_metrics(base_dir, "epoch")

    def curve(records, name):
        return [(r["meta_step"], r[name]) for r in records if r.get(name) is not None]

    return {
        "Outer loss": {"mean over members": curve(steps, "outer_loss")},
        "Inner loss around the unroll": {
            "before": curve(steps, "inner_loss_before"),
            "after": curve(steps, "inner_loss_after"),
        },
        "Meta-evaluation: validation loss": {
            "with the rater": curve(epochs, "validation_loss"),
            "random choice": curve(epochs, "random_validation_loss"),
        },
        "Meta-gradient norm": {"mean over members": curve(steps, "meta_gradient_norm")},
        "Effective sample size": {"mean over members": curve(steps, "effective_sample_size")},
    }


def table(found: dict) -> str:
    """The comparison as a few lines of text for a terminal."""
    comparison = found["comparisons"][0]
    lines = [f"{'arm':<12}{'unique tokens':>15}{'final test loss':>20}{'steps to match':>17}"]
    for name, arm in comparison["arms"].items():
        final, match = arm["final"], arm["match"]
        spread = f" ± {final['spread']:.3f}" if final["spread"] is not None else ""
        reached = "not reached" if match["steps"] is None else f"{match['share']:.0%}"
        loss = f"{final['mean']:.3f}{spread}"
        lines.append(f"{name:<12}{arm['unique_tokens']:>15,}{loss:>20}{reached:>17}")
    quality = found["rater"]
    if quality.get("auc") is not None:
        lines.append(
            f"AUC of clean against damaged {quality['auc']:.3f} (level at least"
            f" {quality['minimum_level']:g}), {quality['auc_all']:.3f} (all);"
            f" rank correlation with the level {quality['spearman']:.2f}"
        )
    return "\n".join(lines)
