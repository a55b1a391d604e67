"""What a rater has learned so far, measured and drawn at every epoch's end of meta-training.

<base_dir>/plots/score_against_corruption-<step>.png   held-out test images at known levels
<base_dir>/plots/extremes-<step>.png                   train images rated lowest and highest
<base_dir>/summaries/images/                           the same for TensorBoard
"""

from collections.abc import Sequence
import pathlib

import numpy as np
import tensorflow as tf

from dr_keras.data.examples import evenly_spread
from dr_keras.data.images.parts import at_levels
from dr_keras.errors import ConfigurationError
from dr_keras.meta.callbacks import TrainerCallback
from dr_keras.meta.scoring import reference_losses, reference_of, scorer_of
from dr_keras.report import images, plots
from dr_keras.report.images import LEVELS
from dr_keras.runs.experiment import Experiment
from dr_keras.system import whole_files
from dr_keras.training.metrics import area_under_curve, regression
import gin

_LOOKED_AT = 1 << 20  # train examples whose level is looked at, evenly spread


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
        images.check_images(setup)
        self._folder = pathlib.Path(base_dir)
        self._probe = at_levels(setup.parts.test, levels, size, seed)
        self._sample = setup.parts.train.thinned(sample_size)
        self._extremes = extremes
        self._writer = self._scorer = None

    def on_train_begin(self, logs=None):
        self._writer = tf.summary.create_file_writer(str(self._folder / "summaries" / "images"))
        self._scorer = scorer_of(self.trainer.problem, self._probe)

    def on_epoch_end(self, epoch, logs=None):
        if self._scorer is None:  # nobody but members knows what the rater reads
            return
        step = int(self.trainer.meta_step.numpy())
        scores = self._scorer(self._probe)
        line = regression(self._probe.labels["level"], scores)
        if logs is not None:
            logs |= {f"corruption_{key}": line[key] for key in ("pearson", "spearman", "slope")}
        drawings = {
            "score_against_corruption": images.score_against_fraction(
                scores, self._probe.labels["level"], f"test images, meta-step {step}"
            ),
            "extremes": images.extremes_grid(
                self._sample, self._scorer(self._sample), self._extremes
            ),
        }
        with self._writer.as_default(step=step):
            for name, figure in drawings.items():
                png = plots.to_png(figure)
                whole_files.write_bytes(self._folder / "plots" / f"{name}-{step}.png", png)
                tf.summary.image(name, tf.io.decode_png(png, channels=3)[tf.newaxis])
            for key, value in line.items():
                tf.summary.scalar(f"corruption/{key}", value)
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()


@gin.configurable(denylist=["base_dir", "setup"])
class DamageFound(TrainerCallback):
    """Adds "damage_auc" to the epoch's logs: the chance that clean outscores damaged.

    Where the run has a reference model, "reference_damage_auc" is the same with its loss, the lower
    the better, in the place of the score.

    Bound as `meta_train.callback_fns = [@DamageFound]`, for any data whose `labels` hold a `level`
    (0 is clean). Chooses no checkpoint and changes nothing of the training.

    Args:
      base_dir: of the run.
      setup: the experiment.
      sample_size: train examples that are scored, evenly spread.

    Raises:
      ConfigurationError: no level is known, or there is nothing clean or nothing damaged.
    """

    def __init__(self, base_dir, setup: Experiment, sample_size: int = 4096):
        super().__init__()
        train = setup.parts.train.thinned(_LOOKED_AT)
        level = np.asarray(train.labels.get("level", np.full(len(train), np.nan)), float)
        known = np.flatnonzero(np.isfinite(level))
        if not 0 < np.count_nonzero(level[known]) < len(known):
            raise ConfigurationError(
                "DamageFound needs clean and damaged train examples of known level: take it out of"
                " meta_train.callback_fns, or give the data a label 'level'."
            )
        known = known[evenly_spread(len(known), sample_size)]
        self._sample, self._clean = train.take(known), level[known] == 0
        self._scorer, self._beside = None, {}

    def on_train_begin(self, logs=None):
        problem = self.trainer.problem
        self._scorer = scorer_of(problem, self._sample)
        if reference := reference_of(problem):
            losses = reference_losses(reference, self._sample)
            self._beside = {"reference_damage_auc": area_under_curve(-losses, self._clean)}

    def on_epoch_end(self, epoch, logs=None):
        if logs is None:
            return
        logs.update(self._beside)
        if self._scorer is not None:
            logs["damage_auc"] = area_under_curve(self._scorer(self._sample), self._clean)


@gin.configurable(denylist=["base_dir", "setup"])
class NoiseFound(TrainerCallback):
    """Adds "noise_auc" to the epoch's logs: the chance that a clean token outscores one of noise.

    For a rater of tokens and data whose train part has the label `noise` bool [N, S], such as
    `noisy_spans` gives. Chooses no checkpoint and changes nothing of the training.

    Args:
      base_dir: of the run.
      setup: the experiment.
      sample_size: train examples whose tokens are scored, evenly spread.

    Raises:
      ConfigurationError: no noise is known, or all tokens are noise, or none.
    """

    def __init__(self, base_dir, setup: Experiment, sample_size: int = 512):
        super().__init__()
        self._sample = setup.parts.train.thinned(sample_size)
        self._real = self._sample.features["tokens"] != 0
        noise = self._sample.labels.get("noise", np.zeros([1], bool))
        if noise.ndim != 2 or noise[self._real].all() or not noise[self._real].any():
            raise ConfigurationError(
                "NoiseFound needs train examples of which some tokens are known to be noise: take"
                " it out of meta_train.callback_fns, or give the data a label 'noise', as"
                " @noisy_spans does."
            )
        self._clean = ~noise[self._real]
        self._scorer = None

    def on_train_begin(self, logs=None):
        self._scorer = scorer_of(self.trainer.problem, self._sample)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self._scorer is not None:
            scores = self._scorer.token_scores(self._sample)[self._real]
            logs["noise_auc"] = area_under_curve(scores, self._clean)
