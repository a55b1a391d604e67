"""A student of an exported rater, by the command: what it makes, and what it refuses."""

import json

import numpy as np
import pytest

from dr_keras.__main__ import main
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.models.ngram_rater import ngram_rater
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving import folder
from dr_keras.serving.export import export_rater
from dr_keras.serving.loading import load_rater

LENGTH = 16
WORDS = ["tea", "cake", "noise", "qqqq", "and", "with", "zzz"]
SMALL = (
    "fitted_rater.jit_compile = False",
    "fitted_rater.least_updates = 150",
    "fitted_rater.batch_size = 16",
    "fitted_rater.epochs = 1.0",
    "ngram_rater.buckets = 1024",
    "compare_distilled.timed_bytes = 0",
)


def distil(*arguments, bindings=SMALL):
    return main(["distill", *arguments, *(f"--gin_param={one}" for one in bindings)])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A rater that dislikes q and z, of windows of 16 bytes."""
    rater = ngram_rater(258, LENGTH, orders=(1,), buckets=4096)
    table = np.zeros((4096, 1), np.float32)
    layer = rater.get_layer("ngrams")
    for letter, worth in (("q", -3.0), ("z", -1.0), ("e", 1.0)):
        table[int(layer(byte_tokenizer().encode([letter])[0][None])[0][0, 0])] = worth
    rater.get_layer("table").set_weights([table])
    reference = ReferenceDistribution.from_scores(np.linspace(-3, 1, 2000))
    path = tmp_path_factory.mktemp("teacher")
    export_rater(rater, byte_tokenizer(), LENGTH, str(path), reference)
    return str(path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two sources, which differ in how much noise they have."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("corpus") / "mine.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for k in range(260):
            source = "ab"[k % 2]
            odds = np.array([3, 3, 1, 1, 3, 3, 1] if source == "a" else [1, 1, 3, 3, 1, 1, 3])
            words = rng.choice(WORDS, 12, p=odds / odds.sum())
            text = f"{k} " + " ".join(words)
            file.write(json.dumps({"text": text, "source": source, "id": f"d{k}"}) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def student(teacher, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("student") / "s"
    assert distil("--rater", teacher, "--input", corpus, "--output_dir", str(output)) == 0
    return output


def test_it_follows_its_teacher_and_says_who_that_is(student, teacher, capsys):
    found = json.loads((student / "distillation.json").read_text())
    agreement = found["agreement"]
    assert agreement["rank_correlation"] > 0.9
    assert set(agreement["by_source"]) == {"a", "b"}
    assert agreement["windows"] == found["fit"]["held_out"]["windows"]
    assert found["raters"]["teacher"]["path"].startswith(teacher)
    assert found["raters"]["student"]["flops"] == 0
    told = {one["ngram"]: one["worth"] for one in found["ngrams"]}
    assert told.get("qq", 0) < 0
    page = (student / "report.html").read_text()
    assert "What has it learned?" in page and "rank correlation" in page
    rater = load_rater(student / "export")
    known = rater.metadata["training"]["distilled_from"]
    path = folder.read(f"{teacher}/1")["fingerprint"]
    assert known["facts"]["raters"][0]["fingerprint"] == path
    noise, clean = rater(["qqqq zzz qqqq zz", "tea with tea the"])["percentile"]
    assert noise < 0.3 < clean


def test_a_second_call_goes_on_and_another_teacher_is_refused(student, teacher, corpus, capsys):
    before = sorted((student / "export").iterdir())
    again = ["--rater", teacher, "--input", corpus, "--output_dir", str(student)]
    assert distil(*again) == 0
    assert "rank correlation" in capsys.readouterr().out
    assert sorted((student / "export").iterdir()) == before
    assert distil("--rater", "damaged_prose", *again[2:]) == 2
    assert "TEACHERS" in capsys.readouterr().err


@pytest.mark.parametrize(
    "what, said",
    [
        ("no teacher", "a student needs a teacher: --rater PATH"),
        ("no corpus", "a student needs text to learn on: --input PATH"),
        ("no rater", "nowhere is not a directory"),
        ("no text", "empty' holds no documents"),
        ("another tokenizer", "Bind text_data.tokenizer = @rater_tokenizer()"),
    ],
)
def test_what_cannot_be_distilled(what, said, teacher, corpus, tmp_path, capsys):
    rater, path, bindings = teacher, corpus, SMALL
    if what == "no rater":
        rater = str(tmp_path / "nowhere")
    if what == "no text":
        path = str(tmp_path / "empty.jsonl")
        (tmp_path / "empty.jsonl").write_text("")
    if what == "another tokenizer":
        (tmp_path / "words.txt").write_text("[PAD]\n[UNK]\n[SEP]\ntea\ncake\n")
        bindings = (
            *SMALL,
            "TOKENIZER = @wordpiece_tokenizer()",
            f"wordpiece_tokenizer.vocabulary = '{tmp_path}/words.txt'",
            "VOCABULARY_SIZE = 5",
        )
    given = [] if what == "no teacher" else ["--rater", rater]
    text = [] if what == "no corpus" else ["--input", path]
    output = str(tmp_path / "out")
    assert distil(*given, *text, "--output_dir", output, bindings=bindings) == 2
    assert said in capsys.readouterr().err
