import json
import os

import keras
import numpy as np
import pytest

from dr_keras.commands import filter_corpus, score_corpus
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.score_files import read_scores
from dr_keras.serving.export import export_rater
from dr_keras.serving.loading import load_rater
import gin

S = 12


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """An exported rater that likes high letters, and a corpus of one letter a document."""
    folder = tmp_path_factory.mktemp("work")
    tokens = keras.Input((S,), dtype="int32", name="tokens")
    real = keras.ops.cast(keras.ops.not_equal(tokens, 0), "float32")
    values = keras.ops.cast(tokens, "float32") * real
    score = keras.ops.sum(values, axis=1) / keras.ops.maximum(keras.ops.sum(real, axis=1), 1.0)
    rater = keras.Model({"tokens": tokens}, score)
    reference = ReferenceDistribution(np.array([99.0, 124.0]))  # a to z, shifted by 2
    export_rater(rater, byte_tokenizer(), S, folder / "export", reference)
    lines = []
    for n in range(20):
        for letter in "abcdefghijklmnopqrstuvwxyz":
            source = "low" if letter < "n" else "high"
            lines.append({"id": f"{letter}{n}", "text": letter * (n + 1), "source": source})
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def test_scoring_then_filtering_by_the_scores(workplace, tmp_path, capsys):
    scores = str(tmp_path / "scores.jsonl")
    arguments = ["--rater", str(workplace / "export"), "--input", str(workplace / "corpus.jsonl")]
    assert score_corpus.main([*arguments, "--output", scores]) == 0
    captured = capsys.readouterr()
    assert "scores.jsonl: 520 documents\n" in captured.out
    assert "  high: 260 documents, mean score 118.0000" in captured.out  # n to z: 112 to 124
    assert "scoring 28/28 kB" in captured.err
    table = read_scores(scores)
    assert table.ids[25] == "z0" and table.score[25] == 124 and table.percentile[25] == 1
    assert table.windows[[0, -1]].tolist() == [1, 2]
    assert table.manifest["rater"]["fingerprint"] == load_rater(workplace / "export").fingerprint

    out = str(tmp_path / "filtered")
    arguments = ["--scores", scores, "--input", str(workplace / "corpus.jsonl")]
    arguments += ["--output_dir", out, "--discard_fraction", "0.5", "--method", "threshold"]
    gin.clear_config()  # a command has a process of its own
    assert filter_corpus.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "kept 260 of 520 documents" in printed and "discarded 50.0%, expected 50.0%" in printed
    assert "  high: kept 260 of 260\n" in printed and "  low: kept 0 of 260\n" in printed
    gin.clear_config()
    assert filter_corpus.main(arguments) == 2
    assert "holds a filtered corpus already" in capsys.readouterr().err


def test_filtering_with_settings_from_gin(workplace, tmp_path, capsys):
    out = str(tmp_path / "filtered")
    bindings = [
        f"jsonl_corpus.path = '{workplace}/corpus.jsonl'",
        "filter_corpus.corpus = @jsonl_corpus()",
        "filter_corpus.discard_fraction = 0.25",
        "filter_corpus.batch_size = 256",
    ]
    arguments = ["--rater", str(workplace / "export" / "1"), "--output_dir", out]
    for binding in bindings:
        arguments += ["--gin_param", binding]
    assert filter_corpus.main(arguments) == 0
    manifest = json.load(open(os.path.join(out, "manifest.json")))
    assert manifest["settings"]["batch_size"] == 256
    assert manifest["achieved_fraction"] == pytest.approx(0.25, abs=0.06)
    assert manifest["by_source"]["high"]["kept"] > 250
    assert "scores.parquet" in os.listdir(out)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"--rater": "nowhere"}, "nowhere is not a directory"),
        ({"--rater": None}, "needs a rater or a score file"),
        ({"--discard_fraction": "1.5"}, "discard_fraction is '1.5'"),
        ({"--discard_fraction": None}, "filter_corpus"),
        ({"--input": "no.jsonl"}, "no.jsonl"),
    ],
)
def test_what_a_user_got_wrong_is_one_line(workplace, tmp_path, capsys, change, message):
    flags = {
        "--rater": str(workplace / "export"),
        "--input": str(workplace / "corpus.jsonl"),
        "--output_dir": str(tmp_path / "out"),
        "--discard_fraction": "0.5",
        **change,
    }
    arguments = [part for flag, value in flags.items() if value for part in (flag, value)]
    assert filter_corpus.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
