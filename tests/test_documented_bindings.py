"""Lines of gin that pages of docs/ show: names, arguments and values are there and fit."""

import collections
from pathlib import Path
import re

import pytest

from dr_keras.config import configuration

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("meta_training.md", "members.md", "instructions.md")
BINDING = re.compile(r"    ((?:\w+/)?\w+\.\w+) = ")


def blocks(page: str) -> list[list[str]]:
    """Indented blocks of bindings; of lines for the same argument, each by itself."""
    found: list[list[str]] = []
    for block in re.findall(r"(?:^    .*\n)+", (DOCS / page).read_text(encoding="utf-8"), re.M):
        lines = block.splitlines()
        names = [match[1] for match in map(BINDING.match, lines) if match]
        if len(names) != len(lines):
            continue  # a command or a program
        counts = collections.Counter(names)
        several = [line for line, name in zip(lines, names) if counts[name] > 1]
        rest = [line for line in lines if line not in several]
        found += [[*rest, line] for line in several] or [lines]
    return found


@pytest.mark.parametrize(
    "page, number", [(page, number) for page in PAGES for number in range(len(blocks(page)))]
)
def test_bindings_of_the_page_parse(page, number):
    lines = [line.strip() for line in blocks(page)[number]]
    configuration.parse("experiments/quickstart.gin", lines)
    with pytest.raises(Exception, match="did you mean|Did you mean|No configurable"):
        configuration.parse("experiments/quickstart.gin", [lines[0].replace(".", "x.", 1)])


def test_the_pages_show_bindings():
    assert all(len(blocks(page)) > 3 for page in PAGES)
