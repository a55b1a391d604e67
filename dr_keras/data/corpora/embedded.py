"""The corpus that is always there: the prose of the Python installation itself.

Documentation topics (`help("...")`) and the docstrings of the standard library and of installed
packages, read with `ast`: no module is imported and nothing is downloaded. What is read differs
between versions of Python and of the packages, so reports print the corpus' fingerprint.
"""

import ast
import collections
from collections.abc import Iterator, Sequence
import functools
import gc
import importlib.util
import inspect
import os
import sysconfig
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
      packages: "stdlib" or names of installed packages.
      min_characters: shorter docstrings are skipped and counted.
      name: name of the corpus.

    Raises:
      ConfigurationError: a package is not installed, or has no folder of Python source.
    """
    if isinstance(packages, str):
        packages = (packages,)
    roots = {package: _root(package) for package in packages}
    if not roots:
        raise ConfigurationError('embedded_corpus.packages is empty; name one, such as "stdlib"')
    read = functools.partial(_read, roots, min_characters)
    settings = {"kind": "embedded", "packages": list(roots), "min_characters": min_characters}
    return base.Corpus(name, read, settings)


def _root(package: str) -> str:
    if package == "stdlib":
        return sysconfig.get_path("stdlib")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations or not os.path.isdir(locations[0]):
        raise ConfigurationError(
            f"embedded_corpus.packages: {package!r} is not an installed top-level package; "
            "install it or leave it out"
        )
    return locations[0]


def _read(
    roots: dict[str, str], min_characters: int, skipped: collections.Counter
) -> Iterator[Document]:
    taken: collections.Counter[str] = collections.Counter()
    documents = []
    collecting = gc.isenabled()
    gc.disable()  # syntax trees are many small objects without cycles: half the time goes there
    try:
        for package, root in roots.items():
            prefix = "" if package == "stdlib" else package
            found = []
            if package == "stdlib":
                topics = _topics(os.path.join(root, "pydoc_data", "topics.py"), skipped)
                found += [("topics", *topic) for topic in topics]
            found += [(package, *item) for item in _docstrings(root, prefix, skipped)]
            for source, name, text in found:
                text = inspect.cleandoc(text)
                if len(text) < min_characters:
                    skipped["shorter than min_characters"] += 1
                elif not is_unicode(text):
                    skipped["invalid Unicode"] += 1
                else:
                    taken[name] += 1  # one name can be defined twice, as for two platforms
                    name = name if taken[name] == 1 else f"{name}~{taken[name]}"
                    documents.append(make_document(text, source, name))
    finally:
        if collecting:
            gc.enable()
    yield from merge_duplicates(documents)


def _parse(path: str, skipped: collections.Counter) -> ast.Module | None:
    with open(path, "rb") as file:
        source = file.read()
    if b'"' not in source and b"'" not in source:
        return None
    try:
        with warnings.catch_warnings():  # about escapes and such in other people's code
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError):
        skipped["source that this Python cannot parse"] += 1
        return None


def _topics(path: str, skipped: collections.Counter) -> Iterator[tuple[str, str]]:
    """Yields (id, text) of the documentation topics; some systems leave the file out."""
    tree = _parse(path, skipped) if os.path.exists(path) else None
    if tree is None:
        skipped["documentation topics not installed"] += 1
        return
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for topic, text in sorted(ast.literal_eval(node.value).items()):
                yield f"pydoc_data.topics.{topic}", text


def _docstrings(root: str, prefix: str, skipped: collections.Counter) -> Iterator[tuple[str, str]]:
    """Yields (qualified name, docstring as written) of all modules below a folder, in order."""
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
            tree = _parse(path, skipped)
            if tree is not None:
                names = parents if module == "__init__" else [*parents, module]
                yield from _below(tree, ".".join(filter(None, names)) or module)


def _below(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Yields the docstring of a module, class or function and of what is defined in it."""
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
