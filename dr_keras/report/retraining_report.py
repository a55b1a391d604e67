"""Results and page of the retraining study: `results.json` and `report.html`."""

import base64
from collections.abc import Mapping, Sequence
import dataclasses
import pathlib

from matplotlib.figure import Figure
import numpy as np

from dr_keras.config import run_configuration
from dr_keras.meta.callbacks import read_metrics
from dr_keras.report import page, plots
from dr_keras.runs.experiment import Experiment
from dr_keras.serving.metadata import read as read_metadata
from dr_keras.studies import former_results as results
from dr_keras.studies.verdict import percent
from dr_keras.system import whole_files
from dr_keras.training.metrics import rater_quality


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture of the page, drawn into it as SVG, or as PNG where `png` is given.

    Attributes:
      heading, caption, description: texts; the last is for readers who do not see it.
      figure: of matplotlib.
      png: the same as a PNG file, for photographs.
    """

    heading: str
    caption: str
    description: str
    figure: Figure
    png: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What a kind of data adds to the study.

    Attributes:
      line: of score against known damage, the `line` of results.json's `rater`; None: not measured.
      pictures: in the order of the page.
    """

    line: Mapping | None = None
    pictures: Sequence[Picture] = ()


def write(
    base_dir: pathlib.Path,
    setup: Experiment,
    title: str,
    corpus: dict,
    exported: dict,
    scores: np.ndarray,
    comparison: dict,
    pictures: Pictures,
    timings: dict,
    metric: str,
) -> dict:
    """Writes results.json and report.html into `base_dir`; returns the results."""
    metadata = read_metadata(str(base_dir / exported["path"]))
    quality = _quality(setup, scores) | {
        "parameters": metadata["parameters"],
        "meta_step": exported["meta_step"],
        "fingerprint": metadata["fingerprint"],
    }
    if pictures.line:
        quality["line"] = dict(pictures.line)
    found = results.assemble(
        study="retraining",
        title=title,
        corpus=corpus,
        rater=quality,
        comparisons=[comparison],
        stages=timings,
        settings={
            "metric": metric,
            "chosen_rater": exported["chosen"],
            "configuration": run_configuration.PARSED_CONFIG,
        },
        meta_training={"epochs": read_metrics(base_dir, "epoch")},
    )
    results.write_results(found, base_dir / "results.json")
    whole_files.write_text(base_dir / "report.html", render(found, metric, setup, scores, pictures))
    return found


def _quality(setup: Experiment, scores: np.ndarray) -> dict:
    labels = setup.parts.train.labels
    levels = np.asarray(labels.get("level", np.full(len(scores), np.nan)), float)
    if not np.isfinite(levels).any():
        return {"reason": "no damage of known level in this data"}
    kinds = labels.get("damage", np.full(len(scores), "damaged", object))
    where = f"all {len(scores):,} examples of the train part"
    return rater_quality(scores, levels, kinds, measured_on=where)


def render(
    found: Mapping, metric: str, setup: Experiment, scores: np.ndarray, pictures: Pictures
) -> str:
    """The page as text; `found` is what results.json holds."""
    comparison = found["comparisons"][0]
    headline = found["headline"]
    body = [
        f"<h1>{page.text(found['title'])}</h1>",
        f'<p class="answer {page.text(headline["outcome"])}">{page.text(headline["text"])}'
        f"<small>{page.text(_subtitle(found, comparison))}</small></p>",
        page.figure(
            metric_against_share(comparison, metric),
            f"Test {metric} against the share of the training examples that was dropped.",
            "answer",
            f"Test {metric} of models trained without the lowest-rated examples, and without"
            " random ones; mean and standard deviation over seeds.",
        ),
        _arms_table(comparison, metric),
        "<p>Every arm trains the same model from random weights for the same number of steps on"
        " batches of the same size. An arm counts as better only where the difference of the means"
        " exceeds the sum of both spreads.</p>",
    ]
    for number, picture in enumerate(pictures.pictures):
        body.append(f"<h2>{page.text(picture.heading)}</h2>" + _drawn(picture, f"picture{number}"))
    body.append(_scores(found["rater"], setup, scores))
    body.append(_meta_training(found))
    body += [_data(found["corpus"]), page.cost(found), page.settings(found)]
    return page.whole(found["title"], body)


def _subtitle(found: Mapping, comparison: Mapping) -> str:
    line = found["rater"].get("line")
    facts = [comparison["verdict"]["figures"] + "."]
    if line and line["pearson"] is not None:
        facts.append(
            f"Score against level of damage on {line['measured_on']}: Pearson"
            f" {line['pearson']:.3f}, Spearman {line['spearman']:.3f}, slope {line['slope']:.3g}."
        )
    return " ".join(facts)


def metric_against_share(comparison: Mapping, metric: str) -> Figure:
    """Mean and spread of a metric against the share dropped, by scores and at random."""
    arms = comparison["arms"]
    reference = arms[comparison["reference"]]["metrics"][metric]
    with plots.style():
        figure = Figure(figsize=(7.4, 3.8), layout="constrained")
        axes = figure.add_subplot()
        band = reference["spread"] or 0.0
        look = plots.arm_style(comparison["reference"], 0)
        axes.axhspan(
            reference["mean"] - band,
            reference["mean"] + band,
            color=look["color"],
            alpha=0.15,
            lw=0,
        )
        axes.axhline(reference["mean"], **look, label=comparison["reference"])
        for position, kind in enumerate(("random", "rater"), 1):
            chosen = [arm for name, arm in arms.items() if name.startswith(f"{kind} ")]
            axes.errorbar(
                [100 * arm["discard_fraction"] for arm in chosen],
                [arm["metrics"][metric]["mean"] for arm in chosen],
                [arm["metrics"][metric]["spread"] or 0.0 for arm in chosen],
                marker="o" if kind == "rater" else "s",
                capsize=4,
                label="lowest-rated dropped" if kind == "rater" else "random ones dropped",
                **plots.arm_style(kind, position),
            )
        axes.set_xlim(left=0)
        axes.set_xlabel("% of the training examples dropped")
        axes.set_ylabel(f"test {metric}")
        axes.legend()
    return figure


def _arms_table(comparison: Mapping, metric: str) -> str:
    names = list(next(iter(comparison["arms"].values()))["metrics"])
    rows = []
    for name, arm in comparison["arms"].items():
        dropped = arm.get("dropped", {})
        against = arm["metrics"][metric]["against"]
        outcome = against.get(comparison["reference"], {}).get("outcome", "–")
        rows.append(
            (
                page.text(name),
                page.count(arm.get("examples")),
                *(_share_of(dropped, kind) for kind in ("corrupted", "mislabelled")),
                *(_with_spread(arm["metrics"][key], 4) for key in names),
                _with_spread(arm["final"], 4),
                page.text(outcome),
            )
        )
    head = (
        "arm",
        "examples",
        "corrupted among dropped",
        "mislabelled among dropped",
        *(f"test {key}" for key in names),
        "test loss",
        f"{metric} against everything",
    )
    caption = (
        f"{comparison['model']['parameters']:,} parameters, {comparison['steps']:,} steps of"
        f" {comparison['batch_size']} examples, {len(comparison['seeds'])} seeds; mean ± standard"
        " deviation over seeds."
    )
    return page.table(caption, head, rows, page.text(comparison["candidate"]))


def _share_of(dropped: Mapping, kind: str) -> str:
    if not dropped.get("examples") or kind not in dropped:
        return "–"
    return percent(dropped[kind] / dropped["examples"], 1)


def _with_spread(figures: Mapping, digits: int) -> str:
    spread = "" if figures["spread"] is None else f" ± {figures['spread']:.{digits}f}"
    return f"{figures['mean']:.{digits}f}{spread}"


def _drawn(picture: Picture, prefix: str) -> str:
    if picture.png is None:
        return page.figure(picture.figure, picture.description, prefix, picture.caption)
    data = base64.b64encode(picture.png).decode()
    return (
        f'<figure><img style="width:100%" alt="{page.text(picture.description)}"'
        f' src="data:image/png;base64,{data}"><figcaption>{page.text(picture.caption)}'
        "</figcaption></figure>"
    )


def _scores(rater: Mapping, setup: Experiment, scores: np.ndarray) -> str:
    if "auc" not in rater:
        return ""
    levels = np.asarray(setup.parts.train.labels["level"], float)
    rows = [("all kinds", rater), *rater.get("by_damage", {}).items()]
    table = page.table(
        f"Measured on {rater['measured_on']}: {rater['clean']:,} clean examples. AUC is the chance"
        " that a clean example scores above a damaged one.",
        (
            "damage",
            "damaged",
            f"AUC, level ≥ {rater['minimum_level']:g}",
            "AUC, all levels",
            "rank correlation",
        ),
        [
            (
                page.text(name.replace("_", " ")),
                page.count(figures.get("damaged")),
                page.number(figures.get("auc")),
                page.number(figures.get("auc_all")),
                page.number(figures.get("spearman"), 2),
            )
            for name, figures in rows
        ],
    )
    drawn = page.figure(
        plots.score_histogram(scores, levels),
        "Histogram of scores of clean and of damaged training examples.",
        "histogram",
        "Scores of the train part, each group scaled to 100%.",
    )
    return "<h2>Scores of the training examples</h2>" + table + drawn


def _meta_training(found: Mapping) -> str:
    epochs = found.get("meta_training", {}).get("epochs", [])
    panels = {}
    for title, keys in {
        "outer loss": ("outer_loss",),
        "effective sample size": ("effective_sample_size",),
        "meta-evaluation: validation loss": ("validation_loss", "random_validation_loss"),
        "score against corruption": ("corruption_pearson", "corruption_spearman"),
        "AUC of clean against damaged": ("damage_auc",),
    }.items():
        lines = {
            key.replace("_", " "): [(e["meta_step"], e.get(key)) for e in epochs if key in e]
            for key in keys
        }
        if any(lines.values()):
            panels[title] = lines
    if not panels:
        return ""
    return "<h2>How the rater was trained</h2>" + page.figure(
        plots.meta_curves(panels),
        f"Curves of meta-training: {', '.join(panels)}.",
        "meta",
        "Means over each epoch of meta-training.",
    )


def _data(corpus: Mapping) -> str:
    rows = [
        (
            page.text(part),
            page.count(figures["examples"]),
            f'<span class="text">{page.text(_kinds(figures))}</span>',
        )
        for part, figures in corpus["parts"].items()
    ]
    return (
        f"<h2>The data</h2><p>{page.text(corpus['name'])}; fingerprint"
        f" <code>{page.text(corpus['fingerprint'][:16])}</code>. The parts share no example.</p>"
        + page.table("Parts.", ("part", "examples", "damage"), rows)
    )


def _kinds(figures: Mapping) -> str:
    counts = figures.get("by_damage", {})
    return ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in counts.items()) or "–"
