"""Multiple-choice tasks: reading them, the fixed subset that is asked, and how a model answers.

A task is a list of questions, each a prompt, its choices, and the index of the right one, read as
`data.questions` says.

The answer of a model is the choice with the highest log-likelihood after the prompt, divided by the
choice's length in UTF-8 bytes, so that tokenizers can be compared and long choices are not at a
disadvantage. Beside the accuracy stands the likelihood of the right continuation, in nats per byte:
at small sizes accuracies lie at chance, and it is the figure that still moves.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import hashlib
import json

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.corpora.tfds import check_prepared, find_builder, read_examples
from dr_keras.data.formats.listing import Paths, find_files
from dr_keras.data.questions import (
    Question,
    in_fixed_order,
    make_question,
    read_questions,
    task_name,
)
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import ConfigurationError
from dr_keras.models.model_inputs import model_inputs
import gin


@dataclasses.dataclass(frozen=True)
class Task:
    """A task as it is asked.

    Attributes:
      name: of the task.
      questions: those that are asked, in a fixed order.
      available: how many there were to choose from.
    """

    name: str
    questions: tuple[Question, ...]
    available: int

    @property
    def chance(self) -> float:
        """Accuracy of a guess."""
        return float(np.mean([1 / len(q.continuations) for q in self.questions]))

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the questions, in order."""
        content = [dataclasses.astuple(question) for question in self.questions]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def subset(name: str, questions: Sequence[Question], items: int | None) -> Task:
    """`items` questions of a task, the first in the order that hashes give them."""
    if items is not None and items < 1:
        raise ConfigurationError(
            f"items of task {name!r} is {items}: it must be at least 1, or None for all."
        )
    return Task(name, tuple(in_fixed_order(name, questions)[:items]), len(questions))


@gin.configurable
def jsonl_task(path: str = gin.REQUIRED, name: str | None = None, items: int | None = 500) -> Task:
    """A task from JSON Lines; see `data.questions` for its fields.

    Args:
      path: file, glob or list of files, local or through `tf.io.gfile`.
      name: None for the name of the first file, without `_validation` or `_test`.
      items: at most so many questions, chosen by hash; None asks all.

    Raises:
      DataError: there is no such file, or a line is no question; the message names it.
    """
    paths = find_files(path, "jsonl")
    return subset(name or task_name(paths), read_questions(paths), items)


@gin.configurable
def jsonl_tasks(paths: Paths = gin.REQUIRED, items: int | None = 500) -> list[Task]:
    """A task from every JSON Lines file of `paths` (a glob, a folder, or a list of them)."""
    return [jsonl_task(path, None, items) for path in find_files(paths, "jsonl")]


def _hellaswag(record: Mapping) -> dict:
    context = f"{_text(record['activity_label'])}: {_text(record['context'])}"
    choices = [_text(ending) for ending in record["endings"]]
    return {"context": context, "choices": choices, "gold": int(record["label"])}


def _piqa(record: Mapping) -> dict:
    choices = [_text(record["sol1"]), _text(record["sol2"])]
    return {"context": _text(record["goal"]), "choices": choices, "gold": int(record["label"])}


def _arc(record: Mapping) -> dict:
    labels = [int(label) for label in record["choices"]["label"]]
    return {
        "question": _text(record["question"]),
        "choices": [_text(choice) for choice in record["choices"]["text"]],
        "gold": labels.index(int(record["answerKey"])),
        "id": _text(record["id"]),
    }


def _text(value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


# Data sets that TFDS has; SIQA and CommonsenseQA, which it lacks, are read from files.
_TFDS: dict[str, tuple[str, Callable[[Mapping], dict]]] = {
    "hellaswag": ("hellaswag", _hellaswag),
    "piqa": ("piqa", _piqa),
    "arc_easy": ("ai2_arc/ARC-Easy", _arc),
}


@gin.configurable
def tfds_task(
    name: str = gin.REQUIRED,
    split: str = "validation",
    data_dir: str | None = None,
    download: bool = False,
    items: int | None = 500,
) -> Task:
    """A task from TensorFlow Datasets: "hellaswag", "piqa" or "arc_easy".

    Args:
      name: of the task.
      split: of the data set.
      data_dir: where prepared data sets are; None for TFDS' own default.
      download: whether to download and prepare it where it is not there.
      items: at most so many questions, chosen by hash; None asks all.

    Raises:
      ConfigurationError: no such task.
      DataError: the data set is not there, or has no such split.
    """
    if name not in _TFDS:
        raise ConfigurationError(
            f"tfds_task.name is {name!r}: TFDS has {', '.join(_TFDS)}; give others as files with"
            " jsonl_task."
        )
    data_set, convert = _TFDS[name]
    builder = find_builder(data_set, data_dir)
    check_prepared("tfds_task", builder, data_set, [split], download)
    records = read_examples("tfds_task", builder, data_set, split)
    questions = [
        make_question(convert(_rows(record)), f"{data_set}, record {number}")
        for number, record in enumerate(records, 1)
    ]
    return subset(name, questions, items)


def _rows(record: Mapping) -> dict:
    return {
        key: _rows(value) if isinstance(value, Mapping) else value for key, value in record.items()
    }


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
