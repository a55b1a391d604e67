"""The rooms of dr_keras and who may import whom, read from the table in CONTRIBUTING.md.

Imports inside functions count as well.
"""

import ast
from pathlib import Path
import re

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dr_keras"
ROW = re.compile(r"^\| `dr_keras/(\w+)(?:/|\.py)` \|[^|]*\| (.*?) \|$", re.MULTILINE)
LONGEST = 500  # lines of a file


def allowed() -> dict[str, list[str]]:
    """What each room may import, in the order of the table."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return {room: re.findall(r"`(\w+)`", names) for room, names in ROW.findall(text)}


def modules() -> dict[str, Path]:
    """Every module of dr_keras by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, names: set[str]) -> set[str]:
    """Modules of dr_keras that `path` imports, wherever in the file it does.

    But for the branch in which the top level names things for type checkers.
    """
    found = set()
    tree = ast.parse(path.read_text(), str(path))
    if path == PACKAGE / "__init__.py":
        tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are written in full"
            each = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in names else node.module for name in each)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.split(".")[0] == "dr_keras"}


def arrows() -> dict[tuple[str, str], list[str]]:
    """(room, imported room) -> where that is done."""
    found: dict[tuple[str, str], list[str]] = {}
    known = modules()
    for name, path in known.items():
        for target in imports(path, set(known)):
            pair = tuple(n.split(".")[1] if "." in n else "" for n in (name, target))
            if pair[0] != pair[1] and pair[1]:
                found.setdefault(pair, []).append(f"{name} imports {target}")
    return found


def test_every_room_has_a_row():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__"} == set(allowed())


def test_the_root_holds_no_other_modules():
    # __main__ is what `python -m dr_keras` runs, which Python looks for there.
    names = {path.name for path in PACKAGE.glob("*.py")}
    assert names == {"__init__.py", "__main__.py", "errors.py"}


def test_rooms_import_what_their_row_says_and_nothing_else():
    may = allowed()
    wrong = [
        where
        for (room, target), places in arrows().items()
        for where in places
        if target not in may.get(room, [])
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_the_table_says_nothing_that_is_not_so():
    real = arrows()
    idle = [(room, t) for room, names in allowed().items() for t in names if (room, t) not in real]
    assert not idle


def test_arrows_point_one_way():
    order = list(allowed())
    wrong = [
        (room, target)
        for room, names in allowed().items()
        for target in names
        if order.index(target) >= order.index(room)
    ]
    assert not wrong


def test_meta_knows_of_data_only_examples_columns_and_streams():
    found = [where for where in arrows()["meta", "data"] if where.split(".")[-1] not in (
        "columns", "examples", "streams")]  # fmt: skip
    assert not found


def test_the_top_imports_nothing_before_it_is_asked():
    assert not imports(PACKAGE / "__init__.py", set(modules()))


def test_no_file_has_outgrown_its_name():
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > LONGEST}
    assert not long
