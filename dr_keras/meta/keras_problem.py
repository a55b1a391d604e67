"""The bilevel problem of two Keras models, through `stateless_call`."""

from collections.abc import Callable, Mapping
import dataclasses
import functools

import keras
import tensorflow as tf

from dr_keras.differentiation.second_order import exact_moments
from dr_keras.errors import ConfigurationError
from dr_keras.meta.combinations import Combination, weighted_mean
from dr_keras.meta.optimizers import InnerOptimizer
from dr_keras.meta.problem import MetaProblem
from dr_keras.meta.weighting import Weighting, example_softmax
from dr_keras.models.losses import counts_of
from dr_keras.models.model_inputs import model_inputs
from dr_keras.models.model_parts import ModelParts, parts_of
from dr_keras.models.objectives import bind, mean_loss
from dr_keras.models.rater_scores import state_read


@dataclasses.dataclass(eq=False)
class KerasProblem:
    """Builds a `MetaProblem` of tensors that are handed in: nothing in it reads a variable.

    Attributes:
      rater: Keras model from a batch's features to scores [B], [B, 1] or [B, S]. Inputs named as
        in `dr_keras.models.inner_state`, where the data has no such column, are what that says:
        losses as in inference, and log(1 + age) [B].
      inner_model: Keras model; only its structure is used, and its frozen values.
      per_example_loss: (model's outputs, batch) -> losses [B], or [B, S] by token.
      optimizer: inner optimizer.
      weighting: of scores.
      objective: of the outer level, `(model, batch)`; or one for each held-out set by name; see
        `dr_keras.models.objectives`.
      combination: of held-out sets.
      reference: Keras model with weights that stay, for "reference_loss".
      through_features: see `MetaProblem`.

    Raises:
      ConfigurationError: the inner model has no weight left to train.
    """

    rater: keras.Model
    inner_model: keras.Model
    per_example_loss: Callable
    optimizer: InnerOptimizer
    weighting: Weighting = example_softmax()
    objective: Callable | Mapping[str, Callable] = mean_loss()
    combination: Combination = weighted_mean()
    reference: keras.Model | None = None
    through_features: bool = True

    def __post_init__(self):
        if not self.inner_model.trainable_variables:
            raise ConfigurationError(
                f"The inner model '{self.inner_model.name}' has no weight to train: all of its"
                f" {len(self.inner_model.variables)} are frozen. Set trainable = True on a layer,"
                " or enable_lora after freezing."
            )

    @functools.cached_property
    def parts(self) -> ModelParts:
        """Of the inner model."""
        return parts_of(self.inner_model)

    def kept_variables(self) -> dict[str, list]:
        """The variables that no update changes, by what they belong to."""
        kept = {"frozen": self.parts.frozen(self.inner_model.non_trainable_variables)}
        if self.reference is not None:
            reference = self.reference
            kept["reference"] = [*reference.trainable_variables, *reference.non_trainable_variables]
        return {name: [v.value for v in variables] for name, variables in kept.items()}

    def constants(self) -> dict[str, list]:
        """What calling this takes, read from the models' variables."""
        return {
            "rater": [tf.identity(v.value) for v in self.rater.non_trainable_variables],
            **tf.nest.map_structure(lambda v: v.read_value(), self.kept_variables()),
        }

    def __call__(self, constants: Mapping[str, list] | None = None) -> MetaProblem:
        """The problem with these constants; `constants()` when None."""
        constants = self.constants() if constants is None else constants

        def outputs(theta, statistics, batch, training):
            return self.inner_model.stateless_call(
                theta,
                self.parts.joined(statistics, constants["frozen"]),
                model_inputs(self.inner_model, batch),
                training=training,
            )

        def score(eta, batch):
            scores, _ = self.rater.stateless_call(
                eta, constants["rater"], model_inputs(self.rater, batch), training=False
            )
            return tf.reshape(scores, self._counts(batch).shape)

        def inner_loss(theta, statistics, batch):
            with exact_moments():  # the one place whose gradient is differentiated again
                found, others = outputs(theta, statistics, batch, training=True)
            return self.per_example_loss(found, batch), self.parts.statistics(others)

        def objective(name, theta, statistics, batch):
            def model(batch):
                return outputs(theta, statistics, batch, training=False)[0]

            return self.objective_of(name)(model, batch)

        def features(state, batch):
            def member_loss():
                found, _ = outputs(state.theta, state.statistics, batch, training=False)
                return self.per_example_loss(found, batch)

            def age():
                first = next(iter(batch.values()))
                logarithm = tf.math.log1p(tf.cast(state.age, state.theta[0].dtype))
                return tf.fill([first.shape[0]], logarithm)

            makers = {
                "inner_loss": member_loss,
                "reference_loss": lambda: self.reference_loss(constants["reference"], batch),
                "age": age,
            }
            found = {name: makers[name]() for name in state_read(self.rater, batch)}
            return (
                found if self.through_features else tf.nest.map_structure(tf.stop_gradient, found)
            )

        return MetaProblem(
            score,
            inner_loss,
            objective,
            self.optimizer,
            weighting=self.weighting,
            counts=self._counts,
            features=features if state_read(self.rater) else None,
            through_features=self.through_features,
            combination=self.combination,
        )

    def _counts(self, batch: dict) -> tf.Tensor:
        return counts_of(self.per_example_loss, batch)

    def objective_of(self, name: str) -> Callable:
        """The objective of a held-out set."""
        objective = self.objective
        if isinstance(objective, Mapping):
            objective = objective.get(name, mean_loss())
        return bind(objective, self.per_example_loss)

    def reference_loss(self, values: list, batch: dict) -> tf.Tensor:
        """Losses of a batch under the reference model with these values."""
        count = len(self.reference.trainable_variables)
        outputs, _ = self.reference.stateless_call(
            values[:count], values[count:], model_inputs(self.reference, batch), training=False
        )
        return tf.stop_gradient(self.per_example_loss(outputs, batch))
