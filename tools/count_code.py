#!/usr/bin/env python3
"""Counts the code of dr_keras and prints one line of JSON.

    tools/count_code.py               of the package in this checkout
    tools/count_code.py FOLDER        of another folder

`modules` are files other than `__init__.py`; `code_lines` are lines of all files that hold more
than blanks, comments and docstrings; `documented` are lines of docstrings; `median` and `longest`
are lengths of the modules, all lines counted.
"""

import ast
import io
import json
from pathlib import Path
import statistics
import sys
import tokenize

_EMPTY = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_HAVE_DOCSTRINGS = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def lines_of_docstrings(source: str) -> set[int]:
    """Numbers of the lines that docstrings stand on."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _HAVE_DOCSTRINGS) and ast.get_docstring(node, clean=False) is not None:
            found.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return found


def lines_of_code(source: str) -> set[int]:
    """Numbers of the lines that hold more than blanks, comments and docstrings."""
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _EMPTY:
            found.update(range(token.start[0], token.end[0] + 1))
    return found - lines_of_docstrings(source)


def count(folder: Path) -> dict:
    """The counts of all modules below `folder`."""
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))}
    lengths = {
        str(path.relative_to(folder)): len(source.splitlines())
        for path, source in sources.items()
        if path.name != "__init__.py"
    }
    longest = max(lengths, key=lengths.__getitem__)
    return {
        "modules": len(lengths),
        "code_lines": sum(len(lines_of_code(source)) for source in sources.values()),
        "documented": sum(len(lines_of_docstrings(source)) for source in sources.values()),
        "median": statistics.median(lengths.values()),
        "longest": {"file": longest, "lines": lengths[longest]},
    }


def main(arguments: list[str]) -> None:
    """Prints the counts of the folder that is named, by default of dr_keras."""
    here = Path(__file__).resolve().parent.parent / "dr_keras"
    print(json.dumps(count(Path(arguments[0]) if arguments else here)))


if __name__ == "__main__":
    main(sys.argv[1:])
