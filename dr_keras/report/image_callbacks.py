"""What an image rater has learned so far, drawn at every epoch's end of meta-training.

<base_dir>/plots/score_against_corruption-<step>.png   held-out test images at known levels
<base_dir>/plots/extremes-<step>.png                   train images rated lowest and highest
<base_dir>/summaries/images/                           the same for TensorBoard
"""

from collections.abc import Sequence
import pathlib

import numpy as np
import tensorflow as tf

from dr_keras.data.images.parts import at_levels
from dr_keras.errors import ConfigurationError
from dr_keras.meta.callbacks import TrainerCallback
from dr_keras.meta.scoring import Scorer
from dr_keras.report import image_plots
from dr_keras.runs.experiment import Experiment
from dr_keras.system import whole_files
from dr_keras.training.metrics import regression
import gin

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@gin.configurable(denylist=["base_dir", "setup"])
class ScoreAgainstCorruption(TrainerCallback):
    """Raw scores of test images corrupted at known levels, and the extremes of the train images.

    Bound as `meta_train.callback_fns = [@ScoreAgainstCorruption]`. Adds "corruption_pearson",
    "corruption_spearman" and "corruption_slope" to the epoch's logs. Only draws: it changes
    nothing of the training and chooses no checkpoint.

    Args:
      base_dir: of the run.
      setup: the experiment; its test part must have the feature `image`.
      levels: fractions of pixels replaced by noise, each of as many images.
      size: test images at those levels.
      sample_size: train images among which the extremes are looked for, evenly spread.
      extremes: images shown at each end.
      seed: of the noise.

    Raises:
      ConfigurationError: the examples are no images.
    """

    def __init__(
        self,
        base_dir,
        setup: Experiment,
        levels: Sequence[float] = LEVELS,
        size: int = 1000,
        sample_size: int = 2048,
        extremes: int = 16,
        seed: int = 0,
    ):
        super().__init__()
        check_images(setup)
        self._folder = pathlib.Path(base_dir)
        self._probe = at_levels(setup.parts.test, levels, size, seed)
        train = setup.parts.train
        self._sample = train
        if sample_size < len(train):
            self._sample = train.take(np.linspace(0, len(train) - 1, sample_size).astype(int))
        self._extremes = extremes
        self._writer = self._scorer = None

    def on_train_begin(self, logs=None):
        self._writer = tf.summary.create_file_writer(str(self._folder / "summaries" / "images"))
        self._scorer = Scorer(self.trainer.rater)

    def on_epoch_end(self, epoch, logs=None):
        step = int(self.trainer.meta_step.numpy())
        scores = self._scorer(self._probe)
        line = regression(self._probe.labels["level"], scores)
        if logs is not None:
            logs |= {f"corruption_{key}": line[key] for key in ("pearson", "spearman", "slope")}
        drawings = {
            "score_against_corruption": image_plots.score_against_fraction(
                scores, self._probe.labels["level"], f"test images, meta-step {step}"
            ),
            "extremes": image_plots.extremes_grid(
                self._sample, self._scorer(self._sample), self._extremes
            ),
        }
        with self._writer.as_default(step=step):
            for name, figure in drawings.items():
                png = image_plots.to_png(figure)
                whole_files.write_bytes(self._folder / "plots" / f"{name}-{step}.png", png)
                tf.summary.image(name, tf.io.decode_png(png, channels=3)[tf.newaxis])
            for key, value in line.items():
                tf.summary.scalar(f"corruption/{key}", value)
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()


def check_images(setup: Experiment) -> None:
    """Raises ConfigurationError unless the experiment's examples are images."""
    features = setup.parts.test.features
    if "image" not in features or features["image"].ndim != 4:
        raise ConfigurationError(
            "Only images can be drawn, examples with the feature 'image' [N, H, W, C]; these have"
            f" { ({name: value.shape[1:] for name, value in features.items()}) }."
        )
