"""Lines of gin that the pages show: names, arguments and kinds of values are there and fit."""

import collections

import blocks
import pytest

from dr_keras.config import configuration

# Their own tests read these pages, with the modules that the pages have their readers write.
ELSEWHERE = {
    "weighing.md": "test_weighing_document.py",
    "your_own_data.md": "test_your_own_data.py",
}
GIN = [block for block in blocks.of_kind("gin", run=True) if block.page.name not in ELSEWHERE]


def ways(text: str) -> list[list[str]]:
    """The bindings of a block; of several for one argument, each by itself with the rest."""
    lines = [line for line in text.splitlines() if line.strip()]
    names = [line.split(" = ")[0] for line in lines]
    counts = collections.Counter(name for line, name in zip(lines, names) if line[:1] != " ")
    several = [line for line, name in zip(lines, names) if counts[name] > 1]
    rest = [line for line in lines if line not in several]
    return [[*rest, line] for line in several] or [lines]


@pytest.mark.parametrize("block", GIN, ids=lambda block: block.place)
def test_bindings_of_the_pages_parse(block, tmp_path):
    for number, lines in enumerate(ways(block.text)):
        own = tmp_path / f"{number}.gin"
        text = "\n".join(["include 'experiments/quickstart.gin'", *lines])
        own.write_text(text + "\n", encoding="utf-8")
        configuration.parse(str(own))


def test_a_name_that_is_not_there_is_noticed(tmp_path):
    with pytest.raises(Exception, match="did you mean|Did you mean|No configurable"):
        configuration.parse("experiments/quickstart.gin", ["MetaTrainerx.lifetime = 3"])


def test_the_pages_show_bindings_and_others_read_the_rest():
    assert len(GIN) > 25
    assert all((blocks.ROOT / "tests" / test).exists() for test in ELSEWHERE.values())
