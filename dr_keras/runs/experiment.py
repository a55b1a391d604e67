"""What a run is made of: data, rater, inner model and loss, put together from gin.

Each piece is one gin binding; a user's own module, imported by an `import my_module` line in a gin
file, brings pieces of its own.
"""

from collections.abc import Callable
import dataclasses
import pathlib

import keras

from dr_keras.data.examples import Parts
from dr_keras.errors import CheckpointError
from dr_keras.meta.checkpoints import load_rater_weights, rater_steps
from dr_keras.meta.scoring import Scorer
from dr_keras.meta.seeds import derive_seed, seeded
from dr_keras.models.losses import next_token_loss
from dr_keras.models.rater_scores import ReferenceLoss
from dr_keras.serving.export import export_examples
import gin


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run, built.

    Attributes:
      parts: train, outer, validation and test examples.
      rater: Keras model from features to scores.
      inner_model: builds an inner Keras model.
      per_example_loss: (outputs, batch) -> [B].
      exporter: writes the rater as an artefact; see `dr_keras.serving.export`.
      seed: of the run.
      reference: the frozen model of a rater that reads "reference_loss"; None without.
    """

    parts: Parts
    rater: keras.Model
    inner_model: Callable[[], keras.Model]
    per_example_loss: Callable
    exporter: Callable
    seed: int
    reference: keras.Model | None = None

    @property
    def reference_loss(self) -> ReferenceLoss | None:
        """What the frozen model loses on examples."""
        return ReferenceLoss(self.reference, self.per_example_loss) if self.reference else None

    def scorer(self) -> Scorer:
        """Scores sets with the rater, whatever it reads."""
        return Scorer(self.rater, reference=self.reference_loss)


@gin.configurable
def experiment(
    data: Callable[[], Parts] | Parts = gin.REQUIRED,
    rater: Callable[[], keras.Model] = gin.REQUIRED,
    inner_model: Callable[[], keras.Model] = gin.REQUIRED,
    per_example_loss: Callable = next_token_loss,
    exporter: Callable = export_examples,
    initial_rater: str | None = None,
    seed: int = 0,
    reference_model: Callable[[], keras.Model] | None = None,
) -> Experiment:
    """Builds an experiment.

    Args:
      data: the parts, or a function that returns them, such as @text_data.
      rater: function that builds the rater, such as @text_rater.
      inner_model: function that builds an inner model, such as @language_model.
      per_example_loss: (inner model's outputs, batch) -> losses [B].
      exporter: what the exported rater takes: @export_text (with its tokenizer), @export_images,
        @export_examples for any other features, or a function of your own.
      initial_rater: base_dir of an earlier run whose newest rater is the starting point, or
        `<base_dir>@<step>`; None starts from random weights.
      seed: decides the rater's initial weights; the trainer has a seed of its own.
      reference_model: builds the frozen model of a rater that reads "reference_loss", such as
        @reference_model.

    Raises:
      CheckpointError: `initial_rater` has no rater, or one of another architecture.
      DataError: the data cannot be used.
    """
    parts = data() if callable(data) else data
    return Experiment(
        parts,
        build_rater(rater, seed, initial_rater),
        inner_model,
        per_example_loss,
        exporter,
        seed,
        reference_model() if reference_model else None,
    )


def build_rater(
    constructor: Callable[[], keras.Model], seed: int, initial_rater: str | None = None
) -> keras.Model:
    """A rater with weights decided by `seed`, or taken from an earlier run."""
    with seeded(derive_seed(seed, "rater")):
        rater = constructor()
    if initial_rater:
        base_dir, _, step = str(initial_rater).partition("@")
        steps = rater_steps(base_dir)
        if not steps:
            raise CheckpointError(
                f"initial_rater: {pathlib.Path(base_dir).absolute()} holds no rater; name the"
                " base_dir of a run of meta_train."
            )
        load_rater_weights(rater, base_dir, int(step) if step.isdigit() else steps[-1])
    return rater
