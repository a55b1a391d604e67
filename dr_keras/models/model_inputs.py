"""How a Keras model reads a batch of named features."""

import keras


def model_inputs(model: keras.Model, batch: dict):
    """The features of `batch` that `model` reads, by the names of its inputs.

    A model without named inputs (a subclassed one), or with an input that the batch does not
    have, is handed the whole batch, and says itself what it misses.
    """
    if isinstance(model, keras.Sequential):
        names = [tensor.name for tensor in model.inputs or []]
        return batch[names[0]] if names and names[0] in batch else batch
    structure = getattr(model, "input", None) if hasattr(model, "inputs") else None
    if keras.backend.is_keras_tensor(structure):
        return batch[structure.name] if structure.name in batch else batch
    if isinstance(structure, dict) and all(name in batch for name in structure):
        return {name: batch[name] for name in structure}
    return batch
