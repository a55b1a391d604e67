"""`dr-keras prepare`: what its flags do, what it prints, and the experiment it prepares for."""

import json
from pathlib import Path
import subprocess
import sys

import pytest

from dr_keras.commands import prepare
from dr_keras.data.prepared import prepared_data
from dr_keras.data.tokenizers import byte_tokenizer
import gin

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def texts(tmp_path):
    """A corpus in which every fourth text is repeated, of pages of two, and a target."""
    rows = [
        {"text": f"text {n - n % 4 % 3 * (n % 4 == 3)} " * 9, "page": n // 2} for n in range(300)
    ]
    target = [{"body": f"other text {n} " * 9} for n in range(60)]
    for name, lines in (("c", rows), ("t", target)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return ["--input", str(tmp_path / "c.jsonl"), "--output_dir", str(tmp_path / "out")]


def test_it_prepares_windows_of_bytes_and_says_what_there_is(texts, tmp_path, capsys):
    assert prepare.main([*texts, "--group_field", "page"]) == 0
    printed = capsys.readouterr().out
    found = prepared_data(str(tmp_path / "out"), byte_tokenizer(), 128)
    assert "c: 300 documents, 0.0 MB; windows of 128 tokens (uint16)\n" in printed
    assert f"  train: {len(found.train):,} windows, " in printed
    gin.clear_config()
    assert prepare.main(texts) == 2
    assert "out holds a finished corpus already" in capsys.readouterr().err


def test_a_target_and_the_settings_of_an_experiment(texts, tmp_path, capsys):
    flags = [
        "--target",
        str(tmp_path / "t.jsonl"),
        "--gin_file",
        "experiments/quickstart_input.gin",
    ]
    flags += ["--gin_param", "target/jsonl_corpus.text_field = 'body'"]
    assert prepare.main([*texts, *flags, "--gin_param", "text_data.packing = True"]) == 0
    printed = capsys.readouterr().out
    assert (
        "tokens, packed (uint16)\n" in printed and "The target t is tiny, 60 documents" in printed
    )
    made = json.loads((tmp_path / "out" / "manifest.json").read_text())["made"]
    assert (made["packing"], made["minimum_tokens"], made["sequence_length"]) == (True, 32, 128)
    found = prepared_data(str(tmp_path / "out"))
    assert found.target == "t" and set(found.outer.corpora[:]) == {"t"} and found.own_test


def test_what_is_missing_is_named(texts, capsys):
    assert prepare.main(texts[2:]) == 2
    assert "prepare_corpus needs --input, or the gin binding" in capsys.readouterr().err
    gin.clear_config()
    assert prepare.main([*texts, "--workers", "0"]) == 2
    assert "workers is 0" in capsys.readouterr().err


def test_workers_can_be_started_before_tensorflow_is():
    code = "import sys, dr_keras.corpus_jobs.runners; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
