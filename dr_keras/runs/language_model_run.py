"""One training run of a language model, in a run folder: plain Keras training on a corpus.

<base_dir>/metrics.jsonl              {"step", "loss", "test_loss"} at every evaluation
<base_dir>/summaries/train/           the same for TensorBoard, and the configuration as text
<base_dir>/operative_config-0.gin
<base_dir>/final.weights.h5           Keras weights after the last step
<base_dir>/record.json                TrainingRecord; written last, its presence means done
"""

from collections.abc import Callable
import dataclasses
import json
import pathlib

import keras
import tensorflow as tf

from dr_keras.config.configuration import (
    check_same_config,
    operative_config,
    write_operative_config,
)
from dr_keras.data.examples import Parts
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.models.model_parts import share_trained
from dr_keras.system import locks, whole_files
from dr_keras.system.progress import Progress
from dr_keras.training.records import TrainingRecord
from dr_keras.training.trainers import LanguageModelTrainer
import gin


class _RunFiles(keras.callbacks.Callback):
    """Writes metrics.jsonl and TensorBoard scalars at every evaluation."""

    def __init__(self, base_dir: pathlib.Path, evaluate_every: int, part: str):
        super().__init__()
        self.base_dir, self.every, self.part = base_dir, evaluate_every, part

    def on_train_begin(self, logs=None):
        write_operative_config(self.base_dir, 0)
        self.metrics = open(self.base_dir / "metrics.jsonl", "w", encoding="utf-8")
        self.writer = tf.summary.create_file_writer(str(self.base_dir / "summaries" / "train"))
        with self.writer.as_default(step=0):
            # Four leading blanks make Markdown show it as it is.
            config = "\n".join("    " + line for line in operative_config().splitlines())
            tf.summary.text("operative_config", config)

    def on_epoch_end(self, epoch, logs=None):
        step = (epoch + 1) * self.every
        line = {"step": step, "loss": float(logs["loss"]), f"{self.part}_loss": logs["test_loss"]}
        with whole_files.writing(self.metrics.name):
            self.metrics.write(json.dumps(line) + "\n")
            self.metrics.flush()
        with self.writer.as_default(step=step):
            tf.summary.scalar("train/loss", line["loss"])
            tf.summary.scalar(f"{self.part}/loss", logs["test_loss"])
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.metrics.close()
        self.writer.close()


@gin.configurable(denylist=["base_dir"])
@locks.alone_at("base_dir", "language-model training", CheckpointError)
def train_language_model(
    base_dir,
    data: Callable[[], Parts] | Parts = gin.REQUIRED,
    trainer: Callable[[], LanguageModelTrainer] = LanguageModelTrainer,
    evaluate_on: str = "validation",
    seed: int = 0,
) -> TrainingRecord:
    """Trains a language model on the train part; a run that is done is read, not repeated.

    An unfinished run starts over: these runs are short, and only meta-training resumes by step.

    Args:
        base_dir: the run folder.
        data: the parts, or a function that returns them, such as @text_data.
        trainer: builds the trainer; bind `LanguageModelTrainer.model_fn` and its settings.
        evaluate_on: part for the curve; "validation" while settings are chosen, "test" to report.
        seed: of the initial weights and the order of the batches.

    Raises:
        ConfigurationError: `base_dir` holds a run with another configuration; no such part.
        CheckpointError: the record of the finished run is damaged, or another process trains there.
        DataError: the data cannot be used.
        NonFiniteError: the loss became NaN or infinite.
    """
    if evaluate_on not in ("outer", "validation", "test"):
        raise ConfigurationError(
            f"evaluate_on is {evaluate_on!r}: it must be 'validation', 'test' or 'outer'"
        )
    base_dir = pathlib.Path(base_dir)
    check_same_config(base_dir)
    done = base_dir / "record.json"
    if done.exists():
        try:
            return TrainingRecord(**json.loads(done.read_text(encoding="utf-8")))
        except (UnicodeDecodeError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{done} is damaged ({error}): delete it to train again"
            ) from error
    parts = data() if callable(data) else data
    built = trainer()
    trained = share_trained(built.model) or f"{built.parameters:,} parameters"
    shown = Progress(f"{trained}:", built.steps)
    note = ""

    def progress(step: int, steps: int, logs: dict[str, float]) -> None:
        nonlocal note
        if "test_loss" in logs:
            note = f"{evaluate_on} loss {logs['test_loss']:.3f}"
        shown.update(step, note)

    files = _RunFiles(base_dir, built.evaluate_every, evaluate_on)
    record = built.train(
        parts.train, getattr(parts, evaluate_on), seed, progress, callbacks=[files]
    )
    shown.close(note)
    built.model.save_weights(base_dir / "final.weights.h5")
    whole_files.write_text(done, json.dumps(dataclasses.asdict(record), indent=1) + "\n")
    return record
