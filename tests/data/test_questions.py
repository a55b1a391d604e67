"""Multiple-choice questions as a held-out set."""

import json

import numpy as np
import pytest

from dr_keras.data.questions import choice_set
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.training.tasks import jsonl_task


def item(number, choices=("yes", "no"), **changes):
    return {
        "context": f"Is {number} even?",
        "choices": list(choices),
        "gold": number % 2,
        **changes,
    }


def write(path, items):
    path.write_text("".join(json.dumps(one) + "\n" for one in items), encoding="utf-8")
    return str(path)


def read(path, **options):
    return choice_set(path, byte_tokenizer(), 24, **options)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "even_validation.jsonl", [item(n) for n in range(20)])


def test_prompts_with_their_choices_and_which_tokens_are_the_choices(path):
    found = read(path)
    choices, answers, gold = (found.features[key] for key in ("choices", "answers", "gold"))
    assert choices.shape == answers.shape == (20, 2, 24) and choices.dtype == gold.dtype == np.int32
    decode, row = byte_tokenizer().decode, found.ids.tolist().index(found.ids[0])
    prompt = decode(choices[row, 0][(answers[row, 0] == 0) & (choices[row, 0] != 0)])
    assert [decode(choices[row, k][answers[row, k] == 1]) for k in (0, 1)] == [" yes", " no"]
    number = int(prompt.removeprefix("Is ").removesuffix(" even?"))
    assert gold[row] == number % 2 and found.text(row) == prompt + [" yes", " no"][gold[row]]
    assert not answers[choices == 0].any()


def test_items_that_a_task_asks_later_can_be_left_out(path):
    asked = {question.id for question in jsonl_task(path, items=8).questions}
    held_out = read(path, after=8)
    assert len(held_out) == 12 and asked.isdisjoint(held_out.ids)
    assert asked == set(read(path, items=8).ids) and held_out.name == "even"


def test_questions_that_do_not_fit_are_named_or_left_out(tmp_path):
    items = [item(n) for n in range(9)]
    three = write(tmp_path / "three.jsonl", [*items, item(9, ("a", "b", "c"), gold=2, id="odd")])
    with pytest.raises(DataError) as error:
        read(three)
    assert "three.jsonl: the question 'odd' ('Is 9 even?') has 3 choices, where 2" in str(
        error.value
    )
    assert "set choice_set.choices = 3" in str(error.value)
    assert len(read(three, on_misfit="skip")) == 9
    filled = read(three, choices=3)
    assert filled.features["choices"].shape == (10, 3, 24)
    assert (filled.features["answers"].sum(axis=(1, 2)) > 0).all()
    third = filled.features["choices"][:, 2].any(axis=1)
    assert filled.ids[third].tolist() == ["odd"]
    long = write(tmp_path / "long.jsonl", [*items, item(9, ("yes", "n" * 14), id="long")])
    with pytest.raises(DataError, match="'long' .* has 25 tokens .*and 24 are .*sequence_length"):
        read(long)
    assert len(read(long, on_misfit="skip")) == 9
    only = write(tmp_path / "only.jsonl", [item(9, ("yes", "n" * 14))])
    with pytest.raises(DataError, match="of 1 questions 1 do not fit and 0 .*none is left"):
        read(only, on_misfit="skip")


def test_lines_without_a_right_choice_and_settings_are_refused(tmp_path, path):
    bad = write(tmp_path / "bad.jsonl", [item(1), item(2, gold=None)])
    with pytest.raises(DataError, match="bad.jsonl, line 2: 'gold' is None: it must be the index"):
        read(bad)
    with pytest.raises(DataError, match="there is no question in it"):
        read(write(tmp_path / "none.jsonl", []))
    for setting, value in {"on_misfit": "no", "after": -1, "items": 0, "choices": 1}.items():
        with pytest.raises(ConfigurationError, match=f"choice_set.{setting} must be"):
            read(path, **{setting: value})
