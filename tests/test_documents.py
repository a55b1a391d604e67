"""What the documents name is there: modules and what is in them, files, verbs, pages."""

import ast
from pathlib import Path
import re

import pytest

from dr_keras.__main__ import verbs

ROOT = Path(__file__).resolve().parent.parent
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "savedmodels/README.md"]
SHELL = [*PAGES, *sorted((ROOT / "gin").rglob("*.gin"))]


def names_of(path: Path) -> set[str]:
    """What a module defines or imports at its top, and the names of a package's lazy table."""
    found = set(re.findall(r'^    "(\w+)": "dr_keras', path.read_text(), re.M))
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.update((alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
    return found


def is_there(dotted: str) -> bool:
    """Whether `dr_keras.a.b.Name` is a module, or a name in one; what follows is a name's own."""
    path, parts = ROOT, dotted.split(".")
    for n, part in enumerate(parts):
        if (path / part).is_dir():
            path = path / part
        elif (path / f"{part}.py").exists():
            return n + 1 == len(parts) or parts[n + 1] in names_of(path / f"{part}.py")
        else:
            return part in names_of(path / "__init__.py")
    return True


def imported(text: str):
    for module, names in re.findall(r"from (dr_keras[\w.]*) import ([\w, ]+)", text):
        yield from (f"{module}.{name.strip()}" for name in names.split(","))


@pytest.mark.parametrize(
    "page", [*PAGES, CONTRIBUTING], ids=lambda path: str(path.relative_to(ROOT))
)
def test_modules_and_files_are_there(page):
    text = page.read_text(encoding="utf-8")
    dotted = {name.rstrip(".") for name in re.findall(r"(?<![\w.])dr_keras(?:\.\w+)+", text)}
    wrong = [name for name in {*dotted, *imported(text)} if not is_there(name)]
    paths = re.findall(r"(?<![\w./<])(?:\./)?((?:dr_keras|tools|tests|gin)/[\w./*]+)", text)
    wrong += [path for path in paths if not list(ROOT.glob(path.rstrip("./")))]
    links = re.findall(r"\]\(([\w./]+)\)", text)
    wrong += [link for link in links if not (page.parent / link).exists()]
    assert not wrong


def test_what_recipes_and_pitfalls_name_is_there():
    """Names and files there begin with their room."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    rooms = {path.name for path in (ROOT / "dr_keras").iterdir() if path.is_dir()}
    quoted = set(re.findall(r"`@?([\w./]+)(?:\([^`]*\))?`", text))
    dotted = [name for name in quoted if "." in name and "/" not in name]
    names = [name for name in dotted if name.split(".")[0] in rooms]
    files = [name for name in quoted if name.split("/")[0] in rooms and name.endswith(".py")]
    assert len(names) > 10 and len(files) > 5
    wrong = [name for name in names if not is_there(f"dr_keras.{name}")]
    assert not wrong + [file for file in files if not (ROOT / "dr_keras" / file).exists()]


@pytest.mark.parametrize("page", SHELL, ids=lambda path: str(path.relative_to(ROOT)))
def test_verbs_are_there_with_their_flags(page, capsys):
    known, text = verbs(), page.read_text(encoding="utf-8")
    text = text.replace("\\\n#", "").replace("\\\n", "")
    assert "dr-keras-" not in text
    for name, rest in re.findall(r"\bdr-keras ([\w-]+)([^`\n]*)", text):
        if name == "--help":
            continue
        with pytest.raises(SystemExit):
            known[name.replace("_", "-")](["--help"])
        takes = capsys.readouterr().out
        flags = re.findall(r"--\w+", rest.partition(" | ")[0])
        if "--runner" not in flags:  # Beam takes further ones
            assert [flag for flag in flags if flag not in takes] == [], name


def test_the_roles_of_gin_files_are_their_folders():
    row = re.search(r"^\| `gin/` \| (.*?) \|", CONTRIBUTING.read_text(), re.M)
    folders = {path.name for path in (ROOT / "gin").iterdir() if path.is_dir()}
    assert set(re.findall(r"`(\w+)`", row[1])) == folders - {"__pycache__"}
