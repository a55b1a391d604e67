"""Trees of tensors as weights of a Keras layer, so that Keras saves and restores them."""

import dataclasses

import keras
import tensorflow as tf


class Memory(keras.layers.Layer):
    """Named trees (nested lists, dicts, named tuples) of tensors that outlive a training step.

    Whatever `save_weights`, `ModelCheckpoint` and `BackupAndRestore` do to a model, they do to
    this.
    """

    def __init__(self, name: str):
        super().__init__(name=name, trainable=False, autocast=False)
        self._places = _Places({})
        self.built = True

    def hold(self, name: str, tree) -> None:
        """Holds a tree from now on, with these values (tensors of static shape)."""

        def place(leaf):
            value = tf.convert_to_tensor(leaf)
            number = len(self.weights)
            variable = self.add_weight(
                shape=value.shape,
                dtype=value.dtype.name,
                initializer="zeros",
                trainable=False,
                name=f"{name}_{number}",
            )
            variable.assign(value)
            return number

        self._places.of[name] = tf.nest.map_structure(place, tree)

    def holds(self, name: str) -> bool:
        """Whether there is a tree of this name."""
        return name in self._places.of

    def read(self, name: str):
        """The values of a tree."""
        weights = self.weights
        return tf.nest.map_structure(
            lambda place: weights[place].value.read_value(), self._places.of[name]
        )

    def write(self, name: str, tree) -> None:
        """Gives a tree other values."""
        weights = self.weights
        for place, value in zip(
            tf.nest.flatten(self._places.of[name]), tf.nest.flatten(tree), strict=True
        ):
            weights[place].value.assign(value)


@dataclasses.dataclass
class _Places:
    """Name -> tree of places in `weights`; Keras would make something else of a dict by itself."""

    of: dict
