"""How fast exported raters score: CPU seconds of this process, from text, windows included."""

from collections.abc import Callable, Sequence
import time

import numpy as np
import tensorflow as tf

from dr_keras.serving.loaded_text import LoadedTextRater

_ROWS = 256
_WAYS = ("texts", "pipeline", "compiled")


def megabytes_a_second(
    rater: LoadedTextRater, texts: Sequence[str], ways: Sequence[str] = _WAYS, seconds: float = 1.0
) -> dict[str, float]:
    """MB (1e6 bytes) of text a CPU second, by the way in which a rater is used.

    Args:
      rater: an exported rater of text.
      texts: what is scored, again and again.
      ways: "texts": `score_texts`, as corpus jobs call it; "pipeline": in tf.data, texts to
        windows and these scored in batches; "compiled": likewise, the network compiled by XLA.
      seconds: of CPU time, at least, for each way; what compiling costs is not in it.
    """
    made = {"texts": _of_texts, "pipeline": _in_pipeline, "compiled": _compiled}
    size = sum(len(text.encode("utf-8", "replace")) for text in texts) / 1e6
    return {way: size / _cpu_seconds(made[way](rater, list(texts)), seconds) for way in ways}


def _cpu_seconds(work: Callable[[], object], least: float) -> float:
    work()  # what is done once: tracing, compiling
    begin, count = time.process_time(), 0
    while not count or time.process_time() - begin < least:
        work()
        count += 1
    return (time.process_time() - begin) / count


def _of_texts(rater: LoadedTextRater, texts: list[str]) -> Callable[[], object]:
    return lambda: rater.score_texts(texts)


def _windows(rater: LoadedTextRater, texts: list[str]) -> tf.data.Dataset:
    """Batches of windows [256, S] of the texts."""
    cut = rater.signatures["text_windows"]
    documents = tf.data.Dataset.from_tensor_slices(texts).batch(1024)
    rows = documents.map(lambda text: cut(text=text)["tokens"]).rebatch(_ROWS)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    return rows.with_options(options)


def _scores(rater: LoadedTextRater, rows: tf.Tensor) -> tf.Tensor:
    everything = tf.constant([[True]])
    return rater.signatures["serve_tokens"](tokens=rows, padding_mask=everything)["score"]


def _in_pipeline(rater: LoadedTextRater, texts: list[str]) -> Callable[[], object]:
    scored = _windows(rater, texts).map(lambda rows: _scores(rater, rows))
    return lambda: [scores.numpy() for scores in scored]


def _compiled(rater: LoadedTextRater, texts: list[str]) -> Callable[[], object]:
    score = tf.function(lambda rows: _scores(rater, rows), jit_compile=True, autograph=False)
    batches = _windows(rater, texts)

    def work() -> np.ndarray:
        found = []
        for rows in batches:
            count = int(rows.shape[0])
            whole = tf.pad(rows, [[0, _ROWS - count], [0, 0]])  # one shape, one program
            found.append(score(whole).numpy()[:count])
        return np.concatenate(found)

    return work
