"""WordPiece and SentencePiece: the same ids in a pipeline, in a graph and after reloading."""

import functools
import io
import json
import shutil
import subprocess
import sys

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.tokenizers import (
    Tokenizer,
    sentencepiece_tokenizer,
    tokenizer_from_config,
    wordpiece_tokenizer,
)
from dr_keras.errors import ArtefactError, ConfigurationError, DataError

WORDS = [
    "[PAD]",
    "[CLS]",
    "[SEP]",
    "[UNK]",
    "[MASK]",
    "the",
    "cat",
    "##s",
    "s",
    "at",
    ".",
    "[",
    "é",
]
TEXT = ["the cats sat at the bat.", "a cat and a rat at a mat!", "é, the rats the bats."]


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory):
    path = tmp_path_factory.mktemp("wordpiece") / "words.txt"
    path.write_text("".join(word + "\n" for word in WORDS), encoding="utf-8")
    return wordpiece_tokenizer(str(path))


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory):
    path = tmp_path_factory.mktemp("sentencepiece") / "pieces.model"
    path.write_bytes(train_sentencepiece(pad_id=0, unk_id=1, bos_id=2, eos_id=3))
    return sentencepiece_tokenizer(str(path))


def train_sentencepiece(**options):
    import sentencepiece as spm

    writer = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=writer, vocab_size=22, minloglevel=2, **options
    )
    return writer.getvalue()


@pytest.fixture(params=["wordpiece", "sentencepiece"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


@functools.cache
def graph_of(tokenizer, length):
    return tf.function(
        lambda text: tokenizer.tensor_encode(text, length),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


def test_wordpiece_ids(wordpiece):
    (ids,) = wordpiece.encode(["the cats sat."])
    assert ids.dtype == np.int32
    assert ids.tolist() == [5, 6, 7, 3, 10]
    assert (wordpiece.vocabulary_size, wordpiece.end_id) == (13, 2)
    assert wordpiece.decode([5, 6, 7, 2, 5, 0, 0]) == "the cats\nthe"


def test_sentencepiece_round_trip(sentencepiece):
    assert (sentencepiece.vocabulary_size, sentencepiece.end_id) == (22, 3)
    for text, ids in zip(TEXT, sentencepiece.encode(TEXT)):
        assert sentencepiece.decode(ids) == text


def test_end_token_may_be_another_piece(sentencepiece):
    changed = sentencepiece_tokenizer(sentencepiece.assets[0], end_token="<s>")
    assert changed.end_id == 2
    with pytest.raises(ConfigurationError, match="no piece '<end>': choose another"):
        sentencepiece_tokenizer(sentencepiece.assets[0], end_token="<end>")


def test_interface(tokenizer):
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.needs_tensorflow_text


@hypothesis.given(
    texts=st.lists(st.one_of(st.text(), st.binary(), st.sampled_from(TEXT)), min_size=1),
    length=st.sampled_from([1, 3, 12]),
)
@hypothesis.settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_tensor_encode_is_encode_cut_and_padded(tokenizer, texts, length):
    raw = tf.constant([t.encode() if isinstance(t, str) else t for t in texts])
    expected = np.zeros([len(texts), length], np.int32)
    for row, ids in zip(expected, tokenizer.encode(texts)):
        assert not (ids == 0).any()
        row[: len(ids)] = ids[:length]
    np.testing.assert_array_equal(graph_of(tokenizer, length)(raw), expected)
    np.testing.assert_array_equal(tokenizer.tensor_encode(raw, length), expected)


@hypothesis.given(ids=st.lists(st.integers(-3, 40)))
@hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_decode_goes_by_documents_and_passes_over_ids_of_none(tokenizer, ids):
    known = [id for id in ids if 0 < id < tokenizer.vocabulary_size]
    documents = [[]]
    for id in known:
        documents.append([]) if id == tokenizer.end_id else documents[-1].append(id)
    found = tokenizer.decode(ids)
    assert found == tokenizer.decode(known) == "\n".join(map(tokenizer.decode, documents))
    assert found.count("\n") == known.count(tokenizer.end_id)


def test_text_after_a_nul_is_kept(wordpiece):
    assert wordpiece.encode(["cat\0cat cat"])[0].tolist() == [6, 6, 6]


def test_many_texts_keep_their_order(tokenizer):
    texts = [TEXT[i % 3] * (i % 4) for i in range(600)]  # more than one batch, some empty
    together = tokenizer.encode(texts)
    assert len(together) == 600
    for index in (0, 1, 255, 256, 257, 599):
        np.testing.assert_array_equal(together[index], tokenizer.encode([texts[index]])[0])
    assert tokenizer.encode([]) == []
    assert tokenizer.tensor_encode(tf.constant([], tf.string), 3).shape == (0, 3)


def test_config_and_assets_make_an_equal_tokenizer(tokenizer, tmp_path):
    for asset in tokenizer.assets:
        shutil.copy(asset, tmp_path)
    config = json.loads(json.dumps(tokenizer.config()))
    again = tokenizer_from_config(config, str(tmp_path))
    assert again.config() == tokenizer.config()
    assert (again.vocabulary_size, again.end_id) == (tokenizer.vocabulary_size, tokenizer.end_id)
    for one, two in zip(tokenizer.encode(TEXT), again.encode(TEXT)):
        np.testing.assert_array_equal(one, two)


def test_saved_model_with_trackables(tokenizer, tmp_path):
    module = tf.Module()
    module.tokenizer = tokenizer.trackables

    def encode(text):
        return tokenizer.tensor_encode(text, 5)

    module.encode = tf.function(encode, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path))
    code = (
        "import sys, tensorflow as tf, tensorflow_text; m = tf.saved_model.load(sys.argv[1]);"
        "print(m.encode([b'the cats', b'']).numpy().tolist())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    expected = tokenizer.tensor_encode(tf.constant(["the cats", ""]), 5).numpy().tolist()
    assert json.loads(run.stdout) == expected


def test_changed_or_missing_assets_are_refused(tokenizer, tmp_path):
    with pytest.raises(ArtefactError, match="tokenizer file cannot be read"):
        tokenizer_from_config(tokenizer.config(), str(tmp_path))
    with open(tokenizer.assets[0], "rb") as file:
        content = file.read()
    (tmp_path / tokenizer.assets[0].rsplit("/")[-1]).write_bytes(content + b"\n")
    with pytest.raises(ArtefactError, match="not the tokenizer file that was saved"):
        tokenizer_from_config(tokenizer.config(), str(tmp_path))
    with pytest.raises(ArtefactError, match="Unknown tokenizer kind 'morse'"):
        tokenizer_from_config({"kind": "morse"})


@pytest.mark.parametrize(
    "content, message",
    [
        ("[CLS]\n[PAD]\n[UNK]\n[SEP]\n", r"first token is '\[CLS\]', but id 0 must be padding"),
        ("[PAD]\n[UNK]\na\n", r"there is no token '\[SEP\]': add it, or set end_token"),
        ("[PAD]\n[SEP]\na\n", r"there is no token '\[UNK\]': add it, or set unknown_token"),
        ("[PAD]\n[UNK]\n[SEP]\na\nb\na\n", "line 6 repeats the token 'a' of line 4"),
        (b"[PAD]\n\xff\n", "invalid UTF-8 at byte 6"),
    ],
)
def test_wordpiece_files_that_do_not_fit(tmp_path, content, message):
    path = tmp_path / "bad.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        wordpiece_tokenizer(str(path))


def test_sentencepiece_files_that_do_not_fit(tmp_path):
    path = tmp_path / "bad.model"
    path.write_bytes(b"no model")
    with pytest.raises(DataError, match="not a SentencePiece model"):
        sentencepiece_tokenizer(str(path))
    path.write_bytes(train_sentencepiece())
    with pytest.raises(ConfigurationError, match="id 0 is '<unk>', but dr_keras masks id 0"):
        sentencepiece_tokenizer(str(path))
    path.write_bytes(train_sentencepiece(pad_id=0, unk_id=1, bos_id=-1, eos_id=-1))
    with pytest.raises(ConfigurationError, match="no end of sentence: set end_token"):
        sentencepiece_tokenizer(str(path))


@pytest.mark.parametrize("make", [wordpiece_tokenizer, sentencepiece_tokenizer])
def test_missing_file(make):
    with pytest.raises(DataError, match="/no/such/file: the .* cannot be read"):
        make("/no/such/file")
