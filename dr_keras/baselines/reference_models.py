"""Small models whose losses say what a candidate is worth: the prior, the tuned, the outer one.

`conditional_loss`, `reference_loss`, `rho` and `influence` score by three models, all of one kind:

- the *prior*, trained on the train part (which it then scores: what a window adds to a model that
  saw it once among thousands is little, and it is in the loss before and after tuning alike);
- the *tuned* one, the prior trained on with the outer part;
- the *outer* one, trained on the outer part alone.

What was trained for one of them is used again by the others: models are remembered as long as the
candidates are, by settings, data and seed. The costs of each are those of its own models, as if it
were the only one, so that an arm's costs do not depend on which arms run beside it.
"""

from collections.abc import Callable
import dataclasses
import weakref

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.perplexity import nats_per_token
from dr_keras.baselines.scores import require_outer, require_windows
from dr_keras.baselines.token_losses import token_nats
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import DataError
from dr_keras.training import flops
from dr_keras.training.target_counts import mean_over_targets
from dr_keras.training.trainers import LanguageModelTrainer, RepeatedTrainer
import gin

_WATCHED = 256  # examples of the outer part whose loss is followed

# () -> a trainer; (model_fn=) -> a trainer of that model.
TrainerBuilder = Callable[..., RepeatedTrainer]


@gin.configurable(denylist=["model_fn"])
def tuning_trainer(
    model_fn: Callable, steps: int = 200, batch_size: int = 8, learning_rate: float = 1e-3
) -> LanguageModelTrainer:
    """The trainer that tunes a prior on the outer part: a short run at a low rate, cosine.

    Args:
      model_fn: builds the prior's model.
      steps, batch_size, learning_rate: as for `LanguageModelTrainer`, whose other settings are
        those that are bound without a scope.
    """
    return LanguageModelTrainer(
        model_fn,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=steps // 20,
        evaluate_every=steps,
        steps_per_execution=None,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """A trained model.

    Attributes:
      outer_nats: mean per target of the outer part, the first to the last of it evenly thinned.
      weights: of the model, in the order of `get_weights`.
      training_flops: of all training that led to it, the prior's included.
      forward_flops: of one example.
    """

    outer_nats: float
    weights: list[np.ndarray]
    training_flops: float
    forward_flops: float


class _Known:
    """What is remembered of one set of candidates: models, and their `nats`."""

    def __init__(self):
        self.models: dict[tuple, Reference] = {}
        self.nats: dict[Reference, np.ndarray] = {}


class ReferenceModels:
    """The three models for one set of candidates; each is trained when it is first asked for, and
    reads the candidates when its `nats` are.

    Args:
      candidates: of the train part.
      outer: of the outer part.
      trainer: builds the trainer of the prior, and of the outer model.
      tuner: builds, from `model_fn=`, the trainer that goes on from the prior.
      seed: of initial weights and batches.
      scorer: name of who asks, for messages.

    Raises:
      ConfigurationError: no outer part.
      DataError: candidates without tokens, or fewer examples than a batch.
    """

    def __init__(
        self,
        candidates: Candidates,
        outer: Candidates | None,
        trainer: TrainerBuilder,
        tuner: TrainerBuilder = tuning_trainer,
        seed: int = 0,
        scorer: str = "reference_loss",
    ):
        self._outer = require_outer(outer, scorer)
        for given in (candidates, self._outer):
            require_windows(given, scorer)
        self._candidates, self._seed, self._scorer = candidates, seed, scorer
        self.trainer, self._tuner = trainer(), tuner
        self.outer_examples = self._outer.examples

    def prior(self) -> Reference:
        """Trained on the train part."""
        return self._remembered("prior", self.trainer, self._candidates.examples)

    def tuned(self) -> Reference:
        """The prior, trained on with the outer part."""
        tuner = self._tuner(model_fn=self.trainer.model_fn)
        return self._remembered("tuned", tuner, self.outer_examples, self.prior)

    def of_outer(self) -> Reference:
        """Trained on the outer part alone."""
        return self._remembered("outer", self.trainer, self.outer_examples)

    def nats(self, reference: Reference) -> np.ndarray:
        """What a model loses on every row of the candidates' examples, nats per target, float64.

        NaN where nothing is predicted.
        """
        found = self._known.nats
        if reference not in found:
            # All are scored by one compiled function.
            self.trainer.model.set_weights(reference.weights)
            found[reference] = nats_per_token(self.trainer, self._candidates.examples)
        return found[reference]

    def token_nats(self, reference: Reference) -> np.ndarray:
        """What a model loses on every token of them, float32 [rows, S]; NaN where nothing is
        predicted. Their means are its `nats`, for which the rows are not read again."""
        trainer, rows = self.trainer, self._candidates.examples
        found = token_nats(trainer.model, reference.weights, rows, trainer.evaluation_batch_size)
        if reference not in self._known.nats:
            sums = np.nansum(found, axis=1, dtype=np.float64)
            means = mean_over_targets(sums, np.isfinite(found).sum(axis=1))
            self._known.nats[reference] = means
        return found

    def named_weights(self, reference: Reference) -> dict[str, np.ndarray]:
        """A model's weights by their paths."""
        paths = [weight.path for weight in self.trainer.model.weights]
        return dict(zip(paths, reference.weights, strict=True))

    def facts(self, before: Reference, after: Reference) -> dict:
        """Mean nats per target of two models on both parts, JSON-able."""
        return {
            "nats_before": _mean(self.nats(before)),
            "nats_after": _mean(self.nats(after)),
            "outer_nats_before": before.outer_nats,
            "outer_nats_after": after.outer_nats,
            "outer_examples": len(self.outer_examples),
        }

    @property
    def _known(self) -> _Known:
        return _KNOWN.setdefault(self._candidates, _Known())

    def _remembered(
        self,
        kind: str,
        trainer: RepeatedTrainer,
        data: ExampleSet,
        start: Callable[[], Reference] | None = None,
    ) -> Reference:
        prints = (self.trainer.fingerprint, trainer.fingerprint, self.outer_examples.fingerprint)
        known = self._known.models
        key = (kind, self._seed, *prints)
        if key not in known:
            known[key] = self._trained(kind, trainer, data, start() if start else None)
        return known[key]

    def _trained(
        self, kind: str, trainer: RepeatedTrainer, data: ExampleSet, start: Reference | None
    ) -> Reference:
        if len(data) < trainer.batch_size:
            where = "train" if kind == "prior" else "outer"
            raise DataError(
                f"'{self._scorer}' trains a model on the {where} part, {len(data)} examples, in"
                f" batches of {trainer.batch_size}: add text to that part, or bind a smaller"
                f" batch_size to the {'tuner' if kind == 'tuned' else 'trainer'} of"
                f" {self._scorer}."
            )
        watched, rows = self.outer_examples.thinned(_WATCHED), self._candidates.examples
        initial = start.weights if start else None
        record = trainer.train(data, watched, self._seed, initial=initial)
        forward = flops.forward_flops(trainer.model, flops.feature_shapes(rows.features))
        spent = flops.training_flops(forward, trainer.steps * trainer.batch_size)
        return Reference(
            record.curve[-1][1],
            trainer.model.get_weights(),
            float(spent) + (start.training_flops if start else 0.0),
            float(forward),
        )


# Gone with the candidates, so nothing in it may hold these.
_KNOWN: weakref.WeakKeyDictionary[Candidates, _Known] = weakref.WeakKeyDictionary()


def _mean(nats: np.ndarray) -> float | None:
    known = nats[np.isfinite(nats)]
    return float(known.mean()) if known.size else None
