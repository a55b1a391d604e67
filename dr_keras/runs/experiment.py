"""What a run is made of: data, rater, inner model and loss, put together from gin.

Each piece is one gin binding; a user's own module, imported by an `import my_module` line in a gin
file, brings pieces of its own.
"""

from collections.abc import Callable, Mapping
import dataclasses
import os
import re

import h5py
import keras

from dr_keras.data.examples import ExampleSet, Parts, check_set_names
from dr_keras.data.overlap import train_apart
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.meta.checkpoints import load_rater_weights, rater_path, rater_steps
from dr_keras.meta.scoring import Scorer
from dr_keras.meta.seeds import derive_seed, seeded
from dr_keras.models.losses import next_token_loss
from dr_keras.models.rater_scores import ReferenceLoss
from dr_keras.models.weight_files import values_in, values_saved
from dr_keras.runs.fitting import FittedRater
from dr_keras.serving.export import export_examples
from dr_keras.serving.loading import shipped_raters
from dr_keras.serving.weights import is_exported, load_exported_weights
from dr_keras.training.meta_evaluation import MetaEvaluation
import gin

OuterSet = ExampleSet | Callable[[], ExampleSet]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run, built.

    Attributes:
      parts: train, outer, validation and test examples; `parts.outer_sets` are those of the
        meta-objective.
      rater: Keras model from features to scores.
      inner_model: builds an inner Keras model.
      per_example_loss: (outputs, batch) -> [B].
      exporter: writes the rater as an artefact; see `dr_keras.serving.export`.
      seed: of the run.
      reference: the frozen model of a rater that reads "reference_loss"; None without.
      fitted: how the rater is fitted before its first meta-step; None where it is not.
      rater_fn: builds a rater like `rater`, with other weights.
    """

    parts: Parts
    rater: keras.Model
    inner_model: Callable[[], keras.Model]
    per_example_loss: Callable
    exporter: Callable
    seed: int
    reference: keras.Model | None = None
    fitted: FittedRater | None = None
    rater_fn: Callable[[], keras.Model] | None = None

    @property
    def reference_loss(self) -> ReferenceLoss | None:
        """What the frozen model loses on examples."""
        return ReferenceLoss(self.reference, self.per_example_loss) if self.reference else None

    def scorer(self) -> Scorer:
        """Scores sets with the rater, whatever it reads."""
        return Scorer(self.rater, reference=self.reference_loss)

    def meta_evaluation(self, **settings) -> MetaEvaluation:
        """Judges the rater's present weights; `settings` stand above what gin binds."""
        return MetaEvaluation(
            self.rater,
            self.parts.train,
            self.parts.validation,
            self.inner_model,
            self.per_example_loss,
            reference=self.reference,
            **settings,
        )


@gin.configurable
def experiment(
    data: Callable[[], Parts] | Parts = gin.REQUIRED,
    rater: Callable[[], keras.Model] = gin.REQUIRED,
    inner_model: Callable[[], keras.Model] = gin.REQUIRED,
    per_example_loss: Callable = next_token_loss,
    exporter: Callable = export_examples,
    initial_rater: str | FittedRater | None = None,
    seed: int = 0,
    reference_model: Callable[[], keras.Model] | None = None,
    outer_sets: Mapping[str, OuterSet | None] | None = None,
    on_overlap: str = "stop",
) -> Experiment:
    """Builds an experiment.

    Args:
      data: the parts, or a function that returns them, such as @text_data.
      rater: function that builds the rater, such as @text_rater.
      inner_model: function that builds an inner model, such as @language_model.
      per_example_loss: (inner model's outputs, batch) -> losses [B].
      exporter: what the exported rater takes: @export_text (with its tokenizer), @export_images,
        @export_examples for any other features, or a function of your own.
      initial_rater: where the rater goes on from: the base_dir of an earlier run (its newest
        rater, or that of `<base_dir>@<step>`), an exported rater or the name of one that ships with
        dr_keras, or a file of Keras weights; or @fitted_rater(), by which meta-training first fits
        it to the scores of a teacher. None starts from random weights.
      seed: decides the rater's initial weights; the trainer has a seed of its own.
      reference_model: builds the frozen model of a rater that reads "reference_loss", such as
        @reference_model.
      outer_sets: name -> held-out examples, or a function that returns them, which join those of
        the data; they may have features that the train part lacks. One with the name of a set of
        the data takes its place ("outer", where that is the only one), None leaves that set out.
      on_overlap: what to do about training examples that a set of the meta-objective has too:
        "stop" raises, "drop" trains without them.

    Raises:
      CheckpointError: `initial_rater` is no rater, or one of another architecture.
      ConfigurationError: names of sets that are none.
      DataError: the data cannot be used, or train and held-out sets overlap.
    """
    parts = data() if callable(data) else data
    fitted = initial_rater if isinstance(initial_rater, FittedRater) else None
    return Experiment(
        with_outer_sets(parts, outer_sets or {}, on_overlap),
        build_rater(rater, seed, None if fitted else initial_rater),
        inner_model,
        per_example_loss,
        exporter,
        seed,
        reference_model() if reference_model else None,
        fitted,
        rater,
    )


def experiment_of_run() -> Experiment:
    """The experiment of a run that has a rater, whose weights are loaded next.

    Where the rater went on from once need not be there any more.
    """
    return experiment(initial_rater=None)


def with_outer_sets(
    parts: Parts, more: Mapping[str, OuterSet | None], on_overlap: str = "stop"
) -> Parts:
    """Parts with further held-out sets, none of which has an example of the train part.

    Arguments and errors as of `experiment`.
    """
    given = {name: one() if callable(one) else one for name, one in more.items()}
    sets = {name: one for name, one in (parts.outer_sets | given).items() if one is not None}
    check_set_names("experiment.outer_sets", sets)
    for name, one in given.items():
        if not isinstance(one, ExampleSet | None):
            raise ConfigurationError(
                f"experiment.outer_sets[{name!r}] is {type(one).__name__}: give an ExampleSet, or a"
                " function that returns one, such as @choice_set."
            )
    unknown = [name for name in sets if not parts.disjoint or name in given]
    train = train_apart(parts.train, {name: sets[name] for name in unknown}, on_overlap)
    named = sets if given else parts.named_outer
    return dataclasses.replace(parts, train=train, named_outer=named, disjoint=True)


def build_rater(
    constructor: Callable[[], keras.Model], seed: int, initial_rater: str | None = None
) -> keras.Model:
    """A rater with weights decided by `seed`, or taken from where `initial_rater` stands."""
    with seeded(derive_seed(seed, "rater")):
        rater = constructor()
    if initial_rater:
        _load(rater, os.fspath(initial_rater))
    return rater


def _load(rater: keras.Model, place: str) -> None:
    run, step = place, ""
    if found := re.fullmatch(r"(.*)@(\d+)", place):
        run, step = found.groups()
    steps = rater_steps(run)
    if steps:
        number = int(step) if step else steps[-1]
        load_rater_weights(rater, run, number)
        _check_count(rater, rater_path(run, number))
    elif is_exported(place):
        load_exported_weights(rater, place)
    elif os.path.isfile(place):
        _load_file(rater, place)
    else:
        raise CheckpointError(
            f"initial_rater: {os.path.abspath(place)} holds no rater; name the base_dir of a run"
            " of meta_train, a rater that export_rater wrote, a file of Keras weights, or one that"
            f" comes with dr_keras ({', '.join(shipped_raters()) or 'there is none'})."
        )


def _load_file(rater: keras.Model, path: str) -> None:
    try:
        rater.load_weights(path)
        _check_count(rater, path)
    except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"initial_rater: {path} cannot be loaded: it is no file of Keras weights, is damaged,"
            f" or belongs to another rater than '{rater.name}' ({error})."
        ) from error


def _check_count(rater: keras.Model, path: str | os.PathLike) -> None:
    """Raises CheckpointError where a file holds more than `rater`: Keras reads what it needs."""
    if not h5py.is_hdf5(path):
        return
    found, wanted = values_in(path), values_saved(rater)
    if found != wanted:
        raise CheckpointError(
            f"initial_rater: {path} has {found:,} weights and '{rater.name}' {wanted:,}: it"
            " belongs to another architecture. Build the rater with the settings that it was made"
            " with."
        )
