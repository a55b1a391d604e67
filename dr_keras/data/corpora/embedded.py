"""The corpora that are always there: the prose of the Python installation itself, and its code.

Documentation topics (`help("...")`) and the docstrings of the standard library and of installed
packages, and the functions without their docstrings, read with `ast`: no module is imported and
nothing is downloaded. What is read differs between versions of Python and of the packages, so
reports print the corpus' fingerprint.
"""

import ast
import collections
from collections.abc import Iterator, Sequence
import contextlib
import functools
import gc
import importlib.util
import inspect
import os
import sysconfig
import textwrap
import warnings

from dr_keras.data.corpora import base
from dr_keras.data.documents import Document, is_unicode, make_document, merge_duplicates
from dr_keras.errors import ConfigurationError
import gin

# Tests and the data of tests hold little prose, and some of it is broken on purpose.
_NO_PROSE = frozenset({"test", "tests", "idle_test", "testdata", "__pycache__"})


@gin.configurable
def embedded_corpus(
    packages: Sequence[str] = ("stdlib", "numpy", "keras"),
    min_characters: int = 64,
    name: str = "embedded",
) -> base.Corpus:
    """A corpus of docstrings, each a document whose id is the qualified name of what it documents.

    A docstring that occurs more than once (aliases, copies) is one document with a count; it keeps
    the first name. The source is the package, and "topics" for the documentation topics, which
    belong to the standard library.

    Args:
      packages: "stdlib", names of installed packages, "topics" for the documentation topics alone.
      min_characters: shorter docstrings are skipped and counted.
      name: name of the corpus.

    Raises:
      ConfigurationError: a package is not installed, or has no folder of Python source.
    """
    roots = _roots("embedded_corpus", packages)
    read = functools.partial(_read, roots, min_characters)
    settings = {"kind": "embedded", "packages": list(roots), "min_characters": min_characters}
    return base.Corpus(name, read, settings)


@gin.configurable
def embedded_code(
    packages: Sequence[str] = ("stdlib",), min_characters: int = 256, name: str = "code"
) -> base.Corpus:
    """A corpus of functions and methods as they are written, without their docstrings.

    Each is a document whose id is its qualified name and brackets, and whose source is its package.

    Args:
      packages, min_characters, name: as of `embedded_corpus`.

    Raises:
      ConfigurationError: a package is not installed, or has no folder of Python source.
    """
    roots = _roots("embedded_code", packages)
    read = functools.partial(_read_code, roots, min_characters)
    settings = {"kind": "embedded code", "packages": list(roots), "min_characters": min_characters}
    return base.Corpus(name, read, settings)


def _roots(caller: str, packages: Sequence[str]) -> dict[str, str]:
    packages = (packages,) if isinstance(packages, str) else packages
    if not packages:
        raise ConfigurationError(f'{caller}.packages is empty; name one, such as "stdlib"')
    return {package: _root(caller, package) for package in packages}


def _root(caller: str, package: str) -> str:
    if package == "stdlib" or (package == "topics" and caller == "embedded_corpus"):
        return sysconfig.get_path("stdlib")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations or not os.path.isdir(locations[0]):
        raise ConfigurationError(
            f"{caller}.packages: {package!r} is not an installed top-level package; "
            "install it or leave it out"
        )
    return locations[0]


def _read(
    roots: dict[str, str], min_characters: int, skipped: collections.Counter
) -> Iterator[Document]:
    def found() -> Iterator[tuple[str, str, str]]:
        for package, root in roots.items():
            if package in ("stdlib", "topics"):
                topics = _topics(os.path.join(root, "pydoc_data", "topics.py"), skipped)
                yield from (("topics", name, inspect.cleandoc(text)) for name, text in topics)
            if package == "topics":
                continue
            for tree, module, _ in _modules(root, _prefix(package), skipped):
                for name, text in _below(tree, module):
                    yield package, name, inspect.cleandoc(text)

    with _without_collecting():
        documents = _documents(found(), min_characters, skipped)
    yield from documents


def _read_code(
    roots: dict[str, str], min_characters: int, skipped: collections.Counter
) -> Iterator[Document]:
    def found() -> Iterator[tuple[str, str, str]]:
        for package, root in roots.items():
            for tree, name, source in _modules(root, _prefix(package), skipped):
                lines = source.decode("utf-8", "replace").splitlines()
                yield from ((package, *item) for item in _functions(tree, name, lines))

    with _without_collecting():
        documents = _documents(found(), min_characters, skipped)
    yield from documents


def _prefix(package: str) -> str:
    return "" if package == "stdlib" else package


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    collecting = gc.isenabled()
    gc.disable()  # syntax trees are many small objects without cycles: half the time goes there
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _documents(
    found: Iterator[tuple[str, str, str]], min_characters: int, skipped: collections.Counter
) -> list[Document]:
    """Documents of (source, name, text), of which too short ones and copies are left out."""
    taken: collections.Counter[str] = collections.Counter()
    documents = []
    for source, name, text in found:
        if len(text) < min_characters:
            skipped["shorter than min_characters"] += 1
        elif not is_unicode(text):
            skipped["invalid Unicode"] += 1
        else:
            taken[name] += 1  # one name can be defined twice, as for two platforms
            name = name if taken[name] == 1 else f"{name}~{taken[name]}"
            documents.append(make_document(text, source, name))
    return merge_duplicates(documents)


def _parse(path: str, skipped: collections.Counter) -> tuple[ast.Module, bytes] | None:
    with open(path, "rb") as file:
        source = file.read()
    if b'"' not in source and b"'" not in source:
        return None
    try:
        with warnings.catch_warnings():  # about escapes and such in other people's code
            warnings.simplefilter("ignore")
            return ast.parse(source), source
    except (SyntaxError, ValueError):
        skipped["source that this Python cannot parse"] += 1
        return None


def _topics(path: str, skipped: collections.Counter) -> Iterator[tuple[str, str]]:
    """Yields (id, text) of the documentation topics; some systems leave the file out."""
    parsed = _parse(path, skipped) if os.path.exists(path) else None
    if parsed is None:
        skipped["documentation topics not installed"] += 1
        return
    for node in parsed[0].body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for topic, text in sorted(ast.literal_eval(node.value).items()):
                yield f"pydoc_data.topics.{topic}", text


def _modules(
    root: str, prefix: str, skipped: collections.Counter
) -> Iterator[tuple[ast.Module, str, bytes]]:
    """Yields (syntax tree, qualified name, source) of all modules below a folder, in order."""
    for folder, subfolders, files in os.walk(root):
        # A folder that is no identifier is no package: site-packages, lib-dynload, config-3.11.
        subfolders[:] = sorted(s for s in subfolders if s.isidentifier() and s not in _NO_PROSE)
        below = os.path.relpath(folder, root)
        parents = [prefix, *([] if below == "." else below.split(os.sep))]
        for file in sorted(files):
            module, suffix = os.path.splitext(file)
            if suffix != ".py" or module.startswith("test_") or module.endswith("_test"):
                continue
            path = os.path.join(folder, file)
            if path.endswith(os.path.join("pydoc_data", "topics.py")):
                continue  # read by _topics
            parsed = _parse(path, skipped)
            if parsed is not None:
                names = parents if module == "__init__" else [*parents, module]
                yield parsed[0], ".".join(filter(None, names)) or module, parsed[1]


def _functions(node: ast.AST, name: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yields (qualified name(), lines without the docstring) of functions that lie in no other."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            written = lines[child.lineno - 1 : child.end_lineno]
            if ast.get_docstring(child, clean=False):
                first, last = child.body[0].lineno, child.body[0].end_lineno or 0
                written = lines[child.lineno - 1 : first - 1] + lines[last : child.end_lineno]
            yield f"{name}.{child.name}()", textwrap.dedent("\n".join(written))
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{name}.{child.name}", lines)
        elif isinstance(child, ast.stmt):
            yield from _functions(child, name, lines)


def _below(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Yields (qualified name, docstring as written) of a module, class or function, then of what is
    defined in it."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node, clean=False)
        if text:
            yield name, text
    for field in ("body", "orelse", "finalbody", "handlers"):
        for child in getattr(node, field, ()):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _below(child, f"{name}.{child.name}")
            elif isinstance(child, ast.Expr):
                yield from _added(child.value)
            elif isinstance(child, ast.stmt | ast.ExceptHandler):
                yield from _below(child, name)  # `if` and `try` around definitions


def _added(node: ast.expr) -> Iterator[tuple[str, str]]:
    """Yields what numpy documents from outside: add_newdoc("place", "object", text)."""
    if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "add_newdoc":
        return
    if len(node.args) != 3:
        return
    try:
        place, thing, text = map(ast.literal_eval, node.args)
    except ValueError:  # built at run time
        return
    for attribute, each in [("", text)] if isinstance(text, str) else _pairs(text):
        yield ".".join(filter(None, (str(place), str(thing), attribute))), each


def _pairs(value: object) -> list[tuple[str, str]]:
    pairs = value if isinstance(value, list) else [value]
    return [
        (str(pair[0]), pair[1])
        for pair in pairs
        if isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], str)
    ]
