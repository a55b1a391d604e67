"""The names of dr_keras itself: where they are, what type checkers see, and what is listed."""

import ast
from pathlib import Path
import subprocess
import sys

import dr_keras


def test_the_three_lists_agree():
    where = dict(dr_keras._WHERE)
    assert sorted(dr_keras.__all__) == sorted({*where, "__version__"}) == dir(dr_keras)
    tree = ast.parse(Path(dr_keras.__file__).read_text(encoding="utf-8"))
    (branch,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(branch.test) == "TYPE_CHECKING"
    for_checkers = {name.name: node.module for node in branch.body for name in node.names}
    assert for_checkers == where


def test_every_name_is_where_it_is_said_to_be():
    for name in dr_keras._WHERE:
        assert callable(getattr(dr_keras, name)), name


def test_the_import_by_itself_starts_nothing():
    code = (
        "import dr_keras, sys; print(any(m in sys.modules for m in ('tensorflow', 'keras', 'gin')))"
    )
    root = Path(dr_keras.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr
