"""`results.json`: what a study measured, in one versioned form that reports and later studies read.

    {"schema_version": 1, "study", "title", "created",
     "corpus":  {"name", "fingerprint", "parts": {part: {"examples", "unique_tokens",
                 "documents"?, "by_source"?, "by_damage"?}}},
     "rater":   `metrics.rater_quality`, or {"reason"} where nothing is known about quality,
     "comparisons": [one a model size: {"name", "model": {"parameters"}, "steps", "batch_size",
                 "sequence_length", "reference", "candidate", "seeds",
                 "arms": `comparison.compare`, "verdict": `verdict.judge`}],
     "headline": the figures most asked for, copied from the sections above by `assemble`,
     "stages":  {stage: {"seconds", "peak_memory_bytes"}},
     "settings", "versions", "meta_training"?: anything JSON holds}

A figure that could not be measured is null, and the object that holds it then has a "reason".
NaN and infinity, which JSON does not have, are refused. Optional keys are marked "?"; unknown ones
are refused, so that a misspelt key is noticed where it is written and not where it is missed.
Additions of optional keys keep the version; any other change raises it.
"""

from collections.abc import Mapping, Sequence
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform

from dr_keras import __version__
from dr_keras import whole_files
from dr_keras.errors import ConfigurationError, DataError

SCHEMA_VERSION = 1

_NUMBER, _COUNT, _TEXT = "a number", "a whole number, at least 0", "a text"


class _Figure(str):
    """A number that may be null where the object says why."""


class _Each:
    """An object whose keys are free and whose values all have one form."""

    def __init__(self, form):
        self.form = form


class _Listed(_Each):
    """A list whose items all have one form."""


_FREE = object()
_FIGURE = _Figure(_NUMBER)
_POINTS = _Listed(_Listed(_NUMBER))

_QUALITY = {
    "auc?": _FIGURE,
    "auc_all?": _FIGURE,
    "spearman?": _FIGURE,
    "damaged?": _COUNT,
    "damaged_from_minimum_level?": _COUNT,
    "reason?": _TEXT,
}
_ARM = {
    "description?": _TEXT,
    "examples?": _COUNT,
    "unique_tokens": _COUNT,
    "tokens_seen": _COUNT,
    "epochs?": _NUMBER,
    "discard_fraction?": _NUMBER,
    "seconds?": _NUMBER,
    "flops?": _NUMBER,
    "by_damage?": _Each(_COUNT),
    "by_source?": _Each(_COUNT),
    "final_by_source?": _Each(_FIGURE),
    # Other figures of the test set at the end, such as accuracy; "against" is by their means.
    "metrics?": _Each(
        {
            "mean": _NUMBER, "spread": _FIGURE, "by_seed": _Each(_NUMBER), "reason?": _TEXT,
            "against?": _Each(
                {"difference": _NUMBER, "margin": _FIGURE, "outcome": _TEXT, "reason?": _TEXT}
            ),
        }
    ),
    # Of the examples that the arm leaves out: how many, and how many of them are known to be bad.
    "dropped?": {"examples": _COUNT, "corrupted?": _COUNT, "mislabelled?": _COUNT},
    "curves": _Each(_POINTS),
    "mean": _POINTS,
    "spread": _POINTS,
    "final": {
        "step": _COUNT, "mean": _NUMBER, "spread": _FIGURE, "by_seed": _Each(_NUMBER),
        "reason?": _TEXT,
    },
    "match": {
        "target": _NUMBER, "steps": _FIGURE, "share": _FIGURE, "share_by_seed": _Each(_FREE),
        "reason?": _TEXT,
    },
    "against": _Each(
        {"difference": _NUMBER, "margin": _FIGURE, "outcome": _TEXT, "reason?": _TEXT}
    ),
}
_SCHEMA = {
    "schema_version": _COUNT,
    "study": _TEXT,
    "title": _TEXT,
    "created": _TEXT,
    "corpus": {
        "name": _TEXT,
        "fingerprint": _TEXT,
        "parts": _Each(
            {
                "documents?": _COUNT,
                "examples": _COUNT,
                "unique_tokens": _COUNT,
                "by_source?": _Each(_COUNT),
                "by_damage?": _Each(_COUNT),
            }
        ),
        "notes?": _FREE,
    },
    "rater": {
        **_QUALITY,
        "measured_on?": _TEXT,
        "minimum_level?": _NUMBER,
        # Score against level on examples damaged for the purpose, all levels, clean ones among them.
        "line?": {
            "measured_on": _TEXT, "slope": _FIGURE, "intercept": _FIGURE, "pearson": _FIGURE,
            "spearman": _FIGURE, "reason?": _TEXT,
        },
        "examples?": _COUNT,
        "level_unknown?": _COUNT,
        "clean?": _COUNT,
        "by_damage?": _Each(_QUALITY),
        "parameters?": _COUNT,
        "meta_step?": _COUNT,
        "fingerprint?": _TEXT,
    },
    "comparisons": _Listed(
        {
            "name": _TEXT,
            "model": {"parameters": _COUNT, "description?": _TEXT},
            "steps": _COUNT,
            "batch_size": _COUNT,
            "sequence_length": _COUNT,
            "reference": _TEXT,
            "candidate": _TEXT,
            "seeds": _Listed(_COUNT),
            "arms": _Each(_ARM),
            "verdict": {"outcome": _TEXT, "text": _TEXT, "figures?": _TEXT},
        }
    ),
    "headline": {
        "auc": _FIGURE,
        "auc_all": _FIGURE,
        "spearman": _FIGURE,
        "final_loss": _Each(_NUMBER),
        "steps_to_match": _FIGURE,
        "share": _FIGURE,
        "outcome": _TEXT,
        "text": _TEXT,
        "figures?": _TEXT,
        "reason?": _TEXT,
    },
    "stages": _Each({"seconds": _NUMBER, "peak_memory_bytes": _FIGURE, "reason?": _TEXT}),
    "settings": _FREE,
    "versions": _FREE,
    "meta_training?": _FREE,
}


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check(value, form, where: str) -> None:
    if isinstance(form, dict) or type(form) is _Each:
        if not isinstance(value, Mapping):
            raise DataError(f"results: {where} must be an object, not {value!r:.60}")
        not_text = [key for key in value if not isinstance(key, str)]
        if not_text:
            raise DataError(f"results: {where} has the key {not_text[0]!r}: keys must be texts")
    if isinstance(form, dict):
        known = {key.rstrip("?") for key in form}
        unknown = sorted(set(value) - known)
        if unknown:
            raise DataError(
                f"results: {where} has the unknown key {unknown[0]!r}; known are {sorted(known)}"
            )
        for key, inner in form.items():
            name = key.rstrip("?")
            if name not in value:
                if not key.endswith("?"):
                    raise DataError(f"results: {where} lacks {name!r}")
                continue
            if isinstance(inner, _Figure) and value[name] is None:
                if not value.get("reason"):
                    raise DataError(f"results: {where}.{name} is null and no 'reason' says why")
                continue
            _check(value[name], inner, f"{where}.{name}")
    elif isinstance(form, _Listed):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise DataError(f"results: {where} must be a list, not {value!r:.60}")
        for k, item in enumerate(value):
            _check(item, form.form, f"{where}[{k}]")
    elif type(form) is _Each:
        for key, item in value.items():
            _check(item, form.form, f"{where}.{key}")
    elif form is _TEXT:
        if not isinstance(value, str):
            raise DataError(f"results: {where} must be {_TEXT}, not {value!r:.60}")
    elif form is _COUNT:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise DataError(f"results: {where} must be {_COUNT}, not {value!r:.60}")
    elif form is not _FREE:
        if not _is_number(value) or not math.isfinite(value):
            raise DataError(f"results: {where} must be a finite number, not {value!r:.60}")


def validate(results: Mapping) -> None:
    """Raises DataError, naming the place, unless `results` has the form described above."""
    if not isinstance(results, Mapping):
        raise DataError(f"results: must be an object, not {type(results).__name__}")
    version = results.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"results: schema_version is {version!r}, this dr_keras reads {SCHEMA_VERSION}: "
            "use the version of dr_keras that wrote them"
        )
    _check(results, _SCHEMA, "results")
    for k, comparison in enumerate(results["comparisons"]):
        for role in ("reference", "candidate"):
            if comparison[role] not in comparison["arms"]:
                raise DataError(
                    f"results: comparisons[{k}].{role} is {comparison[role]!r}, which is not "
                    f"among the arms {sorted(comparison['arms'])}"
                )


def headline(rater: Mapping, comparison: Mapping) -> dict:
    """The figures most asked for, from the rater's quality and one comparison."""
    arms, candidate = comparison["arms"], comparison["candidate"]
    match = arms[candidate]["match"]
    figures = {
        **{name: rater.get(name) for name in ("auc", "auc_all", "spearman")},
        "final_loss": {name: arm["final"]["mean"] for name, arm in arms.items()},
        "steps_to_match": match["steps"],
        "share": match["share"],
        **comparison["verdict"],
    }
    reasons = [match["reason"]] if match["steps"] is None else []
    if None in (figures["auc"], figures["auc_all"], figures["spearman"]):
        reasons.append(rater.get("reason", "the rater's quality was not measured"))
    if reasons:
        figures["reason"] = "; ".join(reasons)
    return figures


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    names = ("tensorflow", "keras", "keras-hub", "tensorflow-text", "numpy")
    found = {"dr_keras": __version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def assemble(
    *,
    study: str,
    title: str,
    corpus: Mapping,
    rater: Mapping,
    comparisons: Sequence[Mapping],
    stages: Mapping,
    settings: Mapping,
    meta_training: Mapping | None = None,
    headline_of: int = 0,
) -> dict:
    """Puts the sections together, adds headline, date and versions, and validates.

    Args:
        headline_of: index of the comparison whose figures make the headline.
    """
    if not comparisons:
        raise ConfigurationError("results need at least one comparison")
    results = {
        "schema_version": SCHEMA_VERSION,
        "study": study,
        "title": title,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "headline": headline(rater, comparisons[headline_of]),
        "corpus": corpus,
        "rater": rater,
        "comparisons": list(comparisons),
        "stages": stages,
        "settings": settings,
        "versions": versions(),
    }
    if meta_training is not None:
        results["meta_training"] = meta_training
    validate(results)
    return results


def write_results(results: Mapping, path: str | os.PathLike) -> pathlib.Path:
    """Validates and writes results.json, under a temporary name first."""
    validate(results)
    path = pathlib.Path(path)
    try:
        text = json.dumps(results, indent=1, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"results: cannot be written as JSON: {error}") from error
    whole_files.write_text(path, text + "\n")
    return path


def read_results(path: str | os.PathLike) -> dict:
    """Reads and validates results.json; DataError where it is missing, cut short or unfit."""
    try:
        results = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: name the results.json of a run") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not JSON ({error}): write it again") from error
    try:
        validate(results)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return results
