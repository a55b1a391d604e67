"""docs/export_formats.md: its program, and what it says of percentiles."""

from pathlib import Path
import re
import textwrap

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.commands import export_rater
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.loading import load_rater

PAGE = (Path(__file__).resolve().parents[2] / "docs/export_formats.md").read_text(encoding="utf-8")
PROGRAM = textwrap.dedent(re.search(r"    import json\n(?:    .*\n|\n)+", PAGE)[0])
PERCENTILE = re.search(r"def percentile.*?\n\n\n", PROGRAM, re.DOTALL)[0]
NUMBERS = {"width": 32, "allow_subnormal": False}  # TensorFlow takes subnormal ones for 0
ROUND = st.integers(-6, 6).map(lambda number: number / 2)  # so that many are equal


@settings(max_examples=40)
@given(
    st.lists(ROUND | st.floats(-3, 3, **NUMBERS), min_size=2, max_size=9).map(sorted),
    st.lists(ROUND | st.floats(-4, 4, **NUMBERS), min_size=1, max_size=9),
)
def test_the_lines_of_numpy_give_the_percentiles_of_the_rater(quantiles, scores):
    names: dict = {"np": np}
    exec(PERCENTILE, names)
    reference = ReferenceDistribution(np.array(quantiles, np.float32))
    found = names["percentile"](np.array(scores, np.float32), reference.quantiles)
    np.testing.assert_allclose(found, reference.percentile(scores), rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_the_program_prints_what_the_rater_gives(tmp_path, monkeypatch, capsys):
    for name in ("ai_edge_litert", "onnxruntime", "tf2onnx"):
        pytest.importorskip(name, reason="needs the extras litert and onnx")
    monkeypatch.chdir(tmp_path)
    command = next(line for line in PAGE.splitlines() if "--output_dir files" in line)
    assert export_rater.main(command.split()[2:]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == re.findall(r"^    (files/\S+):", PAGE, re.M)
    exec(compile(PROGRAM, "export_formats.md", "exec"), names := {})
    shown = np.array(capsys.readouterr().out.strip("[]\n").split(), float)
    in_page = np.array(re.search(r"^    \[([\d. ]+)\]$", PAGE, re.M)[1].split(), float)
    np.testing.assert_allclose(shown, in_page, atol=2e-3)
    texts = [*names["texts"], "A text of several windows. " * 30]
    rater = load_rater("damaged_prose")
    expected = rater(texts)
    scores = [names["score"](text) for text in texts]
    np.testing.assert_allclose(scores, expected["score"], rtol=1e-5, atol=1e-5)
    # with the lines that the page shows for LiteRT in place of the two about `session`
    first, run, call = re.findall(r"^    (?:from ai_edge|run = Inter|scores = run).*$", PAGE, re.M)
    lines = PROGRAM.replace("import onnxruntime", first.strip())
    lines = re.sub("session = .*", run.strip(), lines)
    lines = re.sub(r"scores = session.*", call.strip(), lines)
    exec(compile(lines, "export_formats.md", "exec"), by_litert := {})
    assert "session" not in by_litert
    scores = [by_litert["score"](text) for text in texts]
    np.testing.assert_allclose(scores, expected["score"], rtol=1e-5, atol=1e-5)
