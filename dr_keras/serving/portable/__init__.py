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
    """`serve_scores` of a rater, for windows of its full length.

    Args:
      rater: exported, loaded.
      batch: B, how many windows a call has; None leaves it open.

    Raises:
      ArtefactError: the rater has no such signature.
      ConfigurationError: B is not positive.
    """

    def __init__(self, rater: LoadedRater, batch: int | None = None):
        super().__init__()
        if not isinstance(rater, LoadedTextRater):
            raise ArtefactError(
                f"{rater.path} holds a rater of {rater.metadata['kind']}, and only those of text"
                " have files of other formats: use its SavedModel."
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
        self._owner = rater.saved_model  # whose variables the function reads
        spec = tf.TensorSpec([batch, rater.sequence_length], tf.int32, name=TOKENS)
        served = rater.signatures[SIGNATURE]

        @tf.function(input_signature=[spec], autograph=False)
        def serve_scores(tokens):
            return {SCORE: served(tokens=tokens)[SCORE]}

        self.spec, self.serve_scores = spec, serve_scores


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
          Exception: whatever the converter raises where it knows an operation not.
        """

    @abc.abstractmethod
    def load(self, path: str, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
        """The file in its own runtime: tokens int32 [B, S] -> scores float32 [B]."""


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
