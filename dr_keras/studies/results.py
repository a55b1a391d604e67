"""`results.json`: what a study measured, in one versioned form for all studies and reports.

The dataclasses below are the form: `Results` is the whole document, `Results.write` writes it and
`Results.load` reads it back. Every study has the same one; what a study does not have is None or
empty, and is then left out of the file. A study of one model is the case of one `Size`.

How JSON is held against a class (`read`): a field without a default must be there; unknown keys are
refused, so that a misspelt one is noticed where it is written and not where it is missed; whole
numbers are at least 0, numbers finite (NaN and infinity, which JSON does not have, are refused).
A *figure* is a field `float | None` without a default: where it is not defined it is null, and the
object then has a `reason`. New fields with a default keep the version; any other change raises it.

A study makes its results so: a `Protocol`; for every size `summaries.size_section` of its cells;
`verdicts.answer` on all of them; `findings` of its rater; `Results.assemble` of these. A report is
made of the results alone (and of the pictures beside results.json): `(results, path) -> None`.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import datetime
import functools
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import types
import typing
from typing import Any

from dr_keras import __version__
from dr_keras.errors import DataError
from dr_keras.studies.scoreboard import tallies
from dr_keras.studies.sizes import DO_NOT_FILTER, Protocol, Size, Sweep, Tally, Verdict, empty
from dr_keras.system import whole_files

SCHEMA_VERSION = 4


@dataclasses.dataclass(frozen=True)
class Part:
    """One of the four parts of a corpus. Of examples that are no text, each is one token."""

    examples: int
    unique_tokens: int
    documents: int | None = None
    by_source: dict[str, int] = empty(dict)
    by_damage: dict[str, int] = empty(dict)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What was trained and tested on.

    Attributes:
      name: of the corpus.
      fingerprint: of all parts.
      parts: by name.
      notes: what the corpus says of itself.
      target: name of the corpus that the held-out parts are of, where the user named one.
      remarks: what was left out for the target, and what a small one risks, a sentence each.
    """

    name: str
    fingerprint: str
    parts: dict[str, Part]
    notes: Any = None
    target: str | None = None
    remarks: list[str] = empty(list)


@dataclasses.dataclass(frozen=True)
class WithinSources:
    """`Quality` of the ranking within each source: means over sources, each counting the same.

    Attributes:
      auc, spearman: None where no source has enough examples (`within_sources.ENOUGH`).
      auc_sources, spearman_sources: that the means are over.
    """

    auc: float | None
    spearman: float | None
    auc_sources: int
    spearman_sources: int
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Quality:
    """How scores follow damage whose level is known: `training.metrics.rater_quality`."""

    auc: float | None
    auc_all: float | None
    spearman: float | None
    reason: str | None = None
    within_sources: "WithinSources | None" = None
    damaged: int | None = None
    damaged_from_minimum_level: int | None = None
    measured_on: str | None = None
    minimum_level: float | None = None
    examples: int | None = None
    level_unknown: int | None = None
    clean: int | None = None
    by_damage: dict[str, "Quality"] = empty(dict)


@dataclasses.dataclass(frozen=True)
class Line:
    """Score against level on examples damaged for the purpose, all levels, clean ones as well."""

    measured_on: str
    slope: float | None
    intercept: float | None
    pearson: float | None
    spearman: float | None
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Rater:
    """The rater that chose.

    Attributes:
      parameters: of its network.
      fingerprint: of the exported rater.
      quality: how its scores follow damage.
      meta_step: of the checkpoint.
      chosen: why this checkpoint.
      source: where the rater is from.
      line: score against level of damage.
    """

    parameters: int
    fingerprint: str
    quality: Quality
    meta_step: int | None = None
    chosen: str | None = None
    source: str | None = None
    line: Line | None = None


@dataclasses.dataclass(frozen=True)
class Compute:
    """What is spent once, for any number of runs, in floating-point operations.

    Attributes:
      counted: in words, what is.
      rater_forward_flops: of one example.
      scored_examples, scoring: of scoring the train part once.
      meta_training: "total" (None with a "reason" where it is not known) and its parts.
      scorers: name of what else scored the train part -> its cost.
    """

    counted: str
    rater_forward_flops: int
    scored_examples: int
    scoring: int
    meta_training: dict[str, Any]
    scorers: dict[str, "ScorerCost"] = empty(dict)


@dataclasses.dataclass(frozen=True)
class ScorerCost:
    """Operations of `baselines.scores.Scores`.

    Attributes:
      training: of making what scores, once.
      forward: of scoring one example.
      scoring: of the whole train part.
    """

    training: float
    forward: float
    scoring: float


@dataclasses.dataclass(frozen=True)
class TaskFacts:
    """A multiple-choice task: questions asked, questions there are, accuracy of guessing."""

    questions: int
    available: int
    chance: float


@dataclasses.dataclass(frozen=True)
class Stage:
    """Time and memory of a stage."""

    seconds: float
    peak_memory_bytes: int | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that the kind of data adds to the report.

    Attributes:
      heading, caption: texts.
      description: for readers who do not see it.
      file: a PNG, its path from the folder of results.json.
    """

    heading: str
    caption: str
    description: str
    file: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """The whole of results.json.

    Attributes:
      study: which kind of study.
      created: date and time.
      answer: on all sizes.
      sizes: in rising size; none where the study stopped, its answer being not to filter.
      rater: that chose; None where the study stopped.
      tallies: figure -> in how many cells the candidate won; see `studies.scoreboard`.
      findings: what the rater learned, a key a statistic: see `studies.findings`.
      settings: anything JSON holds.
      versions: of Python and of the libraries that results depend on.
    """

    schema_version: int
    study: str
    title: str
    created: str
    answer: Verdict
    corpus: Corpus
    protocol: Protocol
    sizes: list[Size]
    stages: dict[str, Stage]
    settings: dict[str, Any]
    versions: dict[str, str]
    rater: Rater | None = None
    sweep: dict[str, Sweep] = empty(dict)
    tallies: dict[str, Tally] = empty(dict)
    compute: Compute | None = None
    tasks: dict[str, TaskFacts] = empty(dict)
    findings: dict[str, Any] = empty(dict)
    pictures: list[Picture] = empty(list)

    @classmethod
    def assemble(cls, sizes: Sequence[Size], protocol: Protocol, **sections) -> "Results":
        """The sections, with the schema's version, the date, the tallies and libraries' versions.

        Raises:
          DataError: a section is not of its form.
        """
        made = cls(
            schema_version=SCHEMA_VERSION,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=versions(),
            sizes=list(sizes),
            protocol=protocol,
            tallies=tallies(sizes, protocol),
            **sections,
        )
        return cls.of(to_json(made))

    @classmethod
    def of(cls, document: Any) -> "Results":
        """A JSON document as results; DataError, naming the place, where it has another form."""
        if not isinstance(document, Mapping):
            raise DataError(f"results: must be an object, not {type(document).__name__}")
        version = document.get("schema_version")
        if version != SCHEMA_VERSION:
            raise DataError(
                f"results: schema_version is {version!r}, this dr_keras reads {SCHEMA_VERSION}: "
                "use the version of dr_keras that wrote them"
            )
        found = read(cls, document)
        stopped = found.answer.outcome == DO_NOT_FILTER
        if not found.sizes and not stopped:
            raise DataError("results: results.sizes is empty")
        if found.rater is None and not stopped:
            raise DataError("results: results lacks 'rater'")
        for k, size in enumerate(found.sizes):
            for role in ("reference", "candidate"):
                name = getattr(found.protocol, role)
                if name not in size.arms:
                    raise DataError(
                        f"results: protocol.{role} is {name!r}, which is not among the arms of"
                        f" sizes[{k}], {sorted(size.arms)}"
                    )
        return found

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Results":
        """Reads results.json; DataError where it is missing, cut short or of another form."""
        try:
            document = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist: name the results.json of a run") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DataError(f"{path} is not JSON ({error}): write it again") from error
        try:
            return cls.of(document)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def publish(self, base_dir: pathlib.Path, write_report: "WriteReport | None") -> "Results":
        """Writes <base_dir>/results.json, and report.html by what is given; returns itself."""
        self.write(base_dir / "results.json")
        if write_report is not None:
            write_report(self, base_dir / "report.html")
        return self

    def write(self, path: str | os.PathLike) -> pathlib.Path:
        """Checks and writes results.json, whole; DataError where JSON cannot hold it."""
        document = to_json(self)
        Results.of(document)
        path = pathlib.Path(path)
        try:
            text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise DataError(f"results: cannot be written as JSON: {error}") from error
        whole_files.write_text(path, text + "\n", errors="replace")
        return path


WriteReport = Callable[["Results", pathlib.Path], None]


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


def _default(field: dataclasses.Field) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def to_json(value: Any) -> Any:
    """A value as JSON holds it; of dataclasses, fields that are as by default are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {f.name: to_json(inner) for f, inner in held.items() if inner != _default(f)}
    if isinstance(value, Mapping):
        return {key: to_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(inner) for inner in value]
    return value


_hints = functools.cache(typing.get_type_hints)
_PLAIN = {
    str: ("a text", lambda v: isinstance(v, str)),
    bool: ("true or false", lambda v: isinstance(v, bool)),
    int: (
        "a whole number, at least 0",
        lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0,
    ),
    float: (
        "a finite number",
        lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v),
    ),
}


def read(form: Any, value: Any, where: str = "results") -> Any:
    """A JSON value as the type that an annotation names.

    Args:
      form: a dataclass, str, bool, int, float, Any, or dict, list, tuple and `X | None` of these.
      value: what JSON gave.
      where: its place, for errors.

    Raises:
      DataError: the value has another form; says where.
    """
    if form in _PLAIN:
        name, fits = _PLAIN[form]
        if not fits(value):
            raise DataError(f"results: {where} must be {name}, not {value!r:.60}")
        return value
    origin, inner = typing.get_origin(form), typing.get_args(form)
    if origin is types.UnionType:
        return None if value is None else read(inner[0], value, where)
    if dataclasses.is_dataclass(form):
        return _read_object(form, _mapping(value, where), where)
    if origin is dict:
        return {
            key: read(inner[1], item, f"{where}.{key}")
            for key, item in _mapping(value, where).items()
        }
    if origin in (list, tuple):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise DataError(f"results: {where} must be a list, not {value!r:.60}")
        if origin is tuple and len(value) != len(inner):
            raise DataError(f"results: {where} must hold {len(inner)} values, not {value!r:.60}")
        forms = inner if origin is tuple else inner * len(value)
        return origin(read(f, v, f"{where}[{k}]") for k, (f, v) in enumerate(zip(forms, value)))
    return value  # Any


def _mapping(value: Any, where: str) -> Mapping:
    if not isinstance(value, Mapping):
        raise DataError(f"results: {where} must be an object, not {value!r:.60}")
    not_text = [key for key in value if not isinstance(key, str)]
    if not_text:
        raise DataError(f"results: {where} has the key {not_text[0]!r}: keys must be texts")
    return value


def _read_object(form: Any, value: Mapping, where: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(form)}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise DataError(
            f"results: {where} has the unknown key {unknown[0]!r}; known are {sorted(fields)}"
        )
    found = {}
    for name, field in fields.items():
        needed = _default(field) is dataclasses.MISSING
        if name not in value:
            if needed:
                raise DataError(f"results: {where} lacks {name!r}")
        elif needed and value[name] is None and "reason" in fields and not value.get("reason"):
            raise DataError(f"results: {where}.{name} is null and no 'reason' says why")
        else:
            found[name] = read(_hints(form)[name], value[name], f"{where}.{name}")
    return form(**found)
