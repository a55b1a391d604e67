#!/usr/bin/env python3
"""How a rater's scores follow grades that people or models gave to prompts and responses.

    tools/grades.py --rater runs/instructions/export --input graded.jsonl --field preference

Prints the rank correlation of score and grade over all records that have one, and, among responses
to one prompt, how often the one with the better grade has the higher score (a half is chance), with
its standard error over prompts. Length in characters stands beside both: what it does as well needs
no rater. Records are read as `jsonl_corpus.conversation` reads them.
"""

import argparse
import collections
import itertools
import json
import sys

import numpy as np

from dr_keras.data.conversations import conversation, conversation_text
from dr_keras.data.corpora.base import Malformed
from dr_keras.data.formats.reading import read_lines
from dr_keras.errors import DataError, DrKerasError


def graded(path: str, field: str, settings: dict) -> tuple[list[str], np.ndarray, list[str]]:
    """(texts, grades float64 [N], prompts) of the records that have a number under `field`.

    Raises:
      DataError: fewer than two, or a line is no conversation.
    """
    texts, grades, prompts = [], [], []
    for number, line in read_lines(path, 8 << 20):
        try:
            record = json.loads(line or b"{}")
            grade = record.get(field)
            if isinstance(grade, bool) or not isinstance(grade, int | float):
                continue
            text, turns = conversation_text(record, settings, dict.get)
        except (ValueError, Malformed) as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        texts.append(text)
        grades.append(grade)
        prompts.append(text[: turns[0]])
    if len(texts) < 2:
        raise DataError(f"{path}: {len(texts)} records have a number under {field!r}; name another")
    return texts, np.array(grades, float), prompts


def agreement(scores: np.ndarray, grades: np.ndarray, prompts: list[str]) -> tuple[float, ...]:
    """(share, its standard error, number of prompts): how pairs of one prompt are ordered.

    Of each prompt the share of its pairs with different grades whose scores go the same way, a tie
    counting half; then the mean over prompts.
    """
    groups = collections.defaultdict(list)
    for row, prompt in enumerate(prompts):
        groups[prompt].append(row)
    shares = []
    for rows in groups.values():
        signs = [
            np.sign(scores[a] - scores[b]) * np.sign(grades[a] - grades[b])
            for a, b in itertools.combinations(rows, 2)
            if grades[a] != grades[b]
        ]
        if signs:
            shares.append((1 + np.mean(signs)) / 2)
    if len(shares) < 2:
        return float("nan"), float("nan"), len(shares)
    return float(np.mean(shares)), float(np.std(shares, ddof=1) / len(shares) ** 0.5), len(shares)


def main(argv: list[str] | None = None) -> int:
    """Prints two lines; 2 where something cannot be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rater", required=True, metavar="DIR")
    parser.add_argument("--input", required=True, metavar="FILE")
    parser.add_argument("--field", required=True, help="of the grade; more is better")
    parser.add_argument("--less_is_better", action="store_true")
    arguments = parser.parse_args(argv)
    from dr_keras.serving.loading import load_rater
    from dr_keras.training.metrics import spearman

    try:
        texts, grades, prompts = graded(arguments.input, arguments.field, conversation())
        scores = load_rater(arguments.rater).score_texts(texts)["score"].astype(float)
    except DrKerasError as error:
        print(f"grades: {error}", file=sys.stderr)
        return 2
    grades = -grades if arguments.less_is_better else grades
    print(f"{len(texts):,} records of {arguments.input} with {arguments.field!r}")
    lengths = np.array([len(text) for text in texts], float)
    for name, values in (("score", scores), ("length", lengths)):
        share, error, count = agreement(values, grades, prompts)
        of_pairs = f"; better of two: {share:.3f} ± {error:.3f} ({count:,} prompts)" * (count > 1)
        print(f"{name}: rank correlation {spearman(values, grades):+.3f}{of_pairs}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
