"""A long text cut a few windows at a time has the windows of the whole text."""

import functools
import io

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.data.tokenizers import byte_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer
from dr_keras.serving import loaded_text, windows

S = 7
PROSE = "the cats sat at the bat.  a cat and a rat,\nat a mat! \u00e9, the rats\tthe bats. "
SENTENCEPIECES = {
    "as learned by default": {},
    "no space before a text": {"add_dummy_prefix": False},
    "every space counts": {"remove_extra_whitespaces": False},
    "pieces across spaces": {"split_by_whitespace": False, "remove_extra_whitespaces": False},
}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")

    @functools.cache
    def make(name):
        if name == "byte":
            return byte_tokenizer()
        path = folder / name
        if name == "wordpiece":
            path.write_text(
                "\n".join(["[PAD]", "[UNK]", "[SEP]", "the", "cat", "##s", "sat", "at", ".", "a"])
            )
            return wordpiece_tokenizer(str(path))
        import sentencepiece as spm

        writer = io.BytesIO()
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter([PROSE] * 3),
            model_writer=writer,
            vocab_size=24,
            minloglevel=2,
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            **SENTENCEPIECES[name],
        )
        path.write_bytes(writer.getvalue())
        return sentencepiece_tokenizer(str(path))

    return make


def windows_of_whole(ids):
    count = -(-len(ids) // S)
    return np.pad(ids, (0, count * S - len(ids))).reshape(-1, S)


def check(tokenizer, text, step_bytes):
    def encode(piece):
        asked.append(len(piece))
        return tokenizer.encode([piece])[0]

    asked: list[int] = []
    is_byte = tokenizer.name == "byte"
    blocks = list(windows.window_blocks(text, encode, S, is_byte, step_bytes))
    found = np.concatenate([np.zeros([0, S], np.int32), *blocks])
    expected = windows_of_whole(tokenizer.encode([text])[0])
    np.testing.assert_array_equal(found, expected)
    assert all(len(block) for block in blocks)
    return asked


@pytest.mark.parametrize("name", ["byte", "wordpiece", *SENTENCEPIECES])
@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from([*PROSE.split(), " ", "  ", "\n", "\t", "\u00e9\u0301", "\u4e2d"])),
    st.binary(max_size=3),
    st.integers(8, 40),
)
def test_windows_are_those_of_the_whole_text(tokenizers, name, words, rubbish, step_bytes):
    check(tokenizers(name), " ".join(words).encode() + rubbish + b" at a mat", step_bytes)


# Of the others a text cannot be taken apart at a space without a change to its tokens.
@pytest.mark.parametrize(
    "name", ["byte", "wordpiece", "as learned by default", "every space counts"]
)
def test_no_more_than_a_few_steps_are_tokenized_at_once(tokenizers, name):
    asked = check(tokenizers(name), PROSE.encode() * 100, 700)
    assert max(asked) <= 800


def test_a_text_that_cannot_be_taken_apart_is_cut_as_a_whole(tokenizers):
    asked = check(tokenizers("as learned by default"), b"thecatsat" * 100, 64)
    assert max(asked) == 900


def test_a_long_text_scores_as_a_short_one(loaded, monkeypatch):
    texts = [PROSE * 40, "", "a", PROSE * 13]
    whole = loaded.score_texts(texts, windows_per_batch=8)
    monkeypatch.setattr(loaded_text, "_BYTES_A_STEP", 100)
    monkeypatch.setattr(windows, "STEP_BYTES", 100)
    seen = []
    parts = loaded.score_texts(texts, windows_per_batch=8, progress=seen.append)
    np.testing.assert_allclose(parts["score"], whole["score"], atol=1e-6)
    np.testing.assert_allclose(parts["percentile"], whole["percentile"], atol=1e-5)
    assert parts["windows"].tolist() == whole["windows"].tolist()
    assert sum(seen) == sum(parts["windows"]) and max(seen) <= 8
