"""What a Keras model is made of, for those who hold its values outside of it.

Three classes of variables: trained ones; statistics, which a training call changes by itself (seeds
of dropout, averages of normalisation); and frozen ones, which nothing changes (a layer with
`trainable = False`, the base that `enable_lora` leaves behind). Many copies of a model need the
first two each, and the third once.
"""

from collections.abc import Sequence
import dataclasses
import math

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class ModelParts:
    """The non-trainable variables of a model by class.

    Attributes:
      is_frozen: for each of `model.non_trainable_variables`, in its order.
    """

    is_frozen: tuple[bool, ...]

    def statistics(self, values: Sequence) -> list:
        """Those of the non-trainable values that a training call changes."""
        return [v for v, frozen in zip(values, self.is_frozen, strict=True) if not frozen]

    def frozen(self, values: Sequence) -> list:
        """Those of the non-trainable values that nothing changes."""
        return [v for v, frozen in zip(values, self.is_frozen, strict=True) if frozen]

    def joined(self, statistics: Sequence, frozen: Sequence) -> list:
        """All non-trainable values in the model's order, as `stateless_call` takes them."""
        statistics, frozen = iter(statistics), iter(frozen)
        return [next(frozen) if is_frozen else next(statistics) for is_frozen in self.is_frozen]


def parts_of(model: keras.Model) -> ModelParts:
    """The classes of a built model's non-trainable variables.

    What a training call changes is found by tracing one. A model without known inputs (a
    subclassed one) is not traced: there, weights that were made trainable and are not any more
    count as frozen, and all others as statistics.
    """
    variables = model.non_trainable_variables
    if all(_is_seed(variable) for variable in variables):
        return ModelParts((False,) * len(variables))
    changed = _changed_by_training(model)
    if changed is None:
        # `trainable = False` on a layer or a weight leaves it among those made trainable.
        made = {
            id(weight)
            for layer in model._flatten_layers()
            for weight in getattr(layer, "_trainable_variables", ())
        }
        return ModelParts(tuple(id(variable) in made for variable in variables))
    return ModelParts(tuple(not each for each in changed))


def share_trained(model: keras.Model) -> str:
    """How much of a model is trained, in words; "" where nothing is frozen.

    Low-rank updates, as `enable_lora` adds them, are named with their ranks.
    """
    frozen = parts_of(model).frozen(model.non_trainable_variables)
    if not frozen:
        return ""
    trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    whole = trained + sum(math.prod(variable.shape) for variable in frozen)
    updated = [layer for layer in model._flatten_layers() if getattr(layer, "lora_enabled", False)]
    ranks = ", ".join(map(str, sorted({layer.lora_rank for layer in updated})))
    how = f", in updates of rank {ranks} to {len(updated)} kernels" * bool(updated)
    return f"{trained:,} of {whole:,} parameters trained ({trained / whole:.2%}){how}"


def _is_seed(variable) -> bool:
    return variable.path.endswith("seed_generator_state")


def _changed_by_training(model: keras.Model) -> list[bool] | None:
    """For each non-trainable variable whether a training call gives it a new value."""
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return None
    specs = [
        tf.TensorSpec([2 if size is None else size for size in tensor.shape], tensor.dtype)
        for tensor in inputs
    ]
    found: list[bool] = []

    def call(trainable, others, values):
        if isinstance(model, keras.Sequential):
            (structure,) = values  # one that was never called has no `input`
        else:
            structure = keras.tree.pack_sequence_as(model.input, values)
        _, after = model.stateless_call(trainable, others, structure, training=True)
        # A variable that nobody assigned comes back as the tensor that went in.
        found.extend(new is not old for new, old in zip(after, others, strict=True))

    trainable, others = (
        [tf.TensorSpec(v.shape, v.dtype) for v in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )
    tf.function(call, autograph=False).get_concrete_function(trainable, others, specs)
    return found
