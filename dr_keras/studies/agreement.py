"""Whether two raters choose the same: rank correlation, and what both keep.

By source as well, because a rater that knows nothing but the mean of each source may agree with
another over all of a corpus and still choose other texts within every source.
"""

from collections.abc import Sequence

import numpy as np

from dr_keras.baselines.selection import kept_count
from dr_keras.meta.score_health import rank_correlation
from dr_keras.rating.fractions import Decimal
from dr_keras.studies.within_sources import spread_by_source

FRACTIONS = (0.25, 0.5, 0.75, 0.9)
# Windows that a group needs for a figure of its own.
ENOUGH = 30
# A student that follows its teacher at most half as well within sources as over all of them.
_HALF = 0.5


def agreement(
    student: np.ndarray,
    teacher: np.ndarray,
    sources: np.ndarray,
    damage: np.ndarray | None = None,
    fractions: Sequence[Decimal] = FRACTIONS,
) -> dict:
    """How a student's choice follows its teacher's.

    Args:
      student, teacher: scores [N] of the same windows.
      sources: [N].
      damage: [N], the kind of damage that is known of each, None of clean ones and of those of
        which nothing is known; None where nothing is known of any.
      fractions: shares that are discarded.

    Returns:
      "windows"; "rank_correlation" (Spearman's; None where one of them is constant);
      "kept_by_both": for each fraction "discarded", "kept" (windows that each keeps) and "share" of
      these that both keep, beside "chance", that of a random choice; "by_source": source, the
      largest first -> "windows", "rank_correlation", "student" and "teacher", mean ranks in [0, 1];
      "within_sources": the mean of these correlations over "sources" of at least `ENOUGH` windows,
      each alike, or None with a "reason"; "by_damage" likewise, where two kinds are known; and
      "warnings", sentences for people.
    """
    student, teacher = np.asarray(student, np.float64), np.asarray(teacher, np.float64)
    places = {"student": _places(student), "teacher": _places(teacher)}
    whole = rank_correlation(student, teacher)
    by_source = _groups(student, teacher, places, np.asarray(sources).astype(str))
    found: dict = {
        "windows": len(student),
        "rank_correlation": whole,
        "kept_by_both": [_kept(places, fraction) for fraction in fractions],
        "by_source": by_source,
        "within_sources": _within(by_source),
    }
    if damage is not None:
        kinds = np.array(["none known" if kind is None else str(kind) for kind in damage])
        if len(set(kinds.tolist())) > 1:
            found["by_damage"] = _groups(student, teacher, places, kinds)
    found["warnings"] = _warnings(student, sources, whole, found["within_sources"])
    return found


def _places(scores: np.ndarray) -> np.ndarray:
    """Ranks in [0, 1]; of equal scores the earlier window is lower."""
    places = np.empty(len(scores))
    places[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    return places / max(len(scores) - 1, 1)


def _kept(places: dict[str, np.ndarray], fraction: Decimal) -> dict:
    count = len(places["student"])
    kept = kept_count(count, fraction)
    best = [set(np.argsort(-one, kind="stable")[:kept].tolist()) for one in places.values()]
    share = len(best[0] & best[1]) / kept
    return {"discarded": float(fraction), "kept": kept, "share": share, "chance": kept / count}


def _groups(student, teacher, places, names: np.ndarray) -> dict[str, dict]:
    found = {}
    for name in np.unique(names).tolist():
        rows = np.flatnonzero(names == name)
        known = rank_correlation(student[rows], teacher[rows]) if len(rows) >= ENOUGH else None
        found[name] = {
            "windows": len(rows),
            "rank_correlation": known,
            **{who: float(place[rows].mean()) for who, place in places.items()},
        }
    return dict(sorted(found.items(), key=lambda item: -item[1]["windows"]))


def _within(by_source: dict[str, dict]) -> dict:
    values = [one["rank_correlation"] for one in by_source.values()]
    known = [value for value in values if value is not None]
    if len(by_source) < 2:
        return {"rank_correlation": None, "sources": 0, "reason": "all windows have one source"}
    if not known:
        reason = f"no source has {ENOUGH} windows whose scores differ"
        return {"rank_correlation": None, "sources": 0, "reason": reason}
    return {"rank_correlation": float(np.mean(known)), "sources": len(known)}


def _warnings(student, sources, whole: float | None, within: dict) -> list[str]:
    said = list(spread_by_source(student, sources).get("warnings", []))
    inside = within["rank_correlation"]
    if whole is not None and inside is not None and inside < _HALF * whole:
        said.append(
            f"the student follows its teacher by {whole:.2f} over all windows and by {inside:.2f}"
            " within sources: it mostly sorts sources. Give it more text of each source, or another"
            " student (--gin_file runs/distill_network.gin), before it chooses within them"
        )
    return said
