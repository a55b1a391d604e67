"""A long text cut a few windows at a time has the windows of the whole text."""

import functools
import io

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.tokenizers import byte_tokenizer, sentencepiece_tokenizer, wordpiece_tokenizer
from dr_keras.errors import ConfigurationError
from dr_keras.serving import loaded_text, windows
from dr_keras.serving.window_scoring import PAYS, CompiledScores, WindowScoring, spread

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
    whole = loaded.score_texts(texts, WindowScoring(8))
    monkeypatch.setattr(loaded_text, "_BYTES_A_STEP", 100)
    monkeypatch.setattr(windows, "STEP_BYTES", 100)
    seen = []
    parts = loaded.score_texts(texts, WindowScoring(8), progress=seen.append)
    np.testing.assert_allclose(parts["score"], whole["score"], atol=1e-6)
    np.testing.assert_allclose(parts["percentile"], whole["percentile"], atol=1e-5)
    assert parts["windows"].tolist() == whole["windows"].tolist()
    assert sum(seen) == sum(parts["windows"]) and max(seen) <= 8


@given(counts=st.lists(st.integers(1, 40), max_size=6), most=st.integers(1, 12))
def test_windows_of_a_document_are_evenly_spread(counts, most):
    owner = np.repeat(np.arange(len(counts)) * 3, counts)  # some documents have no row
    found = spread(owner, most)
    start = 0
    for count in counts:
        places = np.flatnonzero(found[start : start + count])
        start += count
        assert len(places) == min(count, most)
        edges = np.array([-1, *places, count])
        if count > most:  # no gap is longer than a share of the document
            assert np.diff(edges).max() <= -(-count // most)
    assert spread(owner, None).all()


def test_a_cap_scores_the_spread_windows_alone_also_of_long_texts(loaded, monkeypatch):
    texts = [PROSE * 40, "", "a", PROSE * 13]
    few = WindowScoring(windows_per_batch=8, windows_per_document=5)
    seen = []
    capped = loaded.score_texts(texts, few, progress=seen.append)
    assert sum(seen) == 5 + 1 + 1 + 5
    assert capped["windows"].tolist() == loaded.score_texts(texts)["windows"].tolist()
    cut = loaded.signatures["text_windows"](text=[texts[0].encode()])["tokens"].numpy()
    middles = [(2 * n + 1) * len(cut) // 10 for n in range(5)]  # of five equal shares
    places = np.flatnonzero(spread(np.zeros(len(cut), int), 5))
    assert np.abs(places - middles).max() <= 1
    rows = cut[places]
    expected = np.average(loaded(rows)["score"], weights=np.count_nonzero(rows, axis=1))
    np.testing.assert_allclose(capped["score"][0], expected, rtol=1e-5)
    monkeypatch.setattr(loaded_text, "_BYTES_A_STEP", 100)
    monkeypatch.setattr(windows, "STEP_BYTES", 100)
    parts = loaded.score_texts(texts, few)
    np.testing.assert_allclose(parts["score"], capped["score"], atol=1e-6)
    assert parts["windows"].tolist() == capped["windows"].tolist()


def test_compiled_scores_are_those_of_the_artefact_to_rounding(loaded):
    texts = [PROSE * 5, "", "a", PROSE, "cats"]
    plain = loaded.score_texts(texts, WindowScoring(compiled=False))
    compiled = loaded.score_texts(texts, WindowScoring(16, compiled=True))
    np.testing.assert_allclose(compiled["score"], plain["score"], atol=1e-6)
    assert compiled["windows"].tolist() == plain["windows"].tolist()
    assert {shape[0] for shape in loaded._compiled._programs} == {16}
    assert len(loaded._compiled._programs) <= 2


def test_what_xla_cannot_compile_is_scored_as_it_is_and_said_once(caplog):
    def rater(tokens):
        text = tf.strings.as_string(tokens)
        return {"score": tf.cast(tf.strings.length(text[:, 0]), tf.float32)}

    scores = CompiledScores(rater)
    tokens = np.array([[7, 0], [12, 0], [345, 0]], np.int32)
    for _ in range(2):
        assert scores(tokens, 4).tolist() == [1.0, 2.0, 3.0]
    assert sum("XLA cannot compile" in record.message for record in caplog.records) == 1


def test_what_is_open_is_settled_by_the_size_of_the_text():
    small, large = WindowScoring().settled(PAYS - 1), WindowScoring().settled(PAYS)
    assert (small.windows_per_batch, small.compiled) == (256, False)
    assert (large.windows_per_batch, large.compiled) == (64, True)
    of_light = [WindowScoring().settled(size, light=True) for size in (1, PAYS)]
    assert [scoring.windows_per_batch for scoring in of_light] == [4096, 1024]
    assert WindowScoring().settled(1, light=None).windows_per_batch is None
    given_all = WindowScoring(5, False, 3)
    assert given_all.settled(10 * PAYS) == given_all
    with pytest.raises(ConfigurationError, match="windows_per_document is 0"):
        WindowScoring(windows_per_document=0)
