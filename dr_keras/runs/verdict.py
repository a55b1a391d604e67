"""What a judgement of raters holds and says: records for JSON, and a sentence for people."""

from collections.abc import Iterable, Mapping
import dataclasses
import math
import statistics
from typing import Any

NAME_A_TARGET = (
    "Where held-out text is of the same kind as the text to choose from, there is often nothing to"
    " gain: name a target, text that the model is to become good at (text_data.target; quickstart"
    " --target)."
)
_TRY = (
    "Larger batches, more members or more meta-steps may find what this run did not"
    " (docs/meta_logs.md)."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedRater:
    """One of the raters judged.

    Attributes:
      name: as the caller calls it.
      run: folder of its meta-training, from that of the judgement; "." is the same.
      step: its meta-step.
      losses: validation loss of each training, the k-th paired with the k-th of the random choice;
        None where it is not finite.
      gain: mean over pairs of (random - rater), per token of text; None where a loss is not finite.
      standard_error: of the gain, by pairs and by held-out documents; None where it is not known.
      threshold: standard errors that a difference must exceed to count.
      outcome: "better" or "worse" than the random choice by so many, else "undecided".
      behind: mean over pairs of (its loss - that of the chosen rater); None where there is no other
        that was chosen.
      behind_error: standard error of that.
      made_flops: operations that making it took, where they are known.
      weights: hex SHA-256 of its weights.
    """

    name: str
    run: str
    step: int
    losses: list[float | None]
    gain: float | None
    standard_error: float | None
    threshold: float | None
    outcome: str
    behind: float | None = None
    behind_error: float | None = None
    made_flops: float | None = None
    weights: str = ""

    @property
    def described(self) -> str:
        """What a sentence calls it."""
        kind = "rater" if self.name == "rater" else f"{self.name} rater"
        return f"the {kind} of meta-step {self.step:,}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """Raters beside a random choice.

    Attributes:
      random: validation loss of each training on a random choice.
      raters: in the order in which they were given.
      chosen: name of the one with the highest gain of those that are better than random; None where
        none is.
      helps: whether one is.
      text: all that in words.
      updates, batch_size, discard_fraction: of each training.
      validation_examples, validation_documents: what losses were taken on.
      unit: of losses, "nats per token" of text; "" of other data.
      target: name of the corpus that the user wants a model to be good at, where one was named.
      flops: operations of all trainings, None where they are not known.
      seconds: that they took.
      key: hex SHA-256 of what decides the judgement.
    """

    random: list[float]
    raters: list[JudgedRater]
    chosen: str | None
    helps: bool
    text: str
    updates: int
    batch_size: int
    discard_fraction: float
    validation_examples: int
    validation_documents: int
    unit: str = ""
    target: str | None = None
    flops: int | None = None
    seconds: float = 0.0
    key: str = ""

    def as_json(self) -> dict[str, Any]:
        """What JSON holds of it; `of` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Judgement":
        """From what `as_json` gave; TypeError or KeyError where it is of another form."""
        raters = [JudgedRater(**rater) for rater in document["raters"]]
        return cls(**{**document, "raters": raters})

    def named(self, name: str) -> JudgedRater:
        """The rater of this name."""
        return next(rater for rater in self.raters if rater.name == name)

    @property
    def best(self) -> JudgedRater:
        """The one with the highest gain, whether it helps or not."""
        return highest(self.raters)


def highest(raters: Iterable[JudgedRater]) -> JudgedRater:
    """The one with the highest gain; one without a finite gain is the last to be taken."""
    return max(raters, key=lambda rater: -math.inf if rater.gain is None else rater.gain)


def shown(value: float | None, error: float | None) -> str:
    """ "0.0512 ± 0.0049", a figure and its standard error."""
    if value is None:
        return "not finite"
    return f"{value:.4f} ± {'unknown' if error is None else f'{error:.4f}'}"


def gain_shown(rater: JudgedRater) -> str:
    """A rater's gain and its standard error."""
    return shown(rater.gain, rater.standard_error)


def in_short(rater: JudgedRater, judgement: Judgement) -> str:
    """What the reason for choosing a checkpoint says of its judgement."""
    pairs = f"judged by {len(judgement.random)} longer pairs of trainings"
    if rater.outcome == "better":
        return f"{pairs} it gains {gain_shown(rater)} on a random choice"
    verdict = "WORSE than" if rater.outcome == "worse" else "NO better than"
    return f"{pairs} it is {verdict} a random choice (gain {gain_shown(rater)}): do not filter"


def sentence(judgement: Judgement) -> str:
    """The judgement in words: does a rater help, which, by how much, at what cost."""
    best = judgement.best
    parts = [_helps(judgement) if judgement.helps else _does_not(judgement, best)]
    others = [rater for rater in judgement.raters if rater is not best]
    if others:
        parts.append(_beside(best, others))
    return " ".join(parts)


def _how(judgement: Judgement) -> str:
    pairs = len(judgement.random)
    return (
        f"(gain ± standard error{_per(judgement)}; {pairs} pair{'' if pairs == 1 else 's'} of"
        f" trainings of {judgement.updates:,} updates, {judgement.discard_fraction:.0%} dropped,"
        f" {judgement.validation_examples:,} held-out examples)"
    )


def _per(judgement: Judgement) -> str:
    return f" in {judgement.unit}" if judgement.unit else ""


def _on(judgement: Judgement) -> str:
    return f"on {judgement.target}" if judgement.target else "on the validation part"


def _helps(judgement: Judgement) -> str:
    best = judgement.best
    return (
        f"Filter: trained on what {best.described} keeps, fresh models had a lower loss"
        f" {_on(judgement)} than on a random choice, by {gain_shown(best)} {_how(judgement)}."
    )


def _does_not(judgement: Judgement, best: JudgedRater) -> str:
    subject = f"trained on what {best.described} keeps, fresh models"
    how = _how(judgement)
    if best.gain is None:
        said = f"{subject} had a loss that is not finite {how}."
    elif best.outcome == "worse":
        worse = dataclasses.replace(best, gain=-best.gain)
        said = (
            f"{subject} did worse {_on(judgement)} than on a random choice, beyond chance: by"
            f" {gain_shown(worse)} {how}."
        )
    else:
        said = (
            f"{subject} did no better {_on(judgement)} than on a random choice, within what chance"
            f" gives: {gain_shown(best)} {how}."
        )
    loss = statistics.fmean(judgement.random)
    reached = [value for value in best.losses if value is not None]
    figures = f" Losses: {statistics.fmean(reached):.4f}, at random {loss:.4f}." if reached else ""
    if best.standard_error is None and best.gain is not None:
        advice = "One pair tells nothing about chance: raise judge.repeats."
    else:
        advice = _TRY if judgement.target else f"{NAME_A_TARGET} {_TRY}"
        if not judgement.unit:
            advice = _TRY
    return f"Do not filter: {said}{figures} {advice}"


def _beside(best: JudgedRater, others: list[JudgedRater]) -> str:
    said = []
    for rater in others:
        text = f"{rater.described} {gain_shown(rater)} ({rater.outcome})"
        if rater.behind is not None:
            text += f", {shown(rater.behind, rater.behind_error)} behind it"
        said.append(text)
    text = f"Judged beside it: {'; '.join(said)}."
    costs = [r for r in (best, *others) if r.made_flops is not None]
    if costs:
        text += " Making them took " + ", ".join(
            f"{rater.made_flops:.3g} FLOPs ({rater.name})" for rater in costs
        ) + "."  # fmt: skip
    return text
