"""Multiple-choice questions: how they are read, and a held-out set of them.

Files are JSON Lines: "choices" (a list of texts) and "gold" (the index of the right one), with
"context", "question" or both, and an "id" where there is one. The prompt is

    <context>                                   where there is no question (HellaSwag, PIQA)
    Question: <question>\\nAnswer:               (ARC-Easy, CommonsenseQA)
    <context>\\nQuestion: <question>\\nAnswer:    where there are both (SIQA)

and a choice continues it after a blank.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import hashlib
import json
import logging

import numpy as np

from dr_keras.data.corpora import base
from dr_keras.data.examples import ExampleSet, objects
from dr_keras.data.formats.listing import Paths, find_files
from dr_keras.data.formats.reading import read_lines, stem
from dr_keras.data.splits import unit_hash
from dr_keras.data.tokenizers import PAD_ID, Tokenizer
from dr_keras.errors import DataError
import gin

_LONGEST_LINE = 1 << 20

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Question:
    """One question: `continuations` are what may follow `prompt`, `gold` the right one's index."""

    prompt: str
    continuations: tuple[str, ...]
    gold: int
    id: str


def make_question(record: Mapping, place: str) -> Question:
    """A question from a record with the fields described above.

    Raises:
      DataError: a field is missing or of the wrong kind; the message begins with `place`.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{place}: not a JSON object but a {type(record).__name__}.")
    choices, gold = record.get("choices"), record.get("gold")
    if not isinstance(choices, Sequence) or isinstance(choices, str) or len(choices) < 2:
        raise DataError(f"{place}: 'choices' must be a list of at least two texts.")
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise DataError(f"{place}: every one of 'choices' must be a text that is not empty.")
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise DataError(
            f"{place}: 'gold' is {gold!r}: it must be the index of the right choice, 0 to"
            f" {len(choices) - 1}."
        )
    prompt = _prompt(record.get("context"), record.get("question"), place)
    continuations = tuple(" " + choice.strip() for choice in choices)
    identity = record.get("id")
    if identity in (None, ""):
        content = json.dumps([prompt, *continuations]).encode()
        identity = hashlib.sha256(content).hexdigest()[:16]
    return Question(prompt, continuations, gold, str(identity))


def _prompt(context, question, place: str) -> str:
    for name, value in (("context", context), ("question", question)):
        if value is not None and not isinstance(value, str):
            raise DataError(f"{place}: {name!r} must be a text, not a {type(value).__name__}.")
    context, question = (context or "").strip(), (question or "").strip()
    if not context and not question:
        raise DataError(f"{place}: there is neither a 'context' nor a 'question'.")
    if not question:
        return context
    return f"{context}\n" * bool(context) + f"Question: {question}\nAnswer:"


def task_name(paths: Sequence[str]) -> str:
    """The name of the first file, without `_validation`, `_test` or `_train`."""
    name = stem(paths[0])
    for ending in ("_validation", "_test", "_train"):
        name = name.removesuffix(ending)
    return name


def in_fixed_order(name: str, questions: Sequence[Question]) -> list[Question]:
    """Questions of a task by a hash of task and id: the same whatever their order was."""
    return sorted(questions, key=lambda q: (unit_hash("task", name, q.id, q.prompt), q.prompt))


def read_questions(paths: Sequence[str]) -> list[Question]:
    """All questions of JSON Lines files.

    Raises:
      DataError: a line is no question, or there is none; the message names file and line.
    """
    questions = [question for path in paths for question in _read(path)]
    if not questions:
        raise DataError(f"{', '.join(paths)}: there is no question in it.")
    return questions


def _read(path: str) -> Iterator[Question]:
    for number, line in read_lines(path, _LONGEST_LINE):
        place = f"{path}, line {number}"
        if line is None:
            raise DataError(f"{place}: the line is longer than {_LONGEST_LINE} bytes.")
        if not line.strip():
            continue
        try:
            record = json.loads(base.decode(line))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: not JSON ({error}).") from error
        yield make_question(record, place)


@gin.configurable
def choice_set(
    path: Paths = gin.REQUIRED,
    tokenizer: Tokenizer = gin.REQUIRED,
    sequence_length: int = gin.REQUIRED,
    choices: int | None = None,
    items: int | None = None,
    after: int = 0,
    on_misfit: str = "stop",
    name: str | None = None,
) -> ExampleSet:
    """Multiple-choice questions as a held-out set, for an outer loss on the right choice.

    Args:
      path: JSON Lines: a file, a glob, a folder or a list of them; see the module for its fields.
      tokenizer: that of the training text.
      sequence_length: S, the most tokens of a prompt with one of its choices.
      choices: K, the most choices of a question; those with fewer are filled up by choices without
        a token. None: all questions have as many as most of them.
      items: at most so many questions; None for all.
      after: leave out the first so many of the order in which tasks take theirs: with 500, none of
        those that `jsonl_task.items = 500` asks a model later.
      on_misfit: "stop" at a question with too many tokens or another number of choices, or "skip".
      name: of the task, which decides the order; None: see `task_name`.

    Returns:
      N examples with `choices` int32 [N, K, S], the tokens of prompt and choice, 0 is padding;
      `answers` float32 [N, K, S], 1 where these are the choice's; `gold` int32 [N].

    Raises:
      DataError: there is no such file, a line is no question, or a question does not fit.
      ConfigurationError: a setting out of its range.
    """
    base.check_choice("choice_set.on_misfit", on_misfit, ("stop", "skip"))
    base.check_at_least("choice_set.after", after, 0)
    base.check_at_least("choice_set.items", 1 if items is None else items)
    base.check_at_least("choice_set.choices", 2 if choices is None else choices, 2)
    paths = find_files(path, "jsonl")
    name = name or task_name(paths)
    questions = in_fixed_order(name, read_questions(paths))
    counts = collections.Counter(len(question.continuations) for question in questions)
    least, most = (2, choices) if choices else (counts.most_common(1)[0][0],) * 2
    prompts = tokenizer.encode([q.prompt for q in questions[after:]])
    found: list[tuple[Question, np.ndarray, list[np.ndarray]]] = []
    skipped = 0
    for question, prompt in zip(questions[after:], prompts):
        if len(found) == items:
            break
        answers = tokenizer.encode(question.continuations)
        longest = len(prompt) + max(map(len, answers))
        misfit = ""
        if not least <= len(answers) <= most:
            misfit = f"has {len(answers)} choices, where {most} are taken"
            remedy = f"set choice_set.choices = {max(counts)}"
        elif longest > sequence_length:
            misfit = (
                f"has {longest} tokens with its longest choice, and {sequence_length} are taken"
            )
            remedy = "raise choice_set.sequence_length"
        if misfit and on_misfit == "stop":
            raise DataError(
                f"{', '.join(paths)}: the question {question.id!r} ({question.prompt[:60]!r})"
                f" {misfit}: {remedy}, or leave such questions out with choice_set.on_misfit ="
                " 'skip'."
            )
        if misfit:
            skipped += 1
        else:
            found.append((question, prompt, answers))
    _logger.info("%s: %d questions, %d that do not fit left out", name, len(found), skipped)
    if not found:
        raise DataError(
            f"{', '.join(paths)}: of {len(questions)} questions {skipped} do not fit and {after}"
            " are left out by choice_set.after, so that none is left: raise sequence_length or"
            " choices, or lower after."
        )
    return _choice_examples(found, name, most, sequence_length, tokenizer)


def _choice_examples(
    found: Sequence[tuple[Question, np.ndarray, list[np.ndarray]]],
    name: str,
    most: int,
    sequence_length: int,
    tokenizer: Tokenizer,
) -> ExampleSet:
    choices = np.full([len(found), most, sequence_length], PAD_ID, np.int32)
    asked = np.zeros(choices.shape, np.float32)
    for row, (_, prompt, answers) in enumerate(found):
        for column, answer in enumerate(answers):
            end = len(prompt) + len(answer)
            choices[row, column, :end] = np.concatenate([prompt, answer])
            asked[row, column, len(prompt) : end] = 1
    names = objects([name] * len(found))
    return ExampleSet(
        features={
            "choices": choices,
            "answers": asked,
            "gold": np.array([question.gold for question, _, _ in found], np.int32),
        },
        ids=objects(question.id for question, _, _ in found),
        sources=names,
        corpora=names,
        render=functools.partial(_render, tokenizer),
        name=name,
    )


def _render(tokenizer: Tokenizer, row: Mapping[str, np.ndarray]) -> str:
    """A question with its right choice."""
    return tokenizer.decode(row["choices"][int(row["gold"])])
