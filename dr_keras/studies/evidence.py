"""The evidence protocol: does the filtered corpus train better models for less compute?

    <base_dir>/rater/               a run of meta_train, where no rater was given
    <base_dir>/scores.npz           of the train part
    <base_dir>/cells/<size>/        one training run each (see studies.cells)
    <base_dir>/claims/              which process is at what
    <base_dir>/stages/, baselines/  what else is done once
    <base_dir>/summaries/           TensorBoard: curves and HParams of every cell
    <base_dir>/results.json, report.html

Any number of processes, on machines that share the folder, may run the same command: each takes
what is not done and not claimed, and all of them write the same report at the end. A stopped study
goes on with the next call.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import pathlib

from dr_keras.baselines.arms import ARMS, ON_REQUEST
from dr_keras.config import configuration
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.examples import Parts
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import ConfigurationError
from dr_keras.meta.devices import strategies
from dr_keras.rating.fractions import exact_fraction
from dr_keras.runs.meta_training import TRAINED_BY
from dr_keras.studies.arm_streams import CANDIDATE, RANDOM, UNFILTERED
from dr_keras.studies.cells import WITH_TARGET
from dr_keras.studies.evidence_run import Study
from dr_keras.studies.learned_fraction import LEARNED
from dr_keras.studies.results import Results, WriteReport
from dr_keras.training.tasks import Task
from dr_keras.training.trainers import LanguageModelTrainer
import gin

# Fractions that are tried where none is given.
SWEEP = (0.1, 0.25, 0.5, 0.75, 0.9)
# What a later call in the same folder may change: cells that are there stay good.
MAY_DIFFER = (
    "evidence.seeds",
    "evidence.more_seeds",
    "evidence.sweep_seeds",
    "evidence.core_arms",
    "evidence.more_arms",
    "evidence.title",
    "evidence.stale_after",
    "evidence.sweep_sizes",
    "evidence.shorter_runs",
    "evidence.with_target",
    "evidence.shorter_arms",
    "SEEDS",
    "SIZES",
    *TRAINED_BY,
    *strategies.BINDINGS,
)


@gin.configurable("evidence", denylist=["say"])
@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """The settings of a study, and `run`.

    Args:
      data: the four parts, or a function that returns them, such as @text_data.
      sizes: name -> builds the trainer of a size, smallest first, such as
        {'1M': @medium/LanguageModelTrainer}.
      tokenizer: of the data, for tasks and other corpora.
      rater: path of an exported rater, or the name of one that ships; None meta-trains one here, by
        the bindings that `meta_train` reads.
      seeds: of every arm; at least three, or there is no verdict.
      more_seeds: further ones at the smallest size, where runs are cheap.
      core_arms: run at every size; "unfiltered" and "rater" must be among them.
      more_arms: run at the smallest size; names are those of `baselines.arms.Baselines`.
      online_arms: arms that choose within oversized batches while training; the others choose a
        subset beforehand. A random arm among them that makes a single pass is the unfiltered arm,
        and is not run.
      discard_fraction: share to drop; None takes the best of `sweep` on the smallest size by the
        loss on the validation part; "learned" what the rater's own weights leave out, to the
        hundredth (`studies.learned_fraction`).
      sweep: fractions to try for the rater's arm; empty tries none, and so does None where
        `discard_fraction` is given. None otherwise tries `SWEEP`.
      sweep_seeds: seeds of the sweep; None for `seeds`.
      sweep_sizes: "all" repeats the sweep at every size, to see whether the choice is the best
        there too; "smallest" does not.
      shorter_runs: shares of the steps in which some arms are trained again, with the whole
        schedule of the learning rate: do they get as low as the unfiltered arm in its full run?
      shorter_arms: these arms; a size that lacks one leaves it out.
      equal_tokens: whether arms train on full windows alone, padded ones being joined (see
        `data.full_windows`), so that all see as many tokens.
      with_target: share of every batch that is text of the outer part in a second study of each
        size, "<size> + target": what a filter is worth to somebody who also trains on the text that
        says what is wanted. None or 0 makes none.
      test_size, validation_size: at most so many examples of these parts, evenly spread.
      corpora: other corpora on which losses are reported; windows that the train part has are left
        out.
      tasks: multiple-choice tasks, such as @jsonl_tasks().
      ask_tasks: how often they are asked while models train, beside the end: curves of accuracy and
        likelihood, which cost the time of asking.
      meta_training_flops: what meta-training cost, for a rater that is given.
      stale_after: seconds without a sign of life after which a process's cell is taken over.
      title: of the report.
      say: prints a line for the user.

    Raises:
      ConfigurationError: a setting out of its range.
    """

    data: Callable[[], Parts] | Parts = gin.REQUIRED
    sizes: Mapping[str, Callable[[], LanguageModelTrainer]] = gin.REQUIRED
    tokenizer: Tokenizer = gin.REQUIRED
    rater: str | None = None
    seeds: Sequence[int] = (0, 1, 2)
    more_seeds: Sequence[int] = ()
    core_arms: Sequence[str] = (UNFILTERED, CANDIDATE, RANDOM)
    more_arms: Sequence[str] = tuple(
        arm for arm in ARMS if arm not in (UNFILTERED, CANDIDATE, RANDOM, *ON_REQUEST)
    )
    online_arms: Sequence[str] = ()
    discard_fraction: float | str | None = None
    sweep: Sequence[float] | None = None
    sweep_seeds: Sequence[int] | None = None
    sweep_sizes: str = "all"
    shorter_runs: Sequence[float] = ()
    shorter_arms: Sequence[str] = (CANDIDATE,)
    equal_tokens: bool = True
    with_target: float | None = None
    test_size: int | None = 1024
    validation_size: int | None = 1024
    corpora: Sequence[Corpus] = ()
    tasks: Sequence[Task] = ()
    ask_tasks: int = 0
    meta_training_flops: float | None = None
    stale_after: float = 600.0
    title: str = "Does the filtered corpus train better models for less compute?"
    say: Callable[[str], None] = print

    def __post_init__(self):
        if not self.sizes or not self.seeds:
            raise ConfigurationError("evidence.sizes and evidence.seeds must not be empty.")
        missing = [arm for arm in (UNFILTERED, CANDIDATE) if arm not in self.core_arms]
        if missing:
            raise ConfigurationError(
                f"evidence.core_arms lacks {' and '.join(missing)}: nothing could be compared."
            )
        if self.sweep_sizes not in ("all", "smallest"):
            raise ConfigurationError(
                f"evidence.sweep_sizes is {self.sweep_sizes!r}: it must be 'all' or 'smallest'."
            )
        if UNFILTERED in self.online_arms:
            raise ConfigurationError("evidence.online_arms: unfiltered chooses nothing.")
        unknown = [n for n in self.sizes if not n or set(n) & set("/\\") or n[0] == "."]
        if unknown:
            raise ConfigurationError(f"evidence.sizes: {unknown[0]!r} cannot name a folder.")
        if self.with_target:
            self._check_target()
        if self.ask_tasks < 0:
            raise ConfigurationError(
                f"evidence.ask_tasks is {self.ask_tasks}: it must be at least 0."
            )
        wrong = [share for share in self.shorter_runs if not 0 < share < 1]
        if wrong:
            raise ConfigurationError(
                f"evidence.shorter_runs: {wrong[0]:g} is no share of the steps between 0 and 1."
            )
        absent = [arm for arm in self.shorter_arms if arm not in self.arms(self.smallest)]
        if absent and self.shorter_runs:
            raise ConfigurationError(
                f"evidence.shorter_arms names {absent[0]!r}, which is neither in core_arms nor in"
                " more_arms: add it there."
            )
        if self.discard_fraction is None and not self.tried:
            raise ConfigurationError(
                "evidence.discard_fraction is None and evidence.sweep is empty: give one of them."
            )
        given = [self.discard_fraction] if isinstance(self.discard_fraction, int | float) else []
        if isinstance(self.discard_fraction, str) and self.discard_fraction != LEARNED:
            raise ConfigurationError(
                f"evidence.discard_fraction is {self.discard_fraction!r}: it must be a number,"
                f" {LEARNED!r} or None."
            )
        for fraction in (*self.tried, *given):
            if exact_fraction(fraction) == 0:
                raise ConfigurationError(
                    "a discard fraction is 0: unfiltered is an arm of its own."
                )

    def _check_target(self) -> None:
        if not 0 < self.with_target < 1:
            raise ConfigurationError(
                f"evidence.with_target is {self.with_target:g}: it must be a share of every batch"
                " between 0 and 1, or None."
            )
        if self.online_arms:
            raise ConfigurationError(
                "evidence.with_target and evidence.online_arms are both given: an arm that chooses"
                " in oversized batches has no place for text that is not chosen. Leave one out."
            )
        named = [name for name in self.sizes if name.endswith(WITH_TARGET)]
        if named:
            raise ConfigurationError(
                f"evidence.sizes: {named[0]!r} is how a size with the target's text is called: give"
                " it another name."
            )

    @property
    def all_sizes(self) -> list[str]:
        """Names of the sizes, each followed by itself with the target's text, where that is run."""
        more = [WITH_TARGET] if self.with_target else []
        return [name + end for name in self.sizes for end in ["", *more]]

    @property
    def smallest(self) -> str:
        """The size that has every arm."""
        return next(iter(self.sizes))

    def arms(self, size: str) -> list[str]:
        """Arms of a size."""
        more = self.more_arms if size.removesuffix(WITH_TARGET) == self.smallest else ()
        return list(dict.fromkeys([*self.core_arms, *more]))

    def seeds_of(self, size: str) -> list[int]:
        """Seeds of a size."""
        more = self.more_seeds if size.removesuffix(WITH_TARGET) == self.smallest else ()
        return list(dict.fromkeys([*self.seeds, *more]))

    @property
    def tried(self) -> Sequence[float]:
        """The fractions of the sweep."""
        if self.sweep is None:
            return SWEEP if self.discard_fraction is None else ()
        return self.sweep

    def is_swept(self, size: str) -> bool:
        """Whether the fractions are tried at this size; never with the target's text."""
        if size not in self.sizes:
            return False
        return bool(self.tried) and (size == self.smallest or self.sweep_sizes == "all")

    def run(self, base_dir, write_report: WriteReport | None = None) -> Results:
        """Runs what is left of the study in `base_dir` and writes its report.

        Args:
          base_dir: the study's folder; several processes may share it.
          write_report: writes <base_dir>/report.html from the results; None leaves it out.

        Returns:
          The results as written to results.json.

        Raises:
          ConfigurationError: a setting out of its range, or base_dir holds a study with others.
          DataError: the data cannot be used.
          CheckpointError: a file of the study is damaged, or of an earlier version.
        """
        for size, build in self.sizes.items():  # settings that cannot work, before the work
            trainer = build()
            for share in self.shorter_runs:
                try:
                    trainer.steps_of(share)
                except ConfigurationError as error:
                    raise ConfigurationError(f"evidence.shorter_runs, {size}: {error}") from error
        base_dir = pathlib.Path(base_dir)
        configuration.check_same_config(base_dir, may_differ=MAY_DIFFER)
        return Study(self, base_dir).run().publish(base_dir, write_report)
