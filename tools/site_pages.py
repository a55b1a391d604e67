"""What the documentation's site has beside the pages of docs/: files of the top, the reference.

A hook of mkdocs (tools/mkdocs.yml). The guide is in the order of README's table of pages; the
reference is a page a public module, by room, and one of the names that `dr_keras` itself has.
"""

from collections.abc import Iterator
from pathlib import Path
import re
import sys

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
HOME = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
# Folders of data that the wheel calls packages.
_NO_CODE = ("packaged_gin", "packaged_savedmodels")


def public_modules() -> list[str]:
    """Dotted names of all modules of which no part begins with an underscore, packages included."""
    found = []
    for path in sorted((ROOT / "dr_keras").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") or part in _NO_CODE for part in parts):
            found.append(".".join(parts))
    return sorted(found)


def page_of(module: str) -> str:
    """The page of a module, as a path in the site."""
    parts = module.split(".")[1:]
    inside = (ROOT / "dr_keras").joinpath(*parts)
    return "/".join(["reference", *parts]) + ("/index.md" if inside.is_dir() else ".md")


def pages() -> Iterator[tuple[str, str]]:
    """Yields (path in the site, text) of all pages that are made."""
    for source, page in HOME.items():
        yield page, _moved((ROOT / source).read_text(encoding="utf-8"))
    yield "reference/index.md", _top_level()
    for module in public_modules():
        if module != "dr_keras":
            yield page_of(module), f"# {module}\n\n::: {module}\n"


def _moved(text: str) -> str:
    """Links of a page at the top of the checkout, as seen from within docs/."""

    def link(match: re.Match) -> str:
        target = match[1]
        if target.startswith("docs/"):
            return f"]({target.removeprefix('docs/')})"
        return f"]({HOME[target]})" if target in HOME else match[0]

    return re.sub(r"\]\(([\w./-]+)\)", link, text)


def _top_level() -> str:
    import dr_keras

    lines = [
        "# dr_keras",
        "",
        "    import dr_keras",
        "",
        "has, loaded when they are first used:",
        "",
    ]
    lines += ["| name | of |", "|---|---|"]
    for name, module in sorted(dr_keras._WHERE.items()):
        lines.append(f"| [`{name}`][{module}.{name}] | `{module}` |")
    rooms = [module for module in public_modules() if module.count(".") == 1]
    lines += ["", "## Rooms", ""]
    lines += [f"- [{room}]({page_of(room).removeprefix('reference/')})" for room in rooms]
    return "\n".join(lines) + "\n"


def guide() -> list[str]:
    """Pages of docs/: those of README's table in its order, then the others."""
    named = re.findall(
        r"\]\(docs/([\w./-]+\.md)\)", (ROOT / "README.md").read_text(encoding="utf-8")
    )
    there = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    return list(dict.fromkeys([*(page for page in named if page in there), *sorted(there)]))


def navigation() -> list:
    """The site's table of contents."""

    def below(package: str) -> list:
        inner = [m for m in public_modules() if m.rpartition(".")[0] == package]
        return [page_of(package), *(entry(module) for module in inner)]

    def entry(module: str) -> dict:
        name = module.rpartition(".")[2]
        return {name: below(module) if page_of(module).endswith("/index.md") else page_of(module)}

    return [
        {"Home": "index.md"},
        {"Guide": guide()},
        {"Reference": below("dr_keras")},
        {"Contributing": "contributing.md"},
        {"Changes": "changelog.md"},
    ]


# ------------------------------------------------------------------------------ hooks of mkdocs


def on_config(config):
    """Puts the table of contents in place."""
    config.nav = navigation()
    return config


def on_page_markdown(markdown, page, config, files):
    """Links of docs/ to what lies above it; other files of the checkout are named, not linked."""
    depth = "../" * page.file.src_uri.count("/")
    for source, moved in HOME.items():
        markdown = markdown.replace(f"]({depth}../{source})", f"]({depth}{moved})")
    return markdown


def on_files(files, config):
    """Adds the pages that are made."""
    from mkdocs.structure.files import File

    for path, text in pages():
        files.append(File.generated(config, path, content=text))
    return files
