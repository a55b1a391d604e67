"""A rater fitted to what a scorer says of the train part: where meta-training goes on from.

A scorer (`baselines.scores.Scorer`), here the *teacher*, scores the train part once; the rater
learns to give the same order from the examples alone, by plain Keras training. What comes of it is
a rater like any other: exported, served and filtered with, at the cost of one small network an
example, where the teacher may need two models, or the whole corpus.

<run>/fitted/teacher-<key>.npz    the teacher's scores of the train part
<run>/fitted/rater.weights.h5     Keras weights of the rater
<run>/fitted/fit.json             settings, costs, how well it follows; written last, and its
                                  presence means done
"""

from collections.abc import Callable
import dataclasses
import json
import pathlib
import sys
import time

import keras
import numpy as np

from dr_keras.baselines.candidates import window_candidates
from dr_keras.baselines.scores import Scorer, Scores, cached
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.meta.checkpoints import file_checksum, save_weights
from dr_keras.meta.scoring import Scorer as RaterScorer
from dr_keras.meta.scoring import reference_losses
from dr_keras.models.rater_scores import ReferenceLoss, check_can_score, reads_by_token, state_read
from dr_keras.runs.fit_lessons import (
    KINDS,
    Lesson,
    begin_from,
    held_out_rows,
    lesson,
    take_over,
    twin_by_token,
)
from dr_keras.runs.fit_records import RECORD, WEIGHTS, add_costs, agreement, read_record, spread
from dr_keras.runs.samples import whole_documents
from dr_keras.system import whole_files
from dr_keras.system.progress import Progress
from dr_keras.training.trainers import RepeatedTrainer
import gin

_EVALUATIONS, _MOST_EVALUATED, _ROWS = 10, 2048, 256


@gin.configurable("fitted_rater")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FittedRater:
    """How a rater is fitted; bound as `experiment.initial_rater = @fitted_rater()`.

    The rater minimises the mean of a Huber loss or of squares between its scores and the teacher's
    over the windows of the train part, each window alike, by AdamW with a cosine learning rate.
    Windows of some documents, chosen by hash, are held out to say how well it follows.

    Args:
      teacher: what scores the train part, such as @conditional_loss, @cross_classifier_scores or
        @score_file; higher is better.
      epochs: passes over the windows.
      least_updates: a small corpus is gone through more often, until there are so many.
      batch_size: windows an update.
      learning_rate: peak.
      weight_decay: AdamW's.
      clip_norm: global norm above which gradients are scaled down; None never does.
      targets: what becomes of the teacher's scores: "standard", mean 0 and standard deviation 1;
        or "ranks", the normal distribution's value at each score's rank, for a teacher with tails.
      scale: standard deviation that the targets then get. Meta-training weighs a batch by a
        softmax over scores: of normal scores with the deviation s about exp(-s²) of a batch counts
        (its effective sample size), and a fit's own deviation is smaller than its targets'.
      huber: deviations at which squares become straight lines; None: squares everywhere.
      token_share: of a teacher that says what single tokens add (`conditional_loss.by_token =
        True`), what the error of tokens counts for beside that of windows; 0 leaves them out.
      begin_with_teacher: whether the rater begins with the weights of the teacher's model, which
        must have its width, layers and heads; its own last layer stays.
      beginner: another scorer whose weights it begins with, such as @tuned_model: a model of the
        rater's own size, where the teacher's is larger.
      most_windows: about so many windows, of whole documents chosen by hash, are what the teacher
        scores and the rater learns from; None: all. The teacher costs more than the fit does.
      held_out: share of the documents that the fit does not see.
      seed: of the teacher, and of the order of the batches.
      jit_compile: compile with XLA.

    Raises:
      ConfigurationError: a setting out of its range.
    """

    teacher: Scorer = gin.REQUIRED
    epochs: float = 1.0
    least_updates: int = 500
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    targets: str = "standard"
    scale: float = 1.0
    huber: float | None = None
    token_share: float = 1.0
    begin_with_teacher: bool = False
    beginner: Scorer | None = None
    most_windows: int | None = None
    held_out: float = 0.05
    seed: int = 0
    jit_compile: bool = True

    def __post_init__(self):
        if self.targets not in KINDS:
            raise ConfigurationError(
                f"fitted_rater.targets is {self.targets!r}: choose one of {', '.join(KINDS)}."
            )
        if self.token_share < 0:
            raise ConfigurationError(
                f"fitted_rater.token_share is {self.token_share}: it must be at least 0."
            )
        if not 0 < self.held_out < 1:
            raise ConfigurationError(
                f"fitted_rater.held_out is {self.held_out}: it must lie between 0 and 1, such as"
                " 0.05."
            )
        for name in ("epochs", "batch_size", "learning_rate", "scale"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(
                    f"fitted_rater.{name} is {getattr(self, name)}: it must be above 0."
                )
        if self.huber is not None and not self.huber > 0:
            raise ConfigurationError(
                f"fitted_rater.huber is {self.huber}: it must be above 0, or None for squares."
            )

    @property
    def teacher_name(self) -> str:
        """As people call the teacher."""
        return _name(self.teacher)

    def fit(
        self,
        rater: keras.Model,
        parts: Parts,
        folder: str | pathlib.Path,
        reference: ReferenceLoss | None = None,
        rater_fn: Callable[..., keras.Model] | None = None,
    ) -> dict:
        """Gives a rater the weights of its fit, which is made where the folder has none yet.

        Args:
          rater: with the weights to begin from; example scores [B] or by token [B, S], whose means
            are fitted then.
          parts: the teacher scores `train`, and is shown `outer`.
          folder: where the fit is kept.
          reference: of a rater that reads "reference_loss".
          rater_fn: builds such a rater; asked for one by token where the teacher speaks of tokens.

        Returns:
          What fit.json says: "teacher" (name, seconds, training_flops, scoring_flops, facts),
          "beginning" (whose weights it began with, with what that cost; None: its own),
          "fit" (seconds, flops, updates, epochs, windows, without_a_score, by_token), "held_out"
          (windows, rank_correlation, explained: 1 - squared error / variance of the targets),
          "scores" (of held-out windows: mean, deviation, effective_share: the effective sample size
          of a large batch, as a share of it), "flops" (all together, None with a "reason" where the
          rater's products cannot be counted), "settings" and "sha256" of the weights.

        Raises:
          CheckpointError: the fit in the folder is damaged, or of other settings or data.
          ConfigurationError: the rater cannot score by itself, or the teacher lacks what it needs.
          DataError: the teacher's scores cannot be learned from.
          NonFiniteError: the loss became NaN or infinite.
        """
        folder = pathlib.Path(folder)
        if (folder / RECORD).exists():
            return self._load(rater, parts, folder)
        identity = self._identity(parts)
        parts = self._taken(parts)
        examples = _with_reference(rater, parts.train, reference)
        check_can_score(rater, examples.features, reference is not None)
        scores = self._teach(parts, folder)
        begin = time.monotonic()
        taught = lesson(
            scores,
            examples,
            self.teacher_name,
            kind=self.targets,
            scale=self.scale,
            held_out=self.held_out,
            least=self.batch_size,
            by_token=self.token_share > 0,
        )
        fitted, held = taught.fitted, taught.held
        beginning = self._begin(rater, scores, parts, folder)
        model = rater if taught.tokens is None else twin_by_token(rater, rater_fn)
        trainer = self._trainer(model, taught)
        tested = taught.examples(examples, held, "the windows held out")
        learned = taught.examples(examples, fitted, "the windows to fit")
        self._train(trainer, learned, tested.thinned(_MOST_EVALUATED))
        take_over(model, rater, tested.thinned(8))
        found = RaterScorer(rater, _ROWS, self.jit_compile)(examples.take(held)).astype(np.float64)
        record = {
            "teacher": {
                "name": self.teacher_name,
                "seconds": scores.facts["seconds"],
                "training_flops": scores.training_flops,
                "scoring_flops": scores.forward_flops * len(examples),
                "facts": scores.facts["of_scorer"],
            },
            "fit": {
                "updates": trainer.steps,
                "epochs": trainer.steps * self.batch_size / len(fitted),
                "windows": len(fitted),
                "by_token": taught.tokens is not None,
                "without_a_score": len(examples) - len(fitted) - len(held),
                "seconds": time.monotonic() - begin,
            },
            "beginning": beginning,
            "held_out": agreement(found, taught.windows[held]),
            "scores": spread(found),
            **identity,
        }
        made = reference if examples.features.keys() != parts.train.features.keys() else None
        evaluations = trainer.steps // trainer.evaluate_every + 1
        evaluated = evaluations * min(len(held), _MOST_EVALUATED) + len(held)
        trained_on = trainer.steps * self.batch_size
        add_costs(record, rater, examples, made, trained_on, evaluated)
        with whole_files.replacing(folder / WEIGHTS) as temporary:
            save_weights(rater, temporary)
            record["sha256"] = file_checksum(temporary)
        whole_files.write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
        return record

    def held_out_windows(
        self, parts: Parts, folder: str | pathlib.Path
    ) -> tuple[ExampleSet, np.ndarray]:
        """What the fit does not see: windows, and the teacher's scores of them, float64 [N].

        Args:
          parts, folder: as of `fit`; where it has run, the teacher is not asked again.
        """
        parts = self._taken(parts)
        values = np.asarray(self._teach(parts, pathlib.Path(folder)).values, np.float64)
        rows = np.flatnonzero(held_out_rows(parts.train, self.held_out) & np.isfinite(values))
        return parts.train.take(rows, "the windows held out"), values[rows]

    def _taken(self, parts: Parts) -> Parts:
        """The parts with what of the train part is scored and learned from."""
        if self.most_windows is None:
            return parts
        return dataclasses.replace(parts, train=whole_documents(parts.train, self.most_windows))

    def _identity(self, parts: Parts) -> dict:
        """What two fits must share to be one."""
        settings = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("teacher", "beginner", "jit_compile")
        }
        settings["beginner"] = _name(self.beginner) if self.beginner else None
        return {"settings": settings, "data_fingerprint": parts.fingerprint}

    def _load(self, rater: keras.Model, parts: Parts, folder: pathlib.Path) -> dict:
        names = ("settings", "data_fingerprint", "sha256")
        record = read_record(folder, names)
        known = {name: record[name] for name in names}
        now = self._identity(parts) | {"teacher": self.teacher_name}
        if known | {"teacher": record["teacher"]["name"]} != now | {"sha256": known["sha256"]}:
            raise CheckpointError(
                f"{folder} holds a rater fitted with other settings, another teacher or other"
                " data: name a new base_dir, or remove the folder to fit the rater again."
            )
        try:
            if file_checksum(folder / WEIGHTS) != known["sha256"]:
                raise ValueError("it does not have the checksum in fit.json")
            rater.load_weights(folder / WEIGHTS)
        except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"{folder / WEIGHTS} cannot be loaded into '{rater.name}' ({error}): remove"
                f" {folder} to fit the rater again."
            ) from error
        return record

    def _teach(self, parts: Parts, folder: pathlib.Path) -> Scores:
        """The teacher's scores, kept in the folder: a fit that was stopped need not ask again."""
        return self._asked("teacher", self.teacher, parts, folder)

    def _asked(self, role: str, scorer: Scorer, parts: Parts, folder: pathlib.Path) -> Scores:
        def work() -> Scores:
            reads = f"{len(parts.train):,} windows"
            print(f"{role}: {_name(scorer)} works on {reads}", file=sys.stderr)
            begin = time.monotonic()
            outer = window_candidates(parts.outer) if len(parts.outer) else None
            found = scorer(window_candidates(parts.train), outer, seed=self.seed)
            facts = {"of_scorer": dict(found.facts), "seconds": time.monotonic() - begin}
            return dataclasses.replace(found, facts=facts)

        return cached(folder, role, (_name(scorer), parts.fingerprint, str(self.seed)), work)

    def _begin(
        self, rater: keras.Model, scores: Scores, parts: Parts, folder: pathlib.Path
    ) -> dict | None:
        """Gives the rater the weights that it begins with, where others than its own are asked for.

        Returns:
          Who gave them, and what that cost; None of the rater's own.
        """
        if self.beginner is not None:
            given = self._asked("beginner", self.beginner, parts, folder)
            begin_from(rater, given.weights, "beginner", _name(self.beginner))
            cost = {"seconds": given.facts["seconds"], "training_flops": given.training_flops}
            return {"name": _name(self.beginner), "facts": given.facts["of_scorer"], **cost}
        if self.begin_with_teacher:
            begin_from(rater, scores.weights, "begin_with_teacher", self.teacher_name)
            return {"name": self.teacher_name, "facts": {}, "seconds": 0.0, "training_flops": 0.0}
        return None

    def _trainer(self, model: keras.Model, taught: Lesson) -> RepeatedTrainer:
        updates = self.epochs * len(taught.fitted) / self.batch_size
        steps, every = _schedule(max(updates, self.least_updates))
        return RepeatedTrainer(
            # The very model: it is trained where it stands, from the weights that it has.
            lambda: model,
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            final_learning_rate_share=0.02,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            evaluate_every=every,
            evaluation_batch_size=_ROWS,
            jit_compile=self.jit_compile,
            loss_sums=taught.loss(self.huber, self.token_share),
        )

    def _train(self, trainer: RepeatedTrainer, learned: ExampleSet, tested: ExampleSet) -> None:
        shown, note = Progress(f"fitting to {self.teacher_name}", trainer.steps, "updates"), ""

        def progress(step: int, steps: int, logs: dict[str, float]) -> None:
            nonlocal note
            if "test_loss" in logs:
                note = f"held-out loss {logs['test_loss']:.4f}"
            shown.update(step, note)

        trainer.train(learned, tested, self.seed, progress)
        shown.close(note)


def _name(scorer: Scorer) -> str:
    return getattr(scorer, "__name__", type(scorer).__name__)


def _schedule(updates: float) -> tuple[int, int]:
    """(about so many updates, updates between evaluations): the one a multiple of the other."""
    every = max(round(updates / _EVALUATIONS), 1)
    if updates >= 25 * _EVALUATIONS:  # 25 updates go into one call of the compiled loop
        every = 25 * max(round(updates / _EVALUATIONS / 25), 1)
    return every * max(round(updates / every), 1), every


def _with_reference(
    rater: keras.Model, examples: ExampleSet, reference: ReferenceLoss | None
) -> ExampleSet:
    """The examples without corpus weights, and with what the rater reads of a reference model."""
    features = dict(examples.features)
    if reference is not None and "reference_loss" in state_read(rater, features):
        features["reference_loss"] = reference_losses(reference, examples, reads_by_token(rater))
    return dataclasses.replace(examples, features=features, weights=None)
