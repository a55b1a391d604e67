"""The documentation's site: every public name has its place, and it builds without a warning."""

import os
import pkgutil
import re
import subprocess
import sys

import blocks
import pytest
import site_pages  # of tools/

import dr_keras


def test_every_public_module_has_a_page():
    """Found by Python's own walk over packages, which imports nothing below the first level."""
    expected = {"dr_keras"}

    def walk(folder, prefix):
        for module in pkgutil.iter_modules([os.fspath(folder)]):
            if not module.name.startswith("_"):
                expected.add(f"{prefix}.{module.name}")
                if module.ispkg:
                    walk(folder / module.name, f"{prefix}.{module.name}")

    walk(blocks.ROOT / "dr_keras", "dr_keras")
    made = dict(site_pages.pages())
    missing = [name for name in expected if site_pages.page_of(name) not in made]
    assert missing == [] and len(expected) > 200


def test_every_top_level_name_has_a_place():
    made = dict(site_pages.pages())
    for name, module in dr_keras._WHERE.items():
        assert f"[`{name}`][{module}.{name}]" in made["reference/index.md"]
        assert site_pages.page_of(module) in made


def test_every_page_is_in_the_table_of_contents_once():
    def places(entries):
        for entry in entries:
            value = next(iter(entry.values())) if isinstance(entry, dict) else entry
            yield from [value] if isinstance(value, str) else places(value)

    found = list(places(site_pages.navigation()))
    pages = [page.relative_to(blocks.ROOT / "docs").as_posix() for page in blocks.PAGES[1:]]
    assert sorted(found) == sorted([*pages, *dict(site_pages.pages())])


def test_readme_leads_to_every_guide_page():
    """By its table, or by a page that is in it."""
    texts = {page: page.read_text(encoding="utf-8") for page in blocks.PAGES}
    linked = {
        (page.parent / link).resolve()
        for page, text in texts.items()
        for link in re.findall(r"\]\(([\w./-]+\.md)\)", text)
    }
    assert [page for page in blocks.PAGES[1:] if page not in linked] == []


@pytest.mark.long
def test_it_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocstrings", reason="pip install dr_keras[docs] brings it")
    command = ("-m", "mkdocs", "build", "--strict", "-f", "tools/mkdocs.yml", "-d", str(tmp_path))
    done = subprocess.run(
        [sys.executable, *command], cwd=blocks.ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    for page in ("index.html", "filtering.html", "reference/rating/rules.html"):
        assert (tmp_path / page).stat().st_size > 10_000
    rules = (tmp_path / "reference/rating/rules.html").read_text(encoding="utf-8")
    assert 'id="dr_keras.rating.rules.discard_rule"' in rules
