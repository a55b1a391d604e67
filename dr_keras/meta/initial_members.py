"""Members that start from a trained model: weights that Keras saved, with noise if wanted."""

from collections.abc import Callable
import dataclasses
import os
from typing import Any

import keras
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.draws import by_member, relative_noise
from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.seeds import derive_seed
from dr_keras.models.weight_files import load_weights


@dataclasses.dataclass(frozen=True)
class InitialMembers:
    """The weights that members start from.

    Attributes:
      file: (member, generation) -> path of Keras weights of the inner model, or None for fresh
        ones.
      noise: (member, generation) -> standard deviation of what is added to each weight, relative to
        the root mean square of its tensor.
      seed: of the run.
      frozen: of an inner model, its variables that nothing changes.
      shared: those of all members.
    """

    file: Callable[[int, int], str | None]
    noise: Callable[[int, int], float]
    seed: int
    frozen: Callable[[keras.Model], list]
    shared: list

    def load(self, model: keras.Model, member: int, generation: int) -> None:
        """Gives `model`, freshly built, the member's weights; seeds of dropout stay fresh.

        Raises:
          ConfigurationError: no such file, one of another model, or one whose frozen weights are
            not those of the other members.
        """
        path = self.file(member, generation)
        if path is not None:
            load_weights(model, path, "initial_members")
            self._check_frozen(model, path)
        noise = self.noise(member, generation)
        for number, variable in enumerate(model.trainable_variables if noise else ()):
            own_seed = derive_seed(self.seed, "initial_noise", member, generation, number)
            value = variable.value
            normal = tf.random.stateless_normal(value.shape, [own_seed, 0], dtype=value.dtype)
            scale = tf.sqrt(tf.reduce_mean(tf.square(value)))
            variable.assign(value + tf.cast(noise, value.dtype) * scale * normal)

    def _check_frozen(self, model: keras.Model, path: str) -> None:
        for own, shared in zip(self.frozen(model), self.shared, strict=True):
            if bool(tf.reduce_any(tf.not_equal(own.value, shared.value))):
                raise ConfigurationError(
                    f"initial_members: in {path} the frozen weight {own.path} is not that of the"
                    " other members. Frozen weights exist once for all: name files that agree in"
                    " them, or set trainable = True."
                )


def initial_members(
    files: Any, noise: Any, size: int, seed: int, problem: KerasProblem
) -> InitialMembers | None:
    """What `MetaTrainer.initial_members` and `initial_noise` say; None where they say nothing.

    Frozen weights, which exist once for all members, become those of the first file.

    Args:
      files: a path for all members, a list with a path or None for each, or drawn.
      noise: a number, a list, or drawn.
      size: members.
      seed: of the run.
      problem: whose inner model has the frozen weights.

    Raises:
      ConfigurationError: see `by_member` and `load_weights`.
    """
    if files is None and isinstance(noise, (int, float)) and noise == 0:
        return None

    def frozen(model: keras.Model) -> list:
        return problem.parts.frozen(model.non_trainable_variables)

    file = by_member("initial_members", files, size, seed, _is_path)
    first = next((path for path in (file(member, 0) for member in range(size)) if path), None)
    shared = frozen(problem.inner_model)
    if first is not None and shared:
        load_weights(problem.inner_model, first, "initial_members")
    noises = by_member("initial_noise", noise, size, seed, relative_noise)
    return InitialMembers(file, noises, seed, frozen, shared)


def _is_path(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigurationError(f"{name} is {value!r}: it must be a path in quotes or None.")
    path = os.fspath(value)
    if not path.endswith(".weights.h5"):
        raise ConfigurationError(
            f"{name} is {path}: name a file of Keras weights (model.save_weights), which ends in"
            " .weights.h5, such as the final.weights.h5 of a run of train_language_model."
        )
    if not os.path.isfile(path):
        raise ConfigurationError(f"{name}: there is no file {os.path.abspath(path)}.")
    return path
