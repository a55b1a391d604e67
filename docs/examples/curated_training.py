#!/usr/bin/env python3
"""Trains a language model by `fit`, with a rater that learns beside it what to train it on.

    docs/examples/curated_training.py --steps 400
    docs/examples/curated_training.py --input corpus/ --target good.jsonl --steps 2000

The model sees the corpus and is to be good at the target. Without --input the corpus is code,
docstrings of NumPy and Keras and those of the standard library, of the Python installation, and the
target is the topics of Python's documentation. Prints the loss on the target's validation part of a
plain training and of the curated one, of as many updates each, and what the rater kept by source.
"""

import argparse
from collections.abc import Sequence
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras

import dr_keras
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.corpora.embedded import embedded_code
from dr_keras.data.corpora.mixture import mixture_corpus

LENGTH = 128  # bytes in a window
VOCABULARY = 258  # bytes, padding and the beginning of a text


def of_the_installation() -> tuple[Corpus, Corpus]:
    """A corpus and a target that are on every machine."""

    def topics(skipped):
        found = dr_keras.embedded_corpus(("stdlib",)).documents()
        return (document for document in found if document.source == "topics")

    docstrings = dr_keras.embedded_corpus(("numpy", "keras"))
    return mixture_corpus([docstrings, embedded_code()]), Corpus("topics", topics)


def train(parts, steps: int, seed: int, **settings) -> tuple[float, dict[str, list[float]]]:
    """The loss on the target's validation part after so many steps, and what was logged."""
    keras.utils.set_random_seed(seed)
    model = dr_keras.language_model(VOCABULARY, LENGTH, width=64, layer_count=2)
    rater = dr_keras.text_rater(VOCABULARY, LENGTH, width=32, layer_count=1)
    curated = dr_keras.CuratedModel(
        model, rater, parts.outer, batch_size=16, outer_batch_size=16, seed=seed, **settings
    )
    curated.compile(keras.optimizers.AdamW(3e-3), loss=dr_keras.next_token_loss)
    logs = curated.fit(
        parts.train,
        epochs=2,
        steps_per_epoch=max(1, steps // 2),
        validation_data=parts.validation,
        verbose=0,
    ).history
    return logs["val_loss"][-1], logs


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", help="file or folder of the corpus")
    parser.add_argument("--target", help="file or folder of text that the model is to be good at")
    parser.add_argument(
        "--steps", type=int, default=400, help="updates of each model (default 400)"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    if (arguments.input is None) != (arguments.target is None):
        parser.error("--input and --target go together")
    if arguments.input is None:
        corpus, target = of_the_installation()
    else:
        corpus = dr_keras.corpus_from_path(arguments.input)
        target = dr_keras.corpus_from_path(arguments.target)
    parts = dr_keras.text_data(corpus, dr_keras.byte_tokenizer(), LENGTH, target=target)
    plain, _ = train(parts, arguments.steps, arguments.seed, discard_fraction=0, meta_every=None)
    print(f"plain    {plain:.4f} nats a byte")
    loss, logs = train(
        parts, arguments.steps, arguments.seed, discard_fraction=0.75, meta_every=4, unroll_length=1
    )
    print(f"curated  {loss:.4f} nats a byte")
    for name, values in sorted(logs.items()):
        if name.startswith("kept/"):
            print(f"kept of {name.removeprefix('kept/'):8} {values[-1]:.2f}")


if __name__ == "__main__":
    main()
