"""Accuracy on multiple-choice tasks by length-normalised log-likelihood.

The answer of a model is the choice with the highest log-likelihood after the prompt, divided by the
choice's length in UTF-8 bytes, so that tokenizers can be compared and long choices are not at a
disadvantage. Beside the accuracy stands the likelihood of the right continuation, in nats per byte:
at small sizes accuracies lie at chance, and it is the figure that still moves.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.tokenizers import Tokenizer
from dr_keras.meta.problem import model_inputs
from dr_keras.training.tasks import Task


def likelihood_rows(
    prompt: np.ndarray, continuation: np.ndarray, length: int, start_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Windows in which every token of the continuation is predicted once, with what fits before it.

    A continuation that leaves half of the window to its prompt, or one whose prompt fits beside it,
    takes one window; a longer one is cut into pieces of half a window.

    Args:
      prompt, continuation: token ids, int [P] and [C].
      length: tokens in a window.
      start_id: stands before a continuation that has no prompt.

    Returns:
      tokens int32 [R, length], padded with 0, and scored bool [R, length]: which of them are
      predicted.
    """
    if not len(prompt):
        prompt = np.array([start_id])
    whole = np.concatenate([prompt, continuation]).astype(np.int32)
    if len(continuation) < length and len(whole) <= length:
        pieces = [(len(prompt), len(whole))]
    else:
        size = max(length // 2, 1)
        pieces = [
            (begin, min(begin + size, len(whole))) for begin in range(len(prompt), len(whole), size)
        ]
    tokens = np.zeros([len(pieces), length], np.int32)
    scored = np.zeros([len(pieces), length], bool)
    for row, (begin, end) in enumerate(pieces):
        window = whole[max(end - length, 0) : end]
        tokens[row, : len(window)] = window
        scored[row, len(window) - (end - begin) : len(window)] = True
    return tokens, scored


@dataclasses.dataclass(frozen=True, eq=False)
class TaskWindows:
    """The continuations of a task as windows of tokens; it needs no tokenizer any more.

    Attributes:
      task: whose continuations these are, question by question.
      tokens, scored: of all windows, see `likelihood_rows`: [R, S] each.
      owners: int [R], the number of the continuation that a window belongs to.
    """

    task: Task
    tokens: np.ndarray
    scored: np.ndarray
    owners: np.ndarray


def task_windows(task: Task, tokenizer: Tokenizer, length: int) -> TaskWindows:
    """The windows of `length` tokens in which a language model is asked a task."""
    prompts = tokenizer.encode([q.prompt for q in task.questions for _ in q.continuations])
    continuations = tokenizer.encode([c for q in task.questions for c in q.continuations])
    rows = [
        likelihood_rows(prompt, continuation, length, tokenizer.end_id)
        for prompt, continuation in zip(prompts, continuations)
    ]
    return TaskWindows(
        task,
        np.concatenate([tokens for tokens, _ in rows]),
        np.concatenate([marked for _, marked in rows]),
        np.repeat(np.arange(len(rows)), [len(tokens) for tokens, _ in rows]),
    )


class TaskScorer:
    """Asks a language model tasks, with one compiled function.

    Args:
      model: Keras model from {"tokens": int32 [B, S]} to logits [B, S, V], or to the dict of
        `chunked_logits`; its present weights are used.
      batch_size: windows at once.
    """

    def __init__(self, model: keras.Model, batch_size: int = 64, jit_compile: bool = True):
        self._batch = batch_size

        def likelihood(tokens, scored):
            logits = model(model_inputs(model, {"tokens": tokens}), training=False)
            if isinstance(logits, dict):
                logits = tf.matmul(logits["hidden"], logits["unembedding"], transpose_b=True)
            # The logits at a position are for the next token; the last ones are for none.
            targets = tf.roll(tokens, -1, axis=1)
            surprise = tf.nn.sparse_softmax_cross_entropy_with_logits(
                targets, tf.cast(logits, tf.float32)
            )
            counted = tf.cast(tf.roll(scored, -1, axis=1), tf.float32)
            return -tf.reduce_sum(surprise * counted, axis=1)

        self._likelihood = tf.function(likelihood, jit_compile=jit_compile, autograph=False)

    def log_likelihoods(self, windows: TaskWindows) -> np.ndarray:
        """log p(continuation | prompt) in nats of every continuation, float64 [N]."""
        count = len(windows.owners)
        filled = ((0, -count % self._batch), (0, 0))
        tokens, scored = np.pad(windows.tokens, filled), np.pad(windows.scored, filled)
        values = [
            self._likelihood(
                tf.constant(tokens[at : at + self._batch]),
                tf.constant(scored[at : at + self._batch]),
            )
            for at in range(0, len(tokens), self._batch)
        ]
        return np.bincount(windows.owners, np.concatenate(values).astype(np.float64)[:count])

    def __call__(self, windows: TaskWindows) -> dict[str, float]:
        """{"accuracy", "right_likelihood"} of a task: see `task_figures`."""
        return task_figures(windows.task, self.log_likelihoods(windows))


def task_figures(task: Task, log_likelihoods: np.ndarray) -> dict[str, float]:
    """Figures of a task from the log-likelihoods of all its continuations, question by question.

    Returns:
      "accuracy": share of questions whose right choice has the highest log-likelihood per byte; of
      equal ones the first counts as the answer. "right_likelihood": mean log-likelihood of the
      right choices in nats per byte, higher is better.
    """
    right, likelihood, at = 0, 0.0, 0
    for question in task.questions:
        sizes = [len(text.encode()) for text in question.continuations]
        per_byte = log_likelihoods[at : at + len(sizes)] / sizes
        at += len(sizes)
        right += int(np.argmax(per_byte)) == question.gold
        likelihood += float(per_byte[question.gold])
    return {
        "accuracy": right / len(task.questions),
        "right_likelihood": likelihood / len(task.questions),
    }
