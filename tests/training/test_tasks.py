import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.training import tasks
from dr_keras.training.tasks import (
    Question,
    Task,
    TaskScorer,
    likelihood_rows,
    task_figures,
    task_windows,
)

PIQA = {"context": "ice box ", "choices": ["cools", "heats "], "gold": 1}


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def test_prompts_of_the_three_layouts():
    question = tasks.make_question(PIQA, "here")
    assert question.prompt == "ice box" and question.continuations == (" cools", " heats")
    assert question.gold == 1
    arc = {"question": "Why?", "choices": ["a", "b"], "gold": 0, "id": "x1"}
    assert tasks.make_question(arc, "here").prompt == "Question: Why?\nAnswer:"
    assert tasks.make_question(arc, "here").id == "x1"
    siqa = {**arc, "context": "Jo ran."}
    assert tasks.make_question(siqa, "here").prompt == "Jo ran.\nQuestion: Why?\nAnswer:"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold": 2}, "'gold' is 2: it must be the index of the right choice, 0 to 1"),
        ({"gold": True}, "'gold' is True"),
        ({"choices": ["only"]}, "'choices' must be a list of at least two texts"),
        ({"choices": "ab"}, "'choices' must be a list"),
        ({"choices": ["a", " "]}, "must be a text that is not empty"),
        ({"context": None}, "neither a 'context' nor a 'question'"),
        ({"context": 3}, "'context' must be a text, not a int"),
    ],
)
def test_bad_lines_are_named(tmp_path, change, message):
    path = write(tmp_path / "piqa_validation.jsonl", [PIQA, {**PIQA, **change}])
    with pytest.raises(DataError, match="line 2") as error:
        tasks.jsonl_task(path)
    assert message in str(error.value)


def test_subset_is_fixed_and_independent_of_order(tmp_path):
    records = [{**PIQA, "context": f"context {k}"} for k in range(40)]
    first = tasks.jsonl_task(write(tmp_path / "piqa_validation.jsonl", records), items=10)
    second = tasks.jsonl_task(write(tmp_path / "piqa_test.jsonl", records[::-1]), items=10)
    assert first.name == "piqa" and first.available == 40 and len(first.questions) == 10
    assert first == second and first.fingerprint == second.fingerprint
    larger = tasks.jsonl_task(write(tmp_path / "piqa_validation.jsonl", records), items=20)
    assert larger.questions[:10] == first.questions
    everything = tasks.jsonl_task(str(tmp_path / "piqa_test.jsonl"), items=None)
    assert len(everything.questions) == 40
    with pytest.raises(ConfigurationError, match="items of task 'piqa' is 0"):
        tasks.jsonl_task(str(tmp_path / "piqa_test.jsonl"), items=0)
    with pytest.raises(DataError, match="no such file"):
        tasks.jsonl_tasks(str(tmp_path / "absent.jsonl"))


def test_chance_level():
    two = Question("p", (" a", " b"), 0, "1")
    four = Question("p", (" a", " b", " c", " d"), 0, "2")
    assert Task("t", (two, four), 2).chance == pytest.approx((0.5 + 0.25) / 2)


def test_figures_by_hand():
    questions = (
        Question("p", (" aaa", " b"), 0, "1"),  # bytes 4 and 2
        Question("p", (" \u00e9", " bbbbb"), 0, "2"),  # bytes 3 and 6
        Question("p", (" a", " b"), 1, "3"),  # equal: the first counts as the answer
    )
    values = np.array([-4.0, -3.0, -3.0, -5.4, -1.0, -1.0])
    # per byte: -1 against -1.5 (right), -1 against -0.9 (wrong), -0.5 and -0.5 (wrong)
    found = task_figures(Task("t", questions, 3), values)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["right_likelihood"] == pytest.approx((-1 - 1 - 0.5) / 3)
    # without dividing by length the first question would be answered wrongly
    assert values[1] > values[0]


def test_rows_predict_every_token_of_the_continuation_once():
    prompt, continuation = np.arange(10, 20), np.arange(30, 33)
    tokens, scored = likelihood_rows(prompt, continuation, 16, 1)
    assert tokens.shape == (1, 16)
    np.testing.assert_array_equal(tokens[0, :13], np.concatenate([prompt, continuation]))
    np.testing.assert_array_equal(np.flatnonzero(scored[0]), [10, 11, 12])

    tokens, scored = likelihood_rows(prompt, continuation, 8, 1)  # cut on the left
    np.testing.assert_array_equal(tokens, [[15, 16, 17, 18, 19, 30, 31, 32]])
    np.testing.assert_array_equal(tokens[scored], continuation)

    long = np.arange(30, 47)
    tokens, scored = likelihood_rows(prompt, long, 8, 1)
    np.testing.assert_array_equal(tokens[scored], long)
    assert not scored[:, 0].any()  # every predicted token has one before it
    np.testing.assert_array_equal(tokens[1], [30, 31, 32, 33, 34, 35, 36, 37])

    tokens, scored = likelihood_rows(np.zeros(0, int), continuation, 8, 1)
    np.testing.assert_array_equal(tokens[0, :4], [1, 30, 31, 32])
    np.testing.assert_array_equal(tokens[scored], continuation)


def bigram_model(table):
    """Logits at each position are the row of `table` of the token there."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    embedding = keras.layers.Embedding(*table.shape)
    model = keras.Model({"tokens": tokens}, embedding(tokens))
    embedding.set_weights([table])
    return model


def test_log_likelihoods_of_a_bigram_model_by_hand():
    tokenizer = byte_tokenizer()
    rng = np.random.default_rng(0)
    table = rng.normal(size=(258, 258)).astype(np.float32)
    log_p = table - np.log(np.exp(table).sum(axis=1, keepdims=True))
    scorer = TaskScorer(bigram_model(table), batch_size=4)
    prompts = ["ab", "a prompt longer than the window", "", "x"]
    continuations = [" c", " de", " f", " a continuation longer than the window"]
    pairs = zip(prompts, continuations)
    questions = tuple(Question(prompt, (text,), 0, prompt) for prompt, text in pairs)
    found = scorer.log_likelihoods(task_windows(Task("t", questions, 4), tokenizer, 12))
    for value, prompt, continuation in zip(found, prompts, continuations):
        ids = tokenizer.encode([continuation])[0]
        before = tokenizer.encode([prompt])[0] if prompt else np.array([tokenizer.end_id])
        chain = np.concatenate([before[-1:], ids])
        expected = sum(log_p[a, b] for a, b in zip(chain, chain[1:]))
        assert value == pytest.approx(expected, rel=1e-5)


def test_a_model_that_knows_the_answers_has_them_right():
    tokenizer = byte_tokenizer()
    table = np.zeros((258, 258), np.float32)
    space, right = ord(" ") + 2, ord("r") + 2
    table[space, right] = 5.0
    questions = tuple(Question("q", (" r", " w") if k % 2 else (" w", " r"), 1 - k % 2, str(k))
                      for k in range(6))  # fmt: skip
    scorer = TaskScorer(bigram_model(table))
    found = scorer(task_windows(Task("t", questions, 6), tokenizer, 8))
    assert found["accuracy"] == 1.0
    # of " r": the blank at 1/258, then "r" at e^5 / (e^5 + 257); two bytes
    expected = (-math.log(258) + 5 - math.log(math.exp(5) + 257)) / 2
    assert found["right_likelihood"] == pytest.approx(expected, rel=1e-5)


def test_logits_made_by_the_loss_give_the_same():
    from dr_keras.models.text_models import language_model

    values = []
    asked = task_windows(Task("t", (Question("a", (" bc",), 0, "1"),), 1), byte_tokenizer(), 16)
    for chunked in (False, True):
        keras.utils.set_random_seed(3)
        model = language_model(258, 16, 8, 1, 2, chunked_logits=chunked)
        values.append(TaskScorer(model).log_likelihoods(asked))
    np.testing.assert_allclose(values[0], values[1], rtol=1e-5)


def test_tfds_layouts_and_unknown_tasks(tmp_path):
    choices = {"text": [b"a", b"b"], "label": np.array([0, 1])}
    arc = {"question": b"Why?", "choices": choices, "answerKey": 1, "id": b"q1"}
    question = tasks.make_question(tasks._TFDS["arc_easy"][1](arc), "here")
    assert question == Question("Question: Why?\nAnswer:", (" a", " b"), 1, "q1")
    piqa = {"goal": b"Do it", "sol1": b"so", "sol2": b"thus", "label": np.int64(0)}
    assert tasks.make_question(tasks._TFDS["piqa"][1](piqa), "here").continuations[0] == " so"
    hellaswag = {"activity_label": b"Run", "context": b"He", "endings": [b"runs", b"sits"],
                 "label": np.int32(1)}  # fmt: skip
    assert tasks.make_question(tasks._TFDS["hellaswag"][1](hellaswag), "here").prompt == "Run: He"
    with pytest.raises(ConfigurationError, match="TFDS has hellaswag, piqa, arc_easy"):
        tasks.tfds_task("siqa")
    with pytest.raises(DataError, match="is not prepared"):
        tasks.tfds_task("piqa", data_dir=str(tmp_path))
    assert tf.executing_eagerly()
