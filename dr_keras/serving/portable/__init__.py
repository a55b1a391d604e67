"""A rater of text as one file for runtimes other than TensorFlow: the formats that there are.

A file does what the signature `serve_scores` does, from token ids int32 [B, S] to scores float32
[B], 0 is padding, and nothing else: what makes token ids and percentiles is not in it.

A format is one file here: a subclass of `PortableFormat`, and a line in FORMATS. It is called by
its name in `dr-keras export-rater --format`; its libraries are the extra of that name in setup.cfg.
"""

import abc
from collections.abc import Callable, Iterable, Mapping
import importlib
from typing import ClassVar

import numpy as np
import tensorflow as tf

from dr_keras.errors import ArtefactError, ConfigurationError
from dr_keras.serving.frozen import freeze
from dr_keras.serving.loaded_text import LoadedTextRater
from dr_keras.serving.loading import LoadedRater
from dr_keras.system.extras import require_extra

# By name: module and class.
FORMATS = {
    "litert": ("dr_keras.serving.portable.litert", "LiteRT"),
    "onnx": ("dr_keras.serving.portable.onnx", "Onnx"),
}
SIGNATURE, TOKENS, SCORE = "serve_scores", "tokens", "score"


class ServeScores(tf.Module):
    """What a file computes, with weights as constants.

    Args:
      score: tokens int32 [B, S] -> {"score": float32 [B]}.
      batch: B, windows in each call; None leaves it open.
      sequence_length: S.

    Attributes:
      serve_scores: a tf.function of the same.
      spec: of the tokens.
    """

    def __init__(self, score: Callable, batch: int | None, sequence_length: int):
        super().__init__()
        spec = tf.TensorSpec([batch, sequence_length], tf.int32, name=TOKENS)
        # Of variables, LiteRT's converter may leave the values behind.
        frozen = freeze(score, spec, (SCORE,))

        @tf.function(input_signature=[spec], autograph=False)
        def serve_scores(tokens):
            return frozen(tokens)

        self.spec, self.serve_scores = spec, serve_scores


def serve_scores(rater: LoadedRater, batch: int | None = None) -> ServeScores:
    """What files of an exported rater compute, of windows of its full length.

    Raises:
      ArtefactError: it is no rater of text, or its SavedModel has no `serve_scores`.
      ConfigurationError: B is not positive.
    """
    if not isinstance(rater, LoadedTextRater):
        raise ArtefactError(
            f"{rater.path} holds a rater of {rater.metadata['kind']}, and only those of text have"
            " files of other formats: use its SavedModel."
        )
    if SIGNATURE not in rater.signatures:
        raise ArtefactError(
            f"{rater.path} has no signature {SIGNATURE}, from which files of other formats are"
            " made: it was exported by an older dr_keras. Export the rater again with this one."
        )
    if batch is not None and batch < 1:
        raise ConfigurationError(
            f"A batch of {batch} windows: give at least 1, or leave it out for any number."
        )
    served = rater.signatures[SIGNATURE]
    return ServeScores(lambda tokens: served(tokens=tokens), batch, rater.sequence_length)


class PortableFormat(abc.ABC):
    """How scores become a file, and a file scores.

    Attributes:
      name: among FORMATS, and of the extra that has the libraries.
      suffix: of its files, with the dot.
      libraries: what must be importable -> the name of its package.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    libraries: ClassVar[Mapping[str, str]]

    @abc.abstractmethod
    def write(self, scores: ServeScores, path: str, int8: bool) -> None:
        """Writes a file.

        Args:
          scores: what it computes.
          path: of the file; its folder exists.
          int8: whether weights become whole numbers of 8 bits, and activations while it runs
            (dynamic quantisation).

        Raises:
          ArtefactError: there is nothing in it that becomes int8.
          OperationsLacking: the format has not all that the rater computes with.
          Exception: whatever else a converter may raise.
        """

    @abc.abstractmethod
    def load(self, path: str, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
        """The file in its own runtime: tokens int32 [B, S] -> scores float32 [B]."""


class OperationsLacking(Exception):
    """A format has no equivalent of some operations of TensorFlow; `args` are their names."""


def nothing_int8(who: str, what: str) -> ArtefactError:
    """What is said of a rater in which there is nothing to quantise."""
    return ArtefactError(
        f"{who} makes nothing of this rater int8: it does so with {what}, and here is none. Leave"
        " int8 out."
    )


def find_formats(names: Iterable[str]) -> list[PortableFormat]:
    """The formats of these names, each once, whose libraries are there.

    Raises:
      ConfigurationError: there is none of this name, or its libraries are missing.
    """
    found = []
    for name in dict.fromkeys(names):
        if name not in FORMATS:
            raise ConfigurationError(
                f"There is no format {name!r}: the SavedModel is always written, and beside it"
                f" {' and '.join(FORMATS)} can be."
            )
        module, of_class = FORMATS[name]
        made = getattr(importlib.import_module(module), of_class)()
        require_extra(made.name, made.libraries)
        found.append(made)
    return found
