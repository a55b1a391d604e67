"""Whether a run of meta-training can be trusted: signal, noise, and what scores follow.

Of metrics.jsonl alone, for the report.
"""

from collections.abc import Mapping, Sequence
import pathlib

import numpy as np

from dr_keras.meta import score_health
from dr_keras.meta.callbacks import OUTER_LOSS_OF, read_metrics

_POINTS = 60  # of a curve
_SOURCES = 8  # with a line each, those whose scores lie furthest from the mean
# Panel -> line -> (kind of record, name of the figure).
_PANELS: dict[str, dict[str, tuple[str, str]]] = {
    "signal": {
        "across members": ("step", "meta_gradient_snr"),
        "over steps": ("step", "meta_gradient_snr_steps"),
    },
    "update": {"outer update": ("step", "outer_update_norm")},
    "length": {
        "score and length": ("epoch", score_health.LENGTH),
        "share of variance": ("epoch", score_health.LENGTH_SHARE),
    },
    "spread": {
        "within a batch": ("epoch", score_health.SPREAD),
        "between sources": ("epoch", f"{score_health.SPREAD}_between_sources"),
        "within sources": ("epoch", f"{score_health.SPREAD}_within_sources"),
    },
}


def meta_health(run: pathlib.Path) -> dict:
    """What a run of meta_train logged of itself.

    Returns:
      {} where it logged nothing of this. Else `panels`: "sets" (outer loss by held-out set),
      "signal" (ratios to noise), "update" (its norm), "length" (rank correlation with the score),
      "spread" (standard deviations of scores) and "sources" (mean scores), those that there are ->
      line -> at most 60 points (meta-step, mean around it), because a ratio of one meta-step is
      mostly chance; `members`: of the population; `warnings`: sentences about the last epoch.
    """
    records = {kind: read_metrics(run, kind) for kind in ("step", "epoch")}
    if not records["step"]:
        return {}
    wanted = {"sets": _below(OUTER_LOSS_OF, "step", records)} | _PANELS
    drawn = {
        title: {label: _means(records[kind], name) for label, (kind, name) in lines.items()}
        for title, lines in wanted.items()
    }
    sources = _below(f"{score_health.OF_SOURCE}/", "epoch", records)
    means = {label: _means(records[kind], name) for label, (kind, name) in sources.items()}
    furthest = sorted(means, key=lambda label: -abs(means[label][-1][1]))[:_SOURCES]
    drawn["sources"] = {label: means[label] for label in means if label in furthest}
    shown = {title: {k: v for k, v in lines.items() if v} for title, lines in drawn.items()}
    panels = {title: lines for title, lines in shown.items() if lines}
    if not panels:
        return {}
    return {
        "panels": panels,
        "members": len(records["step"][-1].get("members", {}).get("outer_loss", ())),
        "warnings": score_health.warnings(records["epoch"][-1]) if records["epoch"] else [],
    }


def _below(prefix: str, kind: str, records: Mapping) -> dict[str, tuple[str, str]]:
    """What follows the prefix -> (kind, name), of the figures of the last record."""
    names = list(records[kind][-1]) if records[kind] else []
    return {name[len(prefix) :]: (kind, name) for name in names if name.startswith(prefix)}


def _means(records: Sequence[Mapping], name: str) -> list[list[float]]:
    """[(meta-step, value)], both means of as many neighbours as leave at most 60 points."""
    known = np.array([[r["meta_step"], r[name]] for r in records if r.get(name) is not None], float)
    every = max(1, -(-len(known) // _POINTS))  # as many for each point, or some would look calmer
    return [known[k : k + every].mean(axis=0).tolist() for k in range(0, len(known), every)]


def quarters(points: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Mean value of the first and of the last quarter of a curve's points."""
    values = np.asarray(points, float)[:, 1]
    size = max(len(values) // 4, 1)
    return float(values[:size].mean()), float(values[-size:].mean())
