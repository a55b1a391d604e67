"""Code that README.md and docs/ show: where it is, what kind it is, and why some of it is not run.

A block is fenced, or indented by four spaces, and one of
  gin       bindings: test_gin_blocks.py parses them
  shell     commands: test_shell_blocks.py has their own parsers read them, and runs them
  python    test_python_blocks.py runs it, after those above it on the page
  text      what a command printed, formulas, forms of a file: nothing to run

A comment above a block says that no test runs it, and why, or that another test does; one at the
top says why no command of the page is run but those under the last of these comments:

    <!-- not run: it needs a TPU -->
    <!-- run by: tests/serving/test_serving_document.py -->
    <!-- commands are not run: minutes to hours -->
    <!-- run -->
"""

import ast
import dataclasses
from pathlib import Path
import re
import textwrap

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>run|(?:not run|run by): [^>]+) -->\n\n?)?"
    r"(?:(?P<fence>```\w*\n(?:.*\n)*?```\n)|(?P<indented>(?<=\n\n)(?:    .*\n(?:\n+(?=    ))?)+))",
    re.M,
)
_COMMANDS = re.compile(r"^<!-- commands are not run: ([^>]+) -->$", re.M)
_PROGRAMS = (
    *("dr-keras", "./tools/", "tools/", "python", "pip", "saved_model_cli", "curl", "cc", "grep"),
    *("tensorboard", "tensorflow_model_server", "mkdocs", "pre-commit"),
)
# Macros are in capitals, arguments have a dot; formulas have neither.
_BINDING = re.compile(r"(?:([A-Z_]+|[\w/]+\.\w+) = [^=]|include '|import \w+$|[\])}]|#)")


@dataclasses.dataclass(frozen=True)
class Block:
    """One block of code.

    Attributes:
      page, line: where it begins.
      text: dedented.
      kind: see above.
      reason: why it is not run by the test of its kind; None where it is.
    """

    page: Path
    line: int
    text: str
    kind: str
    reason: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def kind_of(text: str) -> str:
    """See the module; told by the first line, and of Python by whether it is such."""
    first = text.split("\n")[0]
    if first.split(" ")[0].startswith(_PROGRAMS) or re.match(r"[A-Z]+=\$\(", first):
        return "shell"
    # A binding may go on over several lines, indented or within brackets.
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(" ")]
    if all(map(_BINDING.match, lines)) and re.search(r" = |^include '", text, re.M):
        return "gin"
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:
        return "text"
    code = (ast.Call, ast.Import, ast.ImportFrom, ast.FunctionDef)
    return "python" if any(isinstance(node, code) for node in nodes) else "text"


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    source, found = page.read_text(encoding="utf-8"), []
    whole = _COMMANDS.search(source)
    for match in _BLOCK.finditer(source):
        code = match["indented"] or "".join(match["fence"].splitlines(keepends=True)[1:-1])
        text = textwrap.dedent(code).strip("\n")
        place = match.start("indented") if match["indented"] else match.start("fence")
        line = source.count("\n", 0, place) + 1
        kind, reason = kind_of(text), match["mark"]
        if kind == "shell" and whole and not reason:
            reason = f"not run: {whole[1]}"
        found.append(Block(page, line, text, kind, None if reason == "run" else reason))
    return found


def of_kind(kind: str, run: bool | None = None) -> list[Block]:
    """The blocks of a kind on all pages; with `run`, those that are run, or are not."""
    every = [block for page in PAGES for block in blocks(page) if block.kind == kind]
    return [block for block in every if run is None or (block.reason is None) == run]


def commands(text: str) -> list[str]:
    """The command lines of a shell block: continued lines joined, what follows them left out."""
    found = []
    for line in re.sub(r"\\\n\s*", "", text.split("\n\n")[0]).splitlines():
        if line and not line.startswith((" ", "-")):
            found.append(re.sub(r"\s{2,}.*|\s+# .*", "", line))
    return found
