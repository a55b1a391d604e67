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

from collections.abc import Callable, Mapping, Sequence
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform

from dr_keras import __version__
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.studies.forms import COUNT, FIGURE, FREE, NUMBER, POINTS, TEXT, Each, Listed, check
from dr_keras.system import whole_files

SCHEMA_VERSION = 1

_QUALITY = {
    "auc?": FIGURE,
    "auc_all?": FIGURE,
    "spearman?": FIGURE,
    "damaged?": COUNT,
    "damaged_from_minimum_level?": COUNT,
    "reason?": TEXT,
}
_ARM = {
    "description?": TEXT,
    "examples?": COUNT,
    "unique_tokens": COUNT,
    "tokens_seen": COUNT,
    "epochs?": NUMBER,
    "discard_fraction?": NUMBER,
    "seconds?": NUMBER,
    "flops?": NUMBER,
    "by_damage?": Each(COUNT),
    "by_source?": Each(COUNT),
    "final_by_source?": Each(FIGURE),
    # Other figures of the test set at the end, such as accuracy; "against" is by their means.
    "metrics?": Each(
        {
            "mean": NUMBER,
            "spread": FIGURE,
            "by_seed": Each(NUMBER),
            "reason?": TEXT,
            "against?": Each(
                {"difference": NUMBER, "margin": FIGURE, "outcome": TEXT, "reason?": TEXT}
            ),
        }
    ),
    # Of the examples that the arm leaves out: how many, and how many of them are known to be bad.
    "dropped?": {"examples": COUNT, "corrupted?": COUNT, "mislabelled?": COUNT},
    "curves": Each(POINTS),
    "mean": POINTS,
    "spread": POINTS,
    "final": {
        "step": COUNT,
        "mean": NUMBER,
        "spread": FIGURE,
        "by_seed": Each(NUMBER),
        "reason?": TEXT,
    },
    "match": {
        "target": NUMBER,
        "steps": FIGURE,
        "share": FIGURE,
        "share_by_seed": Each(FREE),
        "reason?": TEXT,
    },
    "against": Each({"difference": NUMBER, "margin": FIGURE, "outcome": TEXT, "reason?": TEXT}),
}
_SCHEMA = {
    "schema_version": COUNT,
    "study": TEXT,
    "title": TEXT,
    "created": TEXT,
    "corpus": {
        "name": TEXT,
        "fingerprint": TEXT,
        "parts": Each(
            {
                "documents?": COUNT,
                "examples": COUNT,
                "unique_tokens": COUNT,
                "by_source?": Each(COUNT),
                "by_damage?": Each(COUNT),
            }
        ),
        "notes?": FREE,
    },
    "rater": {
        **_QUALITY,
        "measured_on?": TEXT,
        "minimum_level?": NUMBER,
        # Score against level on examples damaged for the purpose, all levels, clean ones as well.
        "line?": {
            "measured_on": TEXT,
            "slope": FIGURE,
            "intercept": FIGURE,
            "pearson": FIGURE,
            "spearman": FIGURE,
            "reason?": TEXT,
        },
        "examples?": COUNT,
        "level_unknown?": COUNT,
        "clean?": COUNT,
        "by_damage?": Each(_QUALITY),
        "parameters?": COUNT,
        "meta_step?": COUNT,
        "fingerprint?": TEXT,
    },
    "comparisons": Listed(
        {
            "name": TEXT,
            "model": {"parameters": COUNT, "description?": TEXT},
            "steps": COUNT,
            "batch_size": COUNT,
            "sequence_length": COUNT,
            "reference": TEXT,
            "candidate": TEXT,
            "seeds": Listed(COUNT),
            "arms": Each(_ARM),
            "verdict": {"outcome": TEXT, "text": TEXT, "figures?": TEXT},
        }
    ),
    "headline": {
        "auc": FIGURE,
        "auc_all": FIGURE,
        "spearman": FIGURE,
        "final_loss": Each(NUMBER),
        "steps_to_match": FIGURE,
        "share": FIGURE,
        "outcome": TEXT,
        "text": TEXT,
        "figures?": TEXT,
        "reason?": TEXT,
    },
    "stages": Each({"seconds": NUMBER, "peak_memory_bytes": FIGURE, "reason?": TEXT}),
    "settings": FREE,
    "versions": FREE,
    "meta_training?": FREE,
}


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
    check(results, _SCHEMA, "results")
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
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
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


def write_results(
    results: Mapping, path: str | os.PathLike, validate: Callable[[Mapping], None] = validate
) -> pathlib.Path:
    """Validates and writes results.json, whole; DataError where JSON cannot hold them."""
    validate(results)
    path = pathlib.Path(path)
    try:
        text = json.dumps(results, indent=1, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"results: cannot be written as JSON: {error}") from error
    whole_files.write_text(path, text + "\n", errors="replace")
    return path


def read_results(path: str | os.PathLike, validate: Callable[[Mapping], None] = validate) -> dict:
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
