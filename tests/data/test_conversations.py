"""Conversations: from records to text and turns, to windows that say what is to be learned."""

import dataclasses
import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.data.conversations import conversation, conversation_text
from dr_keras.data.corpora.base import Malformed
from dr_keras.data.documents import make_document
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.data.formats.records import default_fields, identifying
from dr_keras.data.prepare import text_data
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.data.windows import tokenizer_of, window_documents
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.studies.text_bytes import bytes_per_target
from dr_keras.training.target_counts import count_targets, targets_of_batches

SHORT = {"before_prompt": "|", "before_response": ">"}


def written(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def read(record, **arguments):
    return conversation_text(record, conversation(**arguments), dict.get)


def test_a_prompt_and_its_response():
    text, turns = read({"prompt": "Why?", "response": "Because."})
    assert text == "User: Why?\n\nAssistant: Because."
    assert turns == (len("User: Why?\n\nAssistant: "), len("Because."))


def test_several_fields_of_the_prompt_of_which_some_are_empty():
    fields = {"prompt_field": ["instruction", "input"], "response_field": "output", **SHORT}
    assert read({"instruction": "Add", "input": "1 2", "output": "3"}, **fields)[0] == "|Add\n1 2>3"
    assert read({"instruction": "Sing", "input": "", "output": "La"}, **fields)[0] == "|Sing>La"
    assert read({"instruction": "Sing", "output": "La"}, **fields) == ("|Sing>La", (6, 2))


def test_several_turns_with_a_system_and_a_last_question():
    turns = [
        ("system", "S"),
        ("user", "a"),
        ("gpt", "bb"),
        ("user", "ccc"),
        ("gpt", "d"),
        ("x", "e"),
    ]
    record = {"talk": [{"from": role, "value": said} for role, said in turns]}
    text, lengths = read(
        record,
        turns_field="talk",
        role_field="from",
        content_field="value",
        answering_roles=("gpt",),
        **SHORT,
    )
    assert text == "|S|a>bb|ccc>d|e"
    assert lengths == (5, 2, 5, 1, 2)  # "|S|a>", "bb", "|ccc>", "d", "|e"


def test_a_conversation_may_begin_with_an_answer():
    record = {"t": [{"role": "assistant", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}
    assert read(record, turns_field="t", **SHORT) == (">Hi>Yo", (1, 2, 1, 2))


@pytest.mark.parametrize(
    "record, arguments, said",
    [
        ({"prompt": "p"}, {}, "no field 'response'.*response_field"),
        ({"response": "p"}, {}, "no field 'prompt'.*prompt_field"),
        ({"prompt": "p", "response": " \n"}, {}, "a response without text.*turn 2 of 2"),
        ({"prompt": 3, "response": "r"}, {}, "'prompt' is not a string.*a int"),
        ({"t": "x"}, {"turns_field": "t"}, "no list of turns.*a str"),
        ({}, {"turns_field": "t"}, "no list of turns.*absent"),
        ({"t": [{"role": "assistant"}]}, {"turns_field": "t"}, "'content' in a turn.*turn 1"),
        ({"t": [{"role": "me", "content": "x"}]}, {"turns_field": "t"}, "assistant.*'me'"),
        ({"t": []}, {"turns_field": "t"}, "no turn of the roles assistant"),
    ],
)
def test_records_that_are_no_conversation(record, arguments, said):
    with pytest.raises(Malformed) as raised:
        read(record, **arguments)
    error = raised.value
    assert re.search(said, f"{error.reason} {error.detail} {error.remedy}")


@pytest.mark.parametrize(
    "arguments", [{"prompt_field": ()}, {"response_field": ""}, {"before_response": "\n\n"}]
)
def test_settings_that_cannot_be(arguments):
    with pytest.raises(ConfigurationError, match=f"conversation.{next(iter(arguments))}"):
        conversation(**arguments)


def test_a_file_says_line_and_remedy_or_counts(tmp_path):
    path = written(
        tmp_path / "a.jsonl",
        {"prompt": "p", "response": "r", "id": "one", "grade": 5},
        {"prompt": "p", "response": ""},
    )
    with pytest.raises(DataError, match=r"a.jsonl, line 2: a response without text .*skip"):
        list(jsonl_corpus(path, conversation=conversation()).documents())
    corpus = jsonl_corpus(
        path, conversation=conversation(), on_malformed="skip", level_field="grade", levels=(9, 1)
    )
    (document,) = corpus.documents()
    assert (document.turns, document.level) == ((len("User: p\n\nAssistant: "), 1), 0.5)
    assert corpus.skipped == {"a response without text": 1}
    with pytest.raises(ConfigurationError, match="jsonl_corpus.conversation.*@conversation"):
        jsonl_corpus(path, conversation={"prompt": "p"})


def test_what_jobs_are_known_by_is_as_it_was_without_conversations():
    assert "conversation" not in identifying(default_fields("jsonl"))
    fields = {**default_fields("jsonl"), "conversation": conversation()}
    assert json.loads(json.dumps(identifying(fields)))["conversation"] == conversation()


def spoken(text, turns, id="d"):
    return dataclasses.replace(make_document(text, "s", id), turns=turns)


def test_a_text_that_was_changed_is_no_conversation_any_more():
    with pytest.raises(DataError, match="'d'.*3 characters in its turns and 2"):
        dataclasses.replace(spoken("abc", (1, 2)), text="ab")


def test_windows_learn_responses_alone():
    plain = make_document("plain text", "s", "p")
    two = spoken("?abc?de?" + "f" * 8, (1, 3, 1, 2, 9, 0), "d")
    with pytest.raises(DataError, match="'d'.*prompt of 9 tokens.*holds 4.*1 of 2.*on_misfit"):
        window_documents([spoken("?" * 9 + "a", (9, 1))] + [plain], byte_tokenizer(), 4)
    found = window_documents([two, plain], byte_tokenizer(), 4)
    # what follows the last response is a prompt without one: windows of nothing else are left out
    assert found.ids.tolist() == ["d#0", "d#1", "p#0", "p#1", "p#2"]
    assert found.features["responses"].astype(int).tolist() == [
        [0, 1, 1, 1], [0, 1, 1, 0], [1] * 4, [1] * 4, [1, 1, 0, 0],
    ]  # fmt: skip
    assert "responses" not in window_documents([plain], byte_tokenizer(), 4).features


def test_a_window_whose_only_response_token_comes_first_has_nothing_to_predict():
    found = window_documents([spoken("?ab?c?de", (1, 2, 1, 1, 1, 2))], byte_tokenizer(), 4)
    assert found.features["responses"].astype(int).tolist() == [[0, 1, 1, 0], [1, 0, 1, 1]]
    left = window_documents([spoken("?ab?c", (1, 2, 1, 1))], byte_tokenizer(), 4, minimum_tokens=1)
    assert left.ids.tolist() == ["d#0"]


def test_packed_windows_keep_what_is_a_response():
    both = [spoken("?ab", (1, 2)), make_document("cd", "s", "p")]
    found = window_documents(both, byte_tokenizer(), 4, packing=True)
    assert found.features["responses"].astype(int).tolist() == [[0, 1, 1, 1], [1, 1, 1, 0]]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=9), st.text(min_size=1, max_size=9)), min_size=1),
    st.integers(2, 40),
)
def test_windows_hold_the_bytes_of_the_responses(said, length):
    """Whatever is said, windows together mark each byte of each response, but for windows without
    anything to predict."""
    text = "".join(prompt + response for prompt, response in said)
    turns = tuple(len(piece) for pair in said for piece in pair)
    if any(len(prompt.encode()) >= length for prompt, _ in said):
        return
    found = window_documents([spoken(text, turns)], byte_tokenizer(), length, minimum_tokens=1)
    marks = np.concatenate([np.full(len(p.encode()), i % 2) for i, p in enumerate(sum(said, ()))])
    marks = np.pad(marks, (0, -len(marks) % length)).reshape(-1, length)
    wanted = marks[marks[:, 1:].any(axis=1)]
    assert found.features["responses"].astype(int).tolist() == wanted.tolist()


def test_all_parts_agree_and_misfits_are_left_out(tmp_path):
    records = [{"prompt": "p" * (k % 5 * 9), "response": f"answer {k}"} for k in range(200)]
    path = written(tmp_path / "a.jsonl", *records)
    plain = written(tmp_path / "b.jsonl", *({"text": f"some text {k}"} for k in range(50)))
    corpus = jsonl_corpus(path, conversation=conversation(**SHORT))
    arguments = dict(tokenizer=byte_tokenizer(), sequence_length=32, outer=jsonl_corpus(plain))
    with pytest.raises(DataError, match="text_data.on_misfit"):
        text_data(corpus, **arguments)
    parts = text_data(corpus, **arguments, on_misfit="skip")
    assert all(set(part.features) == {"tokens", "responses"} for _, part in parts.items())
    assert parts.train.features["responses"].dtype == bool
    assert parts.outer.features["responses"].sum() == (parts.outer.features["tokens"] != 0).sum()
    assert not any("p" * 36 in parts.train.text(k) for k in range(len(parts.train)))


class Pairs:
    """Two bytes a token, counted from the beginning of a text; "_" is none."""

    end_id, vocabulary_size = 1, 1 << 17

    def encode(self, texts):
        cut = [[t[k : k + 2] for k in range(0, len(t), 2)] for t in texts]
        values = [[2 + ord(p[0]) + 256 * ord(p[1:] or "\0") for p in pairs] for pairs in cut]
        return [np.array(v if t.strip("_") else [], np.int32) for v, t in zip(values, texts)]

    def decode(self, ids):
        pairs = ((int(i) - 2) for i in np.asarray(ids) if i > 1)
        return "".join(chr(p % 256) + chr(p // 256) for p in pairs).replace("\0", "")


def test_a_token_that_reaches_into_a_response_is_of_the_response():
    found = window_documents([spoken("pppRRRRqqqS", (3, 4, 3, 1))], Pairs(), 8)
    assert found.features["responses"][0].astype(int).tolist() == [0, 1, 1, 0, 0, 1, 0, 0]


def test_a_response_without_a_token():
    with pytest.raises(DataError, match="a response in which the tokenizer finds no token"):
        window_documents([spoken("__", (1, 1))], Pairs(), 4)
    both = [spoken("__", (1, 1)), spoken("ppab", (2, 2), "e")]
    assert window_documents(both, Pairs(), 4, on_misfit="skip").ids.tolist() == ["e#0"]


def test_what_is_counted_are_responses():
    found = window_documents([spoken("ppab", (2, 2)), spoken("ppabcd", (2, 4), "e")], Pairs(), 4)
    assert count_targets(found).tolist() == [1, 2]
    assert targets_of_batches(found, np.array([[0, 1], [1, 1]])) == (3, 7)
    assert tokenizer_of(found) is not None and bytes_per_target(found) == 2.0
