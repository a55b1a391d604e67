"""Notebooks of docs/notebooks/: they hold what they printed, and run from the first cell on."""

import json
import os
from pathlib import Path
import subprocess
import sys

import blocks
import pytest

NOTEBOOKS = sorted((blocks.ROOT / "docs" / "notebooks").glob("*.ipynb"))
every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[dict]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


@every
def test_a_notebook_is_short_and_was_run(path):
    found = cells(path)
    assert 8 <= len(found) <= 14 and all(source(cell).strip() for cell in found)
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1))
    assert not any(out["output_type"] == "error" for cell in found for out in cell["outputs"])
    text = path.read_text(encoding="utf-8")
    assert len(text) < 100_000 and not any(place in text for place in ("/tmp/", "/home/", "/root/"))
    page = (blocks.ROOT / "docs" / "meta_training.md").read_text(encoding="utf-8")
    assert f"notebooks/{path.name}" in page


@pytest.mark.long
@every
def test_a_notebook_runs(path, tmp_path):
    """As one program, so that nothing of Jupyter is needed; what it ends with stands as it says."""
    program = "\n\n".join(map(source, cells(path)))
    program += "\nassert found['the better half'] < found['everything'] + 0.02, found\n"
    environment = {**os.environ, "PYTHONPATH": os.fspath(blocks.ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
