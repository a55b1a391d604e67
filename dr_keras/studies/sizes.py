"""What came of one size of model: its arms, their figures over seeds, and the verdict.

These dataclasses are part of `results.json`; `studies.results` says what None means in it.
"""

import dataclasses

# The figure by which arms are compared where no other metric is named: the final test loss.
LOSS = "test loss"
DO_NOT_FILTER = "do_not_filter"

Curve = list[tuple[int, float]]


def empty(kind: type):
    """A field of a dataclass that is an empty one of its kind unless it is given."""
    return dataclasses.field(default_factory=kind)


@dataclasses.dataclass(frozen=True)
class Difference:
    """A figure of one arm minus that of another, paired by seed: see `paired.difference`.

    Attributes:
      difference: mean over the seeds that both arms have.
      standard_error: of that mean; None with fewer than two such seeds.
      outcome: "better" or "worse" beyond two standard errors, else "undecided".
      pairs: seeds that both arms have.
    """

    difference: float
    standard_error: float | None
    outcome: str
    reason: str | None = None
    pairs: int = 0

    def shown(self, digits: int = 3) -> str:
        """ "difference ± standard error", with its sign; without an error the difference alone."""
        error = "" if self.standard_error is None else f" ± {self.standard_error:.{digits}f}"
        return f"{self.difference:+.{digits}f}{error}"


@dataclasses.dataclass(frozen=True)
class Tally:
    """Cells in which the candidate is better than a rival, not told from it, or worse.

    Attributes:
      by_chance: how many would be called better or worse if no arm differed from any other; half
        of them better.
    """

    better: int
    undecided: int
    worse: int
    by_chance: float

    @property
    def cells(self) -> int:
        """All of them."""
        return self.better + self.undecided + self.worse

    def shown(self) -> str:
        """In words."""
        text = f"better in {self.better} of {self.cells}, worse in {self.worse}"
        if not self.by_chance:
            return text
        chance = f"{self.by_chance / 2:.1f}"
        return f"{text} (by chance alone {chance} better and {chance} worse)"


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
    against: dict[str, Difference] = empty(dict)

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
    """What one arm costs and saves: see `costs.arm_account`.

    Attributes:
      making: operations of making what scores, once; None where they are not known.
    """

    run: Run
    steps_share: float | None
    flops_share: float | None
    flops_share_by_seed: dict[str, float | None]
    spread: float | None
    saving: float | None
    saving_shared: float | None
    runs_to_pay: float | None
    reason: str | None = None
    making: float | None = None

    def total_share(self, full: float, runs: float) -> float | None:
        """Making, scoring and training to the reference's loss, as a share of its run.

        Args:
          full: operations of the reference's run.
          runs: that share what is made; each of them scores anew.

        Returns:
          None where the loss is never reached or the making is not known.
        """
        if self.flops_share is None or self.making is None:
            return None
        return self.flops_share + self.making / runs / full


@dataclasses.dataclass(frozen=True)
class Budget:
    """What an arm's runs read, means over seeds.

    Attributes:
      pool_examples, pool_tokens: what there was to draw from, each once. Of examples that are no
        text, each counts as one token.
      tokens_seen: trained on, repetitions counted.
      epochs: of the pool: examples trained on per example in it.
      unique_tokens: of the pool, trained on, each counted once.
      passes: examples read, discarded ones included, per example of the train part.
      target_tokens_seen: of `tokens_seen`, those of the target's text, which is mixed into the
        batches of every arm and is in no pool; 0 where there is none.
      target_epochs: how often each of its examples was trained on.
    """

    pool_examples: float
    pool_tokens: float
    tokens_seen: float
    epochs: float
    unique_tokens: float | None = None
    passes: float | None = None
    target_tokens_seen: float = 0.0
    target_epochs: float = 0.0


@dataclasses.dataclass(frozen=True)
class Dropped:
    """The examples that an arm leaves out, and how many of them are known to be bad."""

    examples: int
    corrupted: int | None = None
    mislabelled: int | None = None


@dataclasses.dataclass(frozen=True)
class MetricCurve:
    """A figure other than the test loss while training: over seeds, as `Arm.mean` and `spread`."""

    mean: Curve
    spread: Curve = empty(list)


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
      bits_per_byte: `final` by what does not depend on the tokenizer, of text alone.
      discard_fraction: share of the train part left out.
      seconds: mean wall time of a run.
      pool_by_source, pool_by_damage: examples to draw from, where an arm has the same in every run.
      metric_curves: of those `metrics` that were measured while training as well.
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
    metrics: dict[str, Summary] = empty(dict)
    by_source: dict[str, Summary] = empty(dict)
    account: Account | None = None
    dropped: Dropped | None = None
    pool_by_source: dict[str, int] = empty(dict)
    pool_by_damage: dict[str, int] = empty(dict)
    bits_per_byte: Summary | None = None
    metric_curves: dict[str, MetricCurve] = empty(dict)

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
      outcome: "better", "worse", "undecided" or "too_small"; `DO_NOT_FILTER` of a study that
        stopped before it trained any arm.
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
    """An arm trained in fewer steps, against the reference's full run."""

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
      bytes_per_token: UTF-8 bytes that a target of the test part stands for; None where examples
        are no text.
    """

    name: str
    parameters: int
    steps: int
    batch_size: int
    sequence_length: int
    tokens_a_run: int | None = None
    forward_flops: int | None = None
    bytes_per_token: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size(SizeFacts):
    """The arms compared at one size.

    Attributes:
      discard_fraction: what the candidate achieved.
      arms: the reference among them.
      verdict: on this size.
      shorter_runs: share of the steps -> arm -> what came of it.
    """

    discard_fraction: float
    arms: dict[str, Arm]
    verdict: Verdict
    shorter_runs: dict[str, dict[str, ShorterRun]] = empty(dict)


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
class Protocol:
    """What was compared, and how.

    Attributes:
      reference: the arm that filters nothing.
      candidate: the arm in question.
      baselines: arms that the candidate has to beat as well, where they ran.
      seeds: of every arm, at one size or more.
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
    core_arms: list[str] = empty(list)
    more_arms: list[str] = empty(list)
    online_arms: list[str] = empty(list)
    discard_fraction: float | None = None
    chosen_by: str | None = None
    same_as_unfiltered: list[tuple[str, str]] = empty(list)
    warnings: list[str] = empty(list)


def percent(share: float | None, digits: int = 0) -> str:
    """A share as a percentage, "not reached" for None."""
    return "not reached" if share is None else f"{100 * share:.{digits}f}%"
