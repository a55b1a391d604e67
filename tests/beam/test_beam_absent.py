"""What a user without Beam sees; and that nothing else of dr_keras imports it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dr_keras.commands import filter_corpus

ROOT = Path(__file__).resolve().parent.parent.parent


def test_nothing_else_imports_beam(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import dr_keras.commands.filter_corpus,"
        " dr_keras.filtering.shards.filtering, dr_keras.experiment;"
        " sys.exit('apache_beam' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=300).returncode == 0


def test_the_runner_flag_says_what_to_install(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("dr_keras.beam")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "a"}))
    command = f"--input {tmp_path}/c.jsonl --scores s.jsonl --output_dir {tmp_path}/out"
    command += " --discard_fraction 0.5 --runner DirectRunner"
    assert filter_corpus.main(command.split()) == 2
    assert "pip install 'dr_keras[beam]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_beam_is_there_for_the_other_tests():
    pytest.importorskip("apache_beam", reason="Apache Beam is absent: pip install 'dr_keras[beam]'")
