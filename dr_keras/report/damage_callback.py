"""How well scores separate clean from damaged training examples, at every epoch's end."""

import numpy as np

from dr_keras.errors import ConfigurationError
from dr_keras.meta.callbacks import TrainerCallback
from dr_keras.meta.scoring import Scorer
from dr_keras.runs.experiment import Experiment
from dr_keras.training.metrics import area_under_curve
import gin


@gin.configurable(denylist=["base_dir", "setup"])
class DamageFound(TrainerCallback):
    """Adds "damage_auc" to the epoch's logs: the chance that clean outscores damaged.

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
        train = setup.parts.train
        level = np.asarray(train.labels.get("level", np.full(len(train), np.nan)), float)
        known = np.flatnonzero(np.isfinite(level))
        if not 0 < np.count_nonzero(level[known]) < len(known):
            raise ConfigurationError(
                "DamageFound needs clean and damaged train examples of known level: take it out of"
                " meta_train.callback_fns, or give the data a label 'level'."
            )
        if sample_size < len(known):
            known = known[np.linspace(0, len(known) - 1, sample_size).astype(int)]
        self._sample, self._clean = train.take(known), level[known] == 0
        self._scorer = None

    def on_train_begin(self, logs=None):
        self._scorer = Scorer(self.trainer.rater)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["damage_auc"] = area_under_curve(self._scorer(self._sample), self._clean)
