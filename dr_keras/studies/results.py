"""`results.json`: what a study measured, in one versioned form for all studies and reports.

The dataclasses below are the form: `Results` is the whole document, `Results.write` writes it and
`Results.load` reads it back. Every study has the same one; what a study does not have is None or
empty, and is then left out of the file. A study of one model is the case of one `Size`.

How JSON is held against a class (`read`): a field without a default must be there; unknown keys are
refused, so that a misspelt one is noticed where it is written and not where it is missed; whole
numbers are at least 0, numbers finite (NaN and infinity, which JSON does not have, are refused).
A *figure* is a field `float | None` without a default: where it is not defined it is null, and the
object then has a `reason`. New fields with a default keep the version; any other change raises it.
"""

from collections.abc import Mapping, Sequence
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
from dr_keras.system import whole_files

SCHEMA_VERSION = 2
# The figure by which arms are compared where no other metric is named: the final test loss.
LOSS = "test loss"

Curve = list[tuple[int, float]]


def _empty(kind: type):
    return dataclasses.field(default_factory=kind)


@dataclasses.dataclass(frozen=True)
class Difference:
    """A figure of one arm minus that of another.

    Attributes:
      difference: of the means.
      margin: the sum of both spreads; None with fewer than two seeds.
      outcome: "better" or "worse" beyond the margin, else "undecided".
    """

    difference: float
    margin: float | None
    outcome: str
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Summary:
    """One figure over seeds.

    Attributes:
      mean: over seeds.
      spread: sample standard deviation (n - 1); None for a single seed.
      by_seed: seed -> figure.
      higher_is_better: None where nobody said.
      against: other arm -> how this arm compares with it.
    """

    mean: float
    spread: float | None
    by_seed: dict[str, float]
    reason: str | None = None
    higher_is_better: bool | None = None
    against: dict[str, Difference] = _empty(dict)

    def shown(self, digits: int = 3, scale: float = 1.0) -> str:
        """ "mean ± spread", the mean alone where there is no spread."""
        spread = "" if self.spread is None else f" ± {scale * self.spread:.{digits}f}"
        return f"{scale * self.mean:.{digits}f}{spread}"

    def outcome(self, other: str) -> str:
        """The outcome against another arm, a dash where they were not compared."""
        return self.against[other].outcome if other in self.against else "–"


@dataclasses.dataclass(frozen=True)
class Match:
    """Steps that an arm needs to reach the final mean loss of the reference.

    Attributes:
      target: that loss.
      steps: on the arm's mean curve, by linear interpolation; None where it never gets there.
      share: of the reference's steps.
      share_by_seed: of every seed by itself, None where it never gets there.
    """

    target: float
    steps: float | None
    share: float | None
    share_by_seed: dict[str, float | None]
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """Floating-point operations of a training run."""

    training: float
    scoring: float
    total: float


@dataclasses.dataclass(frozen=True)
class Account:
    """What one arm costs and saves: see `costs.arm_account`."""

    run: Run
    steps_share: float | None
    flops_share: float | None
    flops_share_by_seed: dict[str, float | None]
    spread: float | None
    saving: float | None
    saving_shared: float | None
    runs_to_pay: float | None
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Budget:
    """What an arm's runs read, means over seeds.

    Attributes:
      pool_examples, pool_tokens: what there was to draw from, each once. Of examples that are no
        text, each counts as one token.
      tokens_seen: trained on, repetitions counted.
      epochs: examples trained on per example in the pool.
      unique_tokens: trained on, each counted once.
      passes: examples read, discarded ones included, per example of the train part.
    """

    pool_examples: float
    pool_tokens: float
    tokens_seen: float
    epochs: float
    unique_tokens: float | None = None
    passes: float | None = None


@dataclasses.dataclass(frozen=True)
class Dropped:
    """The examples that an arm leaves out, and how many of them are known to be bad."""

    examples: int
    corrupted: int | None = None
    mislabelled: int | None = None


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way of choosing training data, at one size.

    Attributes:
      description: a few words.
      curves: seed -> [(step, test loss)].
      mean, spread: of the curves, over seeds; `spread` is empty for a single seed.
      final: test loss at the end.
      metrics: other figures at the end.
      by_source: test loss at the end by source.
      discard_fraction: share of the train part left out.
      seconds: mean wall time of a run.
      pool_by_source, pool_by_damage: examples to draw from, where an arm has the same in every run.
    """

    description: str
    curves: dict[str, Curve]
    mean: Curve
    spread: Curve
    final: Summary
    match: Match
    budget: Budget
    discard_fraction: float
    seconds: float
    metrics: dict[str, Summary] = _empty(dict)
    by_source: dict[str, Summary] = _empty(dict)
    account: Account | None = None
    dropped: Dropped | None = None
    pool_by_source: dict[str, int] = _empty(dict)
    pool_by_damage: dict[str, int] = _empty(dict)

    @property
    def steps(self) -> int:
        """Of a whole run."""
        return self.mean[-1][0]

    def judged(self, metric: str) -> Summary:
        """The figure by which arms are compared."""
        return self.final if metric == LOSS else self.metrics[metric]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer in words.

    Attributes:
      outcome: "better", "worse", "undecided" or "too_small".
      text: one sentence, two for "too_small".
      figures: what it rests on.
      recommendation: what to do, where costs were counted.
    """

    outcome: str
    text: str
    figures: str
    recommendation: str | None = None


@dataclasses.dataclass(frozen=True)
class ShorterRun:
    """The candidate trained in fewer steps, against the reference's full run."""

    steps: int
    flops_share: float
    final: Summary


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeFacts:
    """A size of model, apart from its runs.

    Attributes:
      parameters: of the model.
      steps, batch_size: of every run, in examples.
      sequence_length: tokens an example; 1 where examples are no text.
      forward_flops: of one example, where costs are counted.
    """

    name: str
    parameters: int
    steps: int
    batch_size: int
    sequence_length: int
    tokens_a_run: int | None = None
    forward_flops: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size(SizeFacts):
    """The arms compared at one size.

    Attributes:
      discard_fraction: what the candidate achieved.
      arms: the reference among them.
      verdict: on this size.
      shorter_runs: share of the steps -> what came of it.
    """

    discard_fraction: float
    arms: dict[str, Arm]
    verdict: Verdict
    shorter_runs: dict[str, ShorterRun] = _empty(dict)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What was compared, and how.

    Attributes:
      reference: the arm that filters nothing.
      candidate: the arm in question.
      baselines: arms that the candidate has to beat as well, where they ran.
      seeds: of every arm.
      metric: by which arms are compared: `LOSS`, or a name in `Arm.metrics`.
      higher_is_better: whether a larger one is better.
      discard_fraction: share to drop, as asked for; None where arms drop different ones.
      chosen_by: who chose it.
      same_as_unfiltered: (size, arm) that would repeat the reference and was not run.
      warnings: budgets that differ.
    """

    reference: str
    candidate: str
    baselines: list[str]
    seeds: list[int]
    metric: str = LOSS
    higher_is_better: bool = False
    core_arms: list[str] = _empty(list)
    more_arms: list[str] = _empty(list)
    online_arms: list[str] = _empty(list)
    discard_fraction: float | None = None
    chosen_by: str | None = None
    same_as_unfiltered: list[tuple[str, str]] = _empty(list)
    warnings: list[str] = _empty(list)


@dataclasses.dataclass(frozen=True)
class Part:
    """One of the four parts of a corpus. Of examples that are no text, each is one token."""

    examples: int
    unique_tokens: int
    documents: int | None = None
    by_source: dict[str, int] = _empty(dict)
    by_damage: dict[str, int] = _empty(dict)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What was trained and tested on."""

    name: str
    fingerprint: str
    parts: dict[str, Part]
    notes: Any = None


@dataclasses.dataclass(frozen=True)
class Quality:
    """How scores follow damage whose level is known: `training.metrics.rater_quality`."""

    auc: float | None
    auc_all: float | None
    spearman: float | None
    reason: str | None = None
    damaged: int | None = None
    damaged_from_minimum_level: int | None = None
    measured_on: str | None = None
    minimum_level: float | None = None
    examples: int | None = None
    level_unknown: int | None = None
    clean: int | None = None
    by_damage: dict[str, "Quality"] = _empty(dict)


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
class SweepPoint:
    """Losses of the candidate at one discard fraction."""

    validation: Summary
    test: Summary


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The sweep over discard fractions at one size; `best` is by the validation loss."""

    fractions: dict[str, SweepPoint]
    best: float
    chosen: float


@dataclasses.dataclass(frozen=True)
class Compute:
    """What is spent once, for any number of runs, in floating-point operations.

    Attributes:
      counted: in words, what is.
      rater_forward_flops: of one example.
      scored_examples, scoring: of scoring the train part once.
      meta_training: "total" (None with a "reason" where it is not known) and its parts.
      perplexity: "training_flops" and "flops" of the perplexity arms, where they ran.
    """

    counted: str
    rater_forward_flops: int
    scored_examples: int
    scoring: int
    meta_training: dict[str, Any]
    perplexity: dict[str, Any] | None = None


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
      sizes: in rising size.
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
    rater: Rater
    protocol: Protocol
    sizes: list[Size]
    stages: dict[str, Stage]
    settings: dict[str, Any]
    versions: dict[str, str]
    sweep: dict[str, Sweep] = _empty(dict)
    compute: Compute | None = None
    tasks: dict[str, TaskFacts] = _empty(dict)
    findings: dict[str, Any] = _empty(dict)
    pictures: list[Picture] = _empty(list)

    @classmethod
    def assemble(cls, **sections) -> "Results":
        """The sections, with the schema's version, the date and the libraries' versions.

        Raises:
          DataError: a section is not of its form.
        """
        made = cls(
            schema_version=SCHEMA_VERSION,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=versions(),
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
        if not found.sizes:
            raise DataError("results: results.sizes is empty")
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


def percent(share: float | None, digits: int = 0) -> str:
    """A share as a percentage, "not reached" for None."""
    return "not reached" if share is None else f"{100 * share:.{digits}f}%"


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
