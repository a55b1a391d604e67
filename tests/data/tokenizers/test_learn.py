"""Learned vocabularies are saved whole, reload equal, and depend on the text alone."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.splits import part_of
from dr_keras.data.tokenizers import learn, tokenizer_from_config
from dr_keras.data.tokenizers.learn import describe_vocabulary, learn_vocabulary
from dr_keras.errors import ConfigurationError, DataError, DrKerasError

SUBJECTS = ["the cat", "a dog", "one bird", "the old man", "every child", "my friend"]
VERBS = ["sees", "follows", "remembers", "paints", "describes"]
OBJECTS = ["a house", "the river", "some mountains", "an island", "the morning", "café tables"]
TEXTS = [f"{s} {v} {o}." for s in SUBJECTS for v in VERBS for o in OBJECTS]

SIZES = {"wordpiece": 100, "sentencepiece": 48}  # SentencePiece finds no more than 54 here


def corpus_of(texts, name="animals"):
    return Corpus(name, lambda skipped: (make_document(text, name) for text in texts))


@pytest.mark.parametrize("kind", learn.KINDS)
def test_a_learned_vocabulary_reloads_equal(kind, tmp_path):
    output = str(tmp_path / "folder" / "vocabulary")
    learned, facts = learn_vocabulary(corpus_of(TEXTS), output, kind, SIZES[kind], part=None)
    assert learned.name == kind and learned.assets == [output]
    assert SIZES[kind] * 0.7 < learned.vocabulary_size <= SIZES[kind]
    reloaded = tokenizer_from_config(learned.config(), str(tmp_path / "folder"))
    for text, one, two in zip(TEXTS, learned.encode(TEXTS), reloaded.encode(TEXTS)):
        np.testing.assert_array_equal(one, two)
        assert learned.decode(one).replace(" .", ".") == text
    assert facts == pytest.approx(describe_vocabulary(learned, TEXTS))
    assert facts["unknown_share"] == 0 and facts["bytes_per_token"] > 1.3
    assert describe_vocabulary(learned, ["日本語"])["unknown_share"] > 0.4
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("kind", learn.KINDS)
def test_order_and_repetition_make_no_difference(kind, tmp_path):
    contents = []
    for number, texts in enumerate([TEXTS, TEXTS[::-1] + TEXTS[:20]]):
        output = tmp_path / str(number)
        learn_vocabulary(corpus_of(texts), str(output), kind, SIZES[kind])
        contents.append(output.read_bytes())
    assert contents[0] == contents[1]


def test_held_out_text_stays_unseen(tmp_path):
    def learned(part):
        marked = [
            f"{text} Zürich"
            if part_of(make_document(f"{text} Zürich", "x").key) == "test"
            else text
            for text in TEXTS
        ]
        tokenizer, _ = learn_vocabulary(
            corpus_of(marked), str(tmp_path / str(part)), "wordpiece", 100, part=part
        )
        return describe_vocabulary(tokenizer, ["Zürich"])["unknown_share"]

    assert learned("train") == 1.0
    assert learned(None) == 0.0


def test_lowercase_reaches_learner_and_tokenizer(tmp_path):
    upper = [text.upper() for text in TEXTS]
    for kind in learn.KINDS:
        learned, _ = learn_vocabulary(
            corpus_of(upper), str(tmp_path / kind), kind, SIZES[kind], lowercase=True
        )
        for one, two in zip(learned.encode(upper[:9]), learned.encode(TEXTS[:9])):
            np.testing.assert_array_equal(one, two)


@hypothesis.given(
    texts=st.lists(st.text(min_size=1, max_size=12).filter(str.strip), min_size=1, unique=True),
    max_bytes=st.integers(1, 100),
    random=st.randoms(use_true_random=False),
)
def test_sample_is_bounded_and_does_not_depend_on_order(texts, max_bytes, random):
    shuffled = list(texts)
    random.shuffle(shuffled)
    one = learn._sample(corpus_of(texts), None, None, max_bytes)
    two = learn._sample(corpus_of(shuffled + texts), None, None, max_bytes)
    assert sorted(one) == sorted(two)
    size = sum(len(text.encode()) for text in one)
    assert size <= max_bytes
    if sum(len(text.encode()) for text in texts) <= max_bytes:
        assert sorted(one) == sorted(texts)


def test_long_lines_are_cut_at_spaces():
    text = "short\n\n" + "word " * 500 + "\n" + "x" * 2500
    lines = list(learn._lines([text]))
    assert max(map(len, lines)) <= 1000
    assert "".join(lines) == text.replace("\n", "")
    assert lines[0] == "short" and lines[1].endswith("word") and lines[-1] == "x" * 500


@pytest.mark.parametrize(
    "options, error, message",
    [
        (dict(kind="words"), ConfigurationError, "kind must be one of 'wordpiece', 'sentence"),
        (dict(size=3), ConfigurationError, "size must be at least 16, not 3"),
        (dict(part="rest"), ConfigurationError, "part must be one of 'train'"),
        (dict(model_type="char"), ConfigurationError, "model_type must be one of 'unigram', 'bpe'"),
        (dict(max_bytes=0), ConfigurationError, "max_bytes must be at least 1, not 0"),
        (dict(size=5000), DataError, r"5000 tokens from the corpus 'animals': Vocabulary size too"),
        (dict(size=16), DataError, "'animals': Vocabulary size is smaller than required_chars"),
        (dict(size=16, kind="wordpiece"), DataError, "too many different characters"),
        (dict(part="test", fractions=dict(train=1, outer=0, validation=0, test=0)), DataError,
         "'animals' has no text in its part 'test'"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        learn_vocabulary(corpus_of(TEXTS), str(tmp_path / "vocabulary"), **options)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    output = tmp_path / "vocabulary"
    output.write_text("precious")
    with pytest.raises(ConfigurationError, match="exists, and runs may depend on it"):
        learn_vocabulary(corpus_of(TEXTS), str(output), "wordpiece", 100)
    assert output.read_text() == "precious"
    learn_vocabulary(corpus_of(TEXTS), str(output), "wordpiece", 100, overwrite=True)
    assert output.read_text().startswith("[PAD]\n")
    with pytest.raises(ConfigurationError, match="is a directory"):
        learn_vocabulary(corpus_of(TEXTS), str(tmp_path), "wordpiece", 100)


def test_a_full_disk_leaves_the_old_vocabulary(tmp_path, no_room_beyond):
    output = tmp_path / "words.txt"
    for before in (None, "old\n"):
        with pytest.raises(DrKerasError, match="words.txt"), no_room_beyond(100):
            learn_vocabulary(corpus_of(TEXTS), str(output), "wordpiece", 100, overwrite=True)
        assert (output.read_text() if output.exists() else None) == before
        output.write_text("old\n")
