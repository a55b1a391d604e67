"""Lines of gin that docs/meta_training.md shows: names, arguments and values are there and fit."""

import collections
from pathlib import Path
import re

import pytest

from dr_keras.config import configuration

PAGE = Path(__file__).resolve().parent.parent / "docs" / "meta_training.md"
BINDING = re.compile(r"    ((?:\w+/)?\w+\.\w+) = ")


def blocks() -> list[list[str]]:
    """Indented blocks of bindings; of lines for the same argument, each by itself."""
    found: list[list[str]] = []
    for block in re.findall(r"(?:^    .*\n)+", PAGE.read_text(encoding="utf-8"), re.M):
        lines = block.splitlines()
        names = [match[1] for match in map(BINDING.match, lines) if match]
        if len(names) != len(lines):
            continue  # a command or a program
        counts = collections.Counter(names)
        several = [line for line, name in zip(lines, names) if counts[name] > 1]
        rest = [line for line in lines if line not in several]
        found += [[*rest, line] for line in several] or [lines]
    return found


@pytest.mark.parametrize("number", range(len(blocks())))
def test_bindings_of_the_page_parse(number):
    lines = [line.strip() for line in blocks()[number]]
    configuration.parse("experiments/quickstart.gin", lines)
    with pytest.raises(Exception, match="did you mean|Did you mean|No configurable"):
        configuration.parse("experiments/quickstart.gin", [lines[0].replace(".", "x.", 1)])


def test_the_page_shows_bindings():
    assert len(blocks()) >= 5
