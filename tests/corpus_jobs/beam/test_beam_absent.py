"""What a user without Beam sees; and that nothing else of dr_keras imports it."""

import configparser
import json
from pathlib import Path
import subprocess
import sys

from packaging.requirements import Requirement
import pytest

from dr_keras.commands import filter_corpus

ROOT = Path(__file__).resolve().parents[3]


def test_nothing_else_imports_beam(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import dr_keras.commands.filter_corpus,"
        " dr_keras.corpus_jobs.filtering, dr_keras.runs.experiment;"
        " sys.exit('apache_beam' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=300).returncode == 0


def test_the_runner_flag_says_what_to_install(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("dr_keras.corpus_jobs.beam")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "a"}))
    command = f"--input {tmp_path}/c.jsonl --scores s.jsonl --output_dir {tmp_path}/out"
    command += " --discard_fraction 0.5 --runner DirectRunner"
    assert filter_corpus.main(command.split()) == 2
    assert "pip install 'dr_keras[beam]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_beam_is_there_for_the_other_tests():
    beam = pytest.importorskip(
        "apache_beam", reason="Apache Beam is absent: pip install 'dr_keras[beam]'"
    )
    from apache_beam.ml.inference.base import ModelHandler

    import dr_keras.corpus_jobs.beam as ours

    assert issubclass(ours.RaterModelHandler, ModelHandler)
    assert all(issubclass(kind, beam.PTransform) for kind in (ours.RateTexts, ours.FilterTexts))
    names = {path.name for path in Path(__file__).parent.glob("test_beam_*.py")}
    assert {"test_beam_files.py", "test_beam_transforms.py"} <= names  # which conftest.py names


@pytest.mark.skipif(not (ROOT / "setup.cfg").exists(), reason="no setup.cfg beside the tests")
def test_beam_is_one_that_the_extras_allow():
    beam = pytest.importorskip("apache_beam", reason="Apache Beam is absent")
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for extra in ("beam", "test"):
        lines = setup["options.extras_require"][extra].splitlines()
        (needed,) = [line for line in lines if line.startswith("apache-beam")]
        assert beam.__version__ in Requirement(needed).specifier, extra
