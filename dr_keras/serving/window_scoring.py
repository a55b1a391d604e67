"""How the windows of many texts go through a network: how many at once, compiled, all of them."""

from collections.abc import Callable
import dataclasses
import logging

import numpy as np
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.serving.frozen import freeze
import gin

_logger = logging.getLogger(__name__)
# Bytes of text from which on compiling, some seconds of a process, is soon won back.
PAYS = 16 << 20
# Windows at once by whether they are compiled: a network's numbers are to stay in the cache.
_ROWS = {False: 256, True: 64}
_ROWS_LIGHT = {False: 4096, True: 1024}
# What a rater has that is not light.
MATRIX_PRODUCTS = frozenset({
    "MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv2D", "XlaDot",
    "XlaDotV2", "XlaConv", "XlaConvV2", "DepthwiseConv2dNative", "SparseMatMul", "Conv3D",
})  # fmt: skip


@gin.configurable
@dataclasses.dataclass(frozen=True)
class WindowScoring:
    """Settings of `score_texts` and of what scores and filters corpora.

    Args:
      windows_per_batch: windows in one call of the network; None: 64 where it is compiled, else
        256; of a light rater, one without matrix products such as n-grams, 1024 and 4096, or
        calling it would cost more than it computes.
      compiled: whether by XLA, with the weights as constants: on a CPU core 1.8 times as fast, with
        scores that differ in their last bits. None: where there are at least 16 MB of text, so that
        the seconds of compiling are won back; a corpus that is no files is as if small.
      windows_per_document: so many windows of a longer document are scored, evenly spread; its
        score is their mean. None: all.

    Raises:
      ConfigurationError: a number is below 1.
    """

    windows_per_batch: int | None = None
    compiled: bool | None = None
    windows_per_document: int | None = None

    def __post_init__(self):
        for name in ("windows_per_batch", "windows_per_document"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(
                    f"WindowScoring.{name} is {value}: give an integer of at least 1, or None."
                )

    def settled(self, text_bytes: int, light: bool | None = False) -> "WindowScoring":
        """With what is open decided for so much text; the same wherever parts of it are done.

        Args:
          text_bytes: of text.
          light: whether the rater is; None leaves the windows of a batch open, to be decided for
            each of several raters.
        """
        compiled = text_bytes >= PAYS if self.compiled is None else self.compiled
        rows = self.windows_per_batch
        if rows is None and light is not None:
            rows = (_ROWS_LIGHT if light else _ROWS)[compiled]
        return dataclasses.replace(self, windows_per_batch=rows, compiled=compiled)


def spread(owner: np.ndarray, most: int | None) -> np.ndarray:
    """Which windows of documents are scored.

    Args:
      owner: int [N], ascending: the document of each window.
      most: of a document; None: all.

    Returns:
      bool [N], exactly `most` of each document that has more, as evenly spread as can be.
    """
    if most is None or not len(owner):
        return np.ones(len(owner), bool)
    first = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
    counts = np.diff(np.append(first, len(owner)))
    place = np.arange(len(owner)) - np.repeat(first, counts)
    return chosen(place, np.repeat(counts, counts), most)


def chosen(place: np.ndarray, count: np.ndarray | int, most: int) -> np.ndarray:
    """As `spread`, of windows at these places, int [n], of documents with so many windows."""
    half = np.asarray(count, np.int64) // 2
    step = place.astype(np.int64) * most + half
    return (count <= most) | ((step + most) // count > step // count)


class CompiledScores:
    """Windows int32 [n, W] -> scores float32 [n], by programs of fixed shape.

    A program is made for each width, with the rater's weights as constants. Batches that are too
    small are filled up. What XLA cannot compile is scored as it is, and said once.

    Args:
      rater: {"score": float32 [B]} of windows int32 [B, W].
    """

    def __init__(self, rater: Callable):
        self._rater = rater
        self._programs: dict[tuple[int, int], Callable] = {}
        self._fails = False

    def __call__(self, tokens: np.ndarray, rows: int) -> np.ndarray:
        """Scores; `rows` is the size of the program's batch, at least n."""
        filled = np.zeros((rows, tokens.shape[1]), np.int32)
        filled[: len(tokens)] = tokens
        if not self._fails:
            try:
                return self._program(filled.shape)(tf.constant(filled)).numpy()[: len(tokens)]
            except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
                self._fails = True
                first = str(error).splitlines()[0]
                _logger.warning(
                    "XLA cannot compile this rater, which is scored as it is: %s", first
                )
        return self._rater(tf.constant(tokens, tf.int32))["score"].numpy()

    def _program(self, shape: tuple[int, int]) -> Callable:
        if shape not in self._programs:
            frozen = freeze(self._rater, tf.TensorSpec(shape, tf.int32), ("score",))
            self._programs[shape] = tf.function(
                lambda tokens: frozen(tokens)["score"], jit_compile=True, autograph=False
            )
        return self._programs[shape]
