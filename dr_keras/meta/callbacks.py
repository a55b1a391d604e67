"""Callbacks of meta-training: metrics on disk, progress, TensorBoard.

`<base_dir>/metrics.jsonl` holds one object a line. "kind" is "step" after every meta-step (scalar
means over the population, and "members" with a list per metric) or "epoch" (means over the epoch,
what the meta-evaluation returned, and what other callbacks added before). "meta_step" counts
meta-steps done. docs/meta_logs.md says what the figures are.
"""

from collections import deque
import json
import pathlib
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.meta import score_health
from dr_keras.meta.scoring import scorer_of
from dr_keras.models.losses import says_counts
from dr_keras.system import whole_files
from dr_keras.system.progress import Progress, duration
import gin


class TrainerCallback(keras.callbacks.Callback):
    """A Keras callback that is handed the MetaTrainer as `trainer` before training begins."""

    trainer = None

    def set_trainer(self, trainer) -> None:
        self.trainer = trainer

    def on_members_age(self, done: int, total: int) -> None:
        """After each round of inner updates by which members reach their start ages.

        Args:
          done, total: updates of all members here, since meta-steps were last made.
        """


# What TensorBoard shows of every member, with all that is below it ("outer_loss/<set>").
_OF_MEMBERS = ("outer_loss", "meta_gradient_norm", "meta_gradient_snr_steps", "learning_rate")
OUTER_LOSS_OF = "outer_loss/"  # and a held-out set, where there are several


def _jsonable(value):
    """Floats that JSON has no word for become null."""
    value = float(value)
    return value if np.isfinite(value) else None


def read_metrics(base_dir, kind: str | None = None) -> list[dict]:
    """Records of a run's metrics.jsonl, of one kind or all; [] where there is none."""
    path = pathlib.Path(base_dir) / "metrics.jsonl"
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the last line of a run that was killed
    return [r for r in records if kind is None or r["kind"] == kind]


class MetricsFile(TrainerCallback):
    """Appends to metrics.jsonl; on a resume, records after the restored step are dropped."""

    def __init__(self, base_dir):
        super().__init__()
        self._path = pathlib.Path(base_dir) / "metrics.jsonl"
        self._file = None

    def on_train_begin(self, logs=None):
        done = int(self.trainer.meta_step.numpy())
        kept = [r for r in read_metrics(self._path.parent) if r["meta_step"] <= done]
        whole_files.write_text(self._path, "".join(json.dumps(r) + "\n" for r in kept))
        self._file = open(self._path, "a", buffering=1, encoding="utf-8")

    def _write(self, kind, logs, **more):
        record = {"kind": kind, "meta_step": int(self.trainer.meta_step.numpy())}
        record |= {name: _jsonable(value) for name, value in (logs or {}).items()} | more
        with whole_files.writing(self._path):
            self._file.write(json.dumps(record) + "\n")

    def on_train_batch_end(self, batch, logs=None):
        record = self.trainer.last_record
        members = {name: [_jsonable(v) for v in values] for name, values in record.members.items()}
        self._write(
            "step", logs, members=members, ages=record.ages, reinitialised=record.reinitialised
        )

    def on_epoch_end(self, epoch, logs=None):
        self._write("epoch", logs)

    def on_train_end(self, logs=None):
        self._file.close()


@gin.configurable
class ScoreHealth(TrainerCallback):
    """Adds `score_health.figures` of an epoch's last meta-steps to the epoch's logs.

    It reads the scores that weighed the inner batches, and scores nothing itself. Comes before the
    callbacks that write the logs.

    Args:
      meta_steps: before an epoch's end whose scores count.
      most_sources: sources of the train set with figures of their own, the largest.
    """

    def __init__(self, meta_steps: int = 50, most_sources: int = 12):
        super().__init__()
        self._recent: deque = deque(maxlen=meta_steps)
        self._most, self._shown = most_sources, []

    def on_train_begin(self, logs=None):
        self._recent.clear()
        self._shown = list(self.trainer.train_set.counts_by_source())[: self._most]

    def on_train_batch_end(self, batch, logs=None):
        record = self.trainer.last_record
        size = record.scores.shape[-1]
        self._recent.append((record.scores.reshape(-1, size), record.rows.reshape(-1, size)))

    def on_epoch_end(self, epoch, logs=None):
        if not self._recent:  # an epoch without a meta-step
            return
        scores, rows = (np.concatenate(parts) for parts in zip(*self._recent))
        self._recent.clear()
        train = self.trainer.train_set
        seen, place = np.unique(rows, return_inverse=True)
        counts = says_counts(self.trainer.per_example_loss)
        lengths = score_health.lengths(train, seen, counts)
        if logs is not None:
            logs |= score_health.figures(
                scores,
                None if lengths is None else lengths[place].reshape(rows.shape),
                train.sources[rows],
                self._shown,
            )


class ShowProgress(TrainerCallback):
    """Meta-step, rate, time left, outer loss, ESS, and the last meta-evaluation beside chance.

    Of several held-out sets the one with the highest loss is named. After the last step it says
    what is wrong with the scores, as far as `ScoreHealth` saw them.
    """

    def __init__(self, label: str = "meta-training"):
        super().__init__()
        self._label, self._progress, self._note, self._validated = label, None, "", ""
        self._ageing: tuple[float, int] | None = None
        self._epoch: dict = {}

    def on_train_begin(self, logs=None):
        done = int(self.trainer.meta_step.numpy())
        self._progress = Progress(self._label, self.params["meta_steps"], "meta-steps", done)
        if done < self.params["meta_steps"]:
            self._progress.update(done, "compiling the meta-step")

    def on_members_age(self, done, total):
        now, step = time.monotonic(), int(self.trainer.meta_step.numpy())
        if not done:
            self._ageing = None
        elif self._ageing is None:
            self._ageing = (now, done)  # after the first round, which may hold the compilation
        since, first = self._ageing or (now, done)
        note = f"members grow older: {done}/{total} updates"
        if done > first:
            rate = (done - first) / max(now - since, 1e-9)
            note += f"  {rate:,.1f}/s  {duration((total - done) / rate)} left"
        self._progress.update(step, note)

    def on_train_batch_end(self, batch, logs=None):
        self._note = f"outer loss {logs['outer_loss']:.3f}{_worst_set(logs)}"
        self._note += f"  ESS {logs['effective_sample_size']:.1f}{self._validated}"
        self._progress.update(int(self.trainer.meta_step.numpy()), self._note)

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = logs or {}
        if self._epoch.get("validation_loss") is not None:
            self._validated = f"  validation {self._epoch['validation_loss']:.3f}"
            if self._epoch.get("random_validation_loss") is not None:
                chance = self._epoch["random_validation_loss"]
                self._validated += f" (random choice {chance:.3f})"

    def on_train_end(self, logs=None):
        if self.params["meta_steps"]:
            self._progress.close(self._note)
        for sentence in score_health.warnings(self._epoch):
            print(f"warning: {sentence}", file=sys.stderr)


def _worst_set(logs: dict) -> str:
    """ " (books 3.512)": the held-out set with the highest loss, "" where there is only one."""
    losses = {n[len(OUTER_LOSS_OF) :]: v for n, v in logs.items() if n.startswith(OUTER_LOSS_OF)}
    if not losses:
        return ""
    worst = max(losses, key=lambda name: losses[name])
    return f" (worst: {worst} {losses[worst]:.3f})"


@gin.configurable(denylist=["base_dir", "train"])
class Summaries(TrainerCallback):
    """TensorBoard summaries in <base_dir>/summaries/meta_train.

    Scalars after every `scalar_interval` meta-steps (per member and mean), and at every epoch's
    end score histograms by source and the highest- and lowest-rated of a fixed sample as text.

    Args:
      base_dir: of the run.
      train: the set whose sample is scored; None leaves the heavy summaries out.
      sample_size: examples scored at an epoch's end, evenly spread over the set.
      extremes: examples shown at each end.
      scalar_interval: meta-steps between scalars.
    """

    def __init__(
        self,
        base_dir,
        train: ExampleSet | None = None,
        sample_size: int = 512,
        extremes: int = 8,
        scalar_interval: int = 1,
    ):
        super().__init__()
        self._folder = pathlib.Path(base_dir) / "summaries" / "meta_train"
        self._extremes, self._interval = extremes, max(1, scalar_interval)
        self._sample = None
        if train is not None and len(train):
            self._sample = train.thinned(sample_size)
        self._writer = self._scorer = self._clock = None

    def write_text(self, name: str, text: str) -> None:
        """One text summary at step 0, such as the operative configuration."""
        with tf.summary.create_file_writer(str(self._folder)).as_default(step=0):
            tf.summary.text(name, text)

    def on_train_begin(self, logs=None):
        self._writer = tf.summary.create_file_writer(str(self._folder))
        self._clock = (time.monotonic(), int(self.trainer.meta_step.numpy()))
        if self._sample is not None:
            self._scorer = scorer_of(self.trainer.problem, self._sample, self.trainer.rows_at_once)

    def on_train_batch_end(self, batch, logs=None):
        record = self.trainer.last_record
        if record.meta_step % self._interval:
            return
        with self._writer.as_default(step=record.meta_step):
            for name, value in logs.items():
                _scalar(f"mean/{name}", name, value)
            for name, values in record.members.items():
                if name.split("/")[0] in _OF_MEMBERS:
                    for member, value in enumerate(values):
                        _scalar(f"{name}/member_{member}", name, value)
            for member, age in enumerate(record.ages):
                tf.summary.scalar(f"age/member_{member}", age)

    def on_epoch_end(self, epoch, logs=None):
        step = int(self.trainer.meta_step.numpy())
        now = time.monotonic()
        with self._writer.as_default(step=step):
            rate = (step - self._clock[1]) / max(now - self._clock[0], 1e-9)
            tf.summary.scalar("meta_steps_per_second", rate)
            for name, value in (logs or {}).items():
                _scalar(f"epoch/{name}", name, value)
            if self._scorer is not None:
                self._scores(self._scorer(self._sample))
        self._writer.flush()
        self._clock = (time.monotonic(), step)

    def _scores(self, scores: np.ndarray) -> None:
        sources = np.asarray(self._sample.sources)
        tf.summary.histogram("scores/all", scores)
        for source in self._sample.counts_by_source():
            tf.summary.histogram(f"scores/{source}", scores[sources == source])
        order = np.argsort(scores, kind="stable")
        for name, rows in (
            ("lowest_rated", order[: self._extremes]),
            ("highest_rated", order[::-1][: self._extremes]),
        ):
            tf.summary.text(name, extremes_table(self._sample, scores, rows))

    def on_train_end(self, logs=None):
        self._writer.close()


def _scalar(tag: str, name: str, value) -> None:
    """A scalar; a signal-to-noise ratio that is not known yet is no point of its curve."""
    if np.isfinite(value) or not name.startswith("meta_gradient_snr"):
        tf.summary.scalar(tag, value)


def extremes_table(examples: ExampleSet, scores: np.ndarray, rows) -> str:
    """A Markdown table of some rows: score, source, id, text."""
    lines = ["| score | source | id | text |", "|---|---|---|---|"]
    for row in rows:
        text = " ".join(examples.text(int(row)).split()).replace("|", "\\|")[:400]
        lines.append(
            f"| {scores[row]:.3f} | {examples.sources[row]} | {examples.ids[row]} | {text} |"
        )
    return "\n".join(lines)
