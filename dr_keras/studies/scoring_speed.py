"""How fast exported raters score: CPU seconds of this process, from text, windows included."""

from collections.abc import Iterator, Sequence
import time

import tensorflow as tf

from dr_keras.serving.loaded_text import LoadedTextRater
from dr_keras.serving.window_scoring import WindowScoring

_ROWS = (64, 1024, 4096)  # windows in a call of the network: a large one likes few, a fast one many
_TEXTS = 256  # texts that are cut at once


def megabytes_a_second(
    rater: LoadedTextRater,
    texts: Sequence[str],
    ways: Sequence[str] = ("texts", "pipeline", "compiled"),
    seconds: float = 1.0,
) -> dict[str, float]:
    """MB (1e6 bytes) of text a CPU second, by the way in which a rater is used.

    Args:
      rater: an exported rater of text.
      texts: what is scored, from the first again after the last.
      ways: "texts": `score_texts`, not compiled; "pipeline": in tf.data, texts to
        windows and these scored in batches; "compiled": likewise, the network compiled by XLA.
      seconds: of CPU time, at least, for each way and each of three sizes of batches, of which the
        fastest one counts. Starting a pipeline, tracing and compiling are not in it.
    """
    made = {"texts": _of_texts, "pipeline": _in_pipeline, "compiled": _compiled}
    return {
        way: max(_rate(made[way](rater, list(texts), rows), seconds) for rows in _ROWS) / 1e6
        for way in ways
    }


def _rate(steps: Iterator[float], least: float) -> float:
    """Bytes a CPU second; the first step is where all is done that is done once."""
    next(steps)
    begin, total = time.process_time(), 0.0
    while not total or time.process_time() - begin < least:
        total += next(steps)
    return total / (time.process_time() - begin)


def _size(texts: Sequence[str]) -> int:
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


def _of_texts(rater: LoadedTextRater, texts: list[str], rows: int) -> Iterator[float]:
    scoring = WindowScoring(windows_per_batch=rows, compiled=False)
    while True:
        rater.score_texts(texts, scoring)
        yield _size(texts)


def _in_pipeline(rater: LoadedTextRater, texts: list[str], rows: int) -> Iterator[float]:
    size, batches = _batches(rater, texts, rows)
    for _ in batches.map(lambda batch: _scores(rater, batch)):
        yield size


def _compiled(rater: LoadedTextRater, texts: list[str], rows: int) -> Iterator[float]:
    score = tf.function(lambda batch: _scores(rater, batch), jit_compile=True, autograph=False)
    size, batches = _batches(rater, texts, rows)
    for batch in batches:
        score(batch).numpy()
        yield size


def _batches(rater: LoadedTextRater, texts: list[str], rows: int) -> tuple[float, tf.data.Dataset]:
    """Bytes that a batch stands for on average, and windows int32 [rows, S] without an end."""
    cut = rater.signatures["text_windows"]
    windows = len(cut(text=tf.constant(texts))["tokens"])
    again = tf.data.Dataset.from_tensor_slices(texts).repeat()
    batches = again.batch(_TEXTS).map(lambda text: cut(text=text)["tokens"])
    batches = batches.rebatch(rows, drop_remainder=True)
    batches = batches.map(lambda some: tf.ensure_shape(some, [rows, rater.sequence_length]))
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return _size(texts) / windows * rows, batches.with_options(options)


def _scores(rater: LoadedTextRater, tokens: tf.Tensor) -> tf.Tensor:
    everything = tf.constant([[True]])
    return rater.signatures["serve_tokens"](tokens=tokens, padding_mask=everything)["score"]
