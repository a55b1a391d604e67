"""The command writes a vocabulary and says how to use it, or what is wrong."""

import json

import pytest

from dr_keras.commands import learn_vocabulary
from dr_keras.data.tokenizers import wordpiece_tokenizer

TEXTS = [f"{a} {b} {c}." for a in ("cats", "dogs") for b in ("see", "hear") for c in "abcdefgh"]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "pets.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return str(path)


def test_flags_are_enough(corpus, tmp_path, capsys):
    output = str(tmp_path / "words.txt")
    flags = ["--input", corpus, "--output", output, "--kind", "wordpiece", "--size", "60"]
    assert learn_vocabulary.main(flags) == 0
    tokenizer = wordpiece_tokenizer(output)
    printed = capsys.readouterr().out
    assert f"{output}: {tokenizer.vocabulary_size} tokens;" in printed
    assert "0.00% of the tokens unknown" in printed
    assert f"wordpiece_tokenizer.vocabulary = '{output}'" in printed


def test_everything_may_come_from_gin(corpus, tmp_path):
    output = str(tmp_path / "words.txt")
    config = tmp_path / "vocabulary.gin"
    config.write_text(
        f"""
        learn_vocabulary.corpus = @jsonl_corpus()
        jsonl_corpus.path = '{corpus}'
        learn_vocabulary.output = '{output}'
        learn_vocabulary.kind = 'wordpiece'
        learn_vocabulary.part = None
        """
    )
    flags = ["--gin_file", str(config), "--gin_param", "learn_vocabulary.size = 40"]
    assert learn_vocabulary.main(flags) == 0
    assert 20 < wordpiece_tokenizer(output).vocabulary_size <= 40


def test_errors_are_one_line_and_status_2(corpus, tmp_path, capsys):
    output = str(tmp_path / "words.txt")
    assert learn_vocabulary.main(["--input", str(tmp_path / "no.jsonl"), "--output", output]) == 2
    assert "no.jsonl: no such file" in capsys.readouterr().err
    assert learn_vocabulary.main(["--input", corpus]) == 2
    assert "learn_vocabulary no value for" in capsys.readouterr().err
    flags = ["--input", corpus, "--output", output, "--size", "100000"]
    assert learn_vocabulary.main(flags) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert "cannot learn 100000 tokens from the corpus 'pets'" in message
