"""docs/weighing.md: each of its gin lines is read, with what its user has brought along."""

import ast
from pathlib import Path
import re
import textwrap

import pytest
import tensorflow as tf

from dr_keras.config import configuration
import gin

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "weighing.md").read_text(encoding="utf-8")
BLOCKS = [
    textwrap.dedent(block) for block in re.findall(r"\n\n((?:    .*\n(?:\n(?=    ))?)+)", PAGE)
]
PYTHON = [block for block in BLOCKS if "def " in block]
COMMANDS = [block for block in BLOCKS if block.startswith(("dr-keras ", "tools/", "./tools/"))]
GIN = [block for block in BLOCKS if block not in PYTHON + COMMANDS and " = " in block]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the module of the page, in which the gin file lies."""
    folder = tmp_path_factory.mktemp("weighing")
    (module,) = [block for block in PYTHON if block.startswith("import gin")]
    (folder / "my_objectives.py").write_text(module, encoding="utf-8")
    return folder


def parse(folder, block):
    (folder / "mine.gin").write_text(f"include 'experiments/quickstart.gin'\n{block}")
    configuration.parse(str(folder / "mine.gin"))


def test_all_questions_have_lines():
    assert len(PYTHON) == 2 and len(GIN) == 12
    assert all(re.search(r"^[\w/]+(\.\w+)? = ", block, re.M) for block in GIN)


@pytest.mark.parametrize("number", range(len(GIN)))
def test_lines_are_read(number, folder):
    """Names, arguments and kinds of values, as every run checks them before it starts."""
    parse(folder, GIN[number])
    plain = re.findall(r"^([\w/]+\.\w+) = ([\w.\-']+)\s*(?:#.*)?$", GIN[number], re.M)
    for key, value in plain:
        assert gin.query_parameter(key) == ast.literal_eval(value), key


def test_the_objective_of_the_page(folder):
    """All losses at the edge: half of the tokens count as surprises."""
    (block,) = [block for block in GIN if "my_objectives" in block]
    parse(folder, block)
    objective = gin.query_parameter("MetaTrainer.objective").configurable.wrapped
    batch = {"tokens": tf.constant([[5, 6, 7, 0], [8, 0, 0, 0]])}
    edge = float(tf.math.log(20.0))
    sums, counts = objective(lambda batch: tf.zeros([2, 4, 20]), batch, nats=edge)
    assert counts.numpy().tolist() == [2, 0]
    assert sums.numpy() == pytest.approx([1, 0])
