"""Jobs on files of conversations: what a rater is given, what is written, what is refused."""

import json

import pytest
import shard_corpora as corpora

from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.corpus_jobs.preparing import prepare_corpus
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.data.conversations import conversation
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import DataError
from dr_keras.rating.score_files import read_scores
import gin

MARKS = {"before_prompt": "+", "before_response": "."}  # so that a text is a number


@pytest.fixture
def path(tmp_path):
    records = [{"id": f"c{k}", "prompt": f"{k}", "response": "25"} for k in range(20)]
    records.append({"id": "none", "prompt": "3", "response": ""})
    path = tmp_path / "talk.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture
def bound():
    for name, mark in MARKS.items():
        gin.bind_parameter(f"conversation.{name}", mark)
    gin.parse_config("jsonl_corpus.conversation = @conversation()")


def test_raters_are_given_prompt_and_response(path, bound, tmp_path):
    output = str(tmp_path / "scores.parquet")
    manifest = score_corpus(path, corpora.NumberRater(), output=output)
    scores = read_scores(output)
    assert scores.score.tolist() == [k + 0.25 for k in range(20)]
    assert manifest["errors"]["records"] == {"a response without text": 1}


def test_kept_records_stay_as_they_are(path, bound, tmp_path):
    kept = {}
    for name, corpus in (
        ("files", path),
        ("corpus", jsonl_corpus(path, conversation=conversation(**MARKS), on_malformed="skip")),
    ):
        output = str(tmp_path / name)
        filter_corpus(
            corpus, corpora.NumberRater(), output_dir=output, discard_fraction=0.5, batch_size=4
        )
        kept[name] = [json.loads(line) for line in corpora.lines(output, "kept")]
    assert 0 < len(kept["files"]) < 20
    assert all(set(row) == {"id", "prompt", "response"} for row in kept["files"])
    # of a corpus that is no files, documents are written: where the responses are goes along
    assert all(row["turns"] == [len(row["text"]) - 2, 2] for row in kept["corpus"])
    assert [r["id"] for r in kept["files"]] == [r["id"] for r in kept["corpus"]]


def test_a_prepared_corpus_does_not_say_what_responses_are(path, bound, tmp_path):
    with pytest.raises(DataError, match=r"talk.jsonl, line 1: the conversation 'c0' cannot be"):
        prepare_corpus(path, str(tmp_path / "out"), tokenizer=byte_tokenizer(), sequence_length=16)
