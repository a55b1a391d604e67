import collections
import json

from hypothesis import example, given
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.data import damage
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.damage import cut_passages, damaged_corpus
from dr_keras.data.damage_kinds import KINDS
from dr_keras.data.documents import content_key, make_document
from dr_keras.data.splits import part_of, split_fractions
from dr_keras.errors import ConfigurationError
import gin

WORDS = [
    "the",
    "a",
    "of",
    "model",
    "data",
    "is",
    "learns",
    '"quoted"',
    "it's",
    "text,",
    "from",
    "--",
    "and",
    "page",
    "number",
    "line",
    "value",
    "when",
    "which",
    "returns...",
    "array",
    "shape",
    "given",
    "list",
    "object",
    "function",
    "(optional)",
    "default",
    "none",
    "if",
    "not",
]


def corpus_of(texts, name="prose"):
    documents = [make_document(text, "s", f"d{i}") for i, text in enumerate(texts)]
    return Corpus(name, lambda skipped: iter(documents))


def prose(number, seed=0, words=60):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, words)) for _ in range(number)]


@pytest.fixture(scope="module")
def damaged():
    corpus = damaged_corpus(corpus_of(prose(800)), typeset=0.5)
    return corpus, list(corpus.documents())


def parts(documents):
    found = collections.defaultdict(list)
    for document in documents:
        found[part_of(document.key)].append(document)
    return found


def test_only_training_passages_are_damaged_and_about_half_of_them(damaged):
    found = parts(damaged[1])
    assert len(found["train"]) > 1500 and min(map(len, found.values())) > 50
    for part in ("outer", "validation", "test"):
        assert {(d.level, d.damage) for d in found[part]} == {(0.0, "clean")}
    train = found["train"]
    assert all((d.level > 0) == (d.damage in KINDS) for d in train)
    assert all(d.damage == "clean" for d in train if d.level == 0)
    assert np.mean([d.level > 0 for d in train]) == pytest.approx(0.5, abs=0.05)


def test_clean_passages_are_the_text_and_no_passage_is_too_long(damaged):
    texts = {f"d{i}": text for i, text in enumerate(prose(800))}
    for passage in damaged[1]:
        id, _, k = passage.id.rpartition("/")
        assert passage.key == content_key(texts[id])
        assert k.isdigit() and passage.source == "s" and passage.corpus == "prose"
        assert 0 < len(passage.text.encode()) <= 128
        if passage.level == 0:
            assert len(passage.text.encode()) >= 64
            assert passage.text in (texts[id], damage.typeset_text(texts[id])) or (
                passage.text in texts[id] or passage.text in damage.typeset_text(texts[id])
            )


def test_every_kind_occurs_at_every_level(damaged):
    levels = collections.defaultdict(list)
    for passage in damaged[1]:
        levels[passage.damage].append(passage.level)
    graded = [len(levels[kind]) for kind in KINDS if kind != "mojibake"]
    assert min(graded) > 0.7 * max(graded)
    assert len(levels["mojibake"]) > 50
    for kind in set(KINDS) - {"mojibake"}:
        assert np.quantile(levels[kind], 0.2) < 0.4 and np.quantile(levels[kind], 0.8) > 0.6


def test_typographic_characters_are_no_sign_of_damage(damaged):
    # Damage that does not touch characters; others add or remove non-ASCII ones.
    of = collections.defaultdict(list)
    for passage in damaged[1]:
        of[passage.damage].append(not passage.text.isascii())
    assert np.mean(of["clean"]) == pytest.approx(0.5, abs=0.06)
    assert np.mean(of["shuffled_words"]) > 0.25
    assert all(of["mojibake"])


def test_the_description_says_what_came_of_it(damaged):
    corpus, documents = damaged
    facts = json.loads(json.dumps(corpus.describe()))
    counts = collections.Counter(d.damage for d in documents)
    assert facts["passages"] == {part: len(of) for part, of in parts(documents).items()}
    assert {kind: each["number"] for kind, each in facts["damage"].items()} == {
        kind: counts[kind] for kind in KINDS
    }
    levels = [d.level for d in documents if d.damage == "boilerplate"]
    median = facts["damage"]["boilerplate"]["level_quartiles"][2]
    assert median == pytest.approx(np.median(levels), abs=1e-4)
    assert facts["corpus"]["name"] == "prose" and facts["fractions"] == split_fractions()


def test_a_pass_is_repeatable_and_the_order_of_the_corpus_does_not_matter(damaged):
    assert list(damaged[0].documents()) == damaged[1]

    def passages(texts, seed=0):
        found = damaged_corpus(corpus_of(texts), seed=seed).documents()
        return sorted((d.key, d.id.rpartition("/")[2], d.text, d.level, d.damage) for d in found)

    texts = prose(100)
    assert passages(texts) == passages(texts[::-1])
    assert passages(texts) != passages(texts, seed=1)
    assert set(passages(texts)) < set(passages(texts + prose(50, seed=1)))


def test_a_passage_held_out_is_never_trained_on():
    common = "This passage stands at the start of every document, whatever part it lies in"
    common = common.ljust(128, "!")
    texts = [f"{common} {text}" for text in prose(200, words=20)]
    corpus = damaged_corpus(corpus_of(texts), typeset=0.5, passage_bytes=128)
    documents = list(corpus.documents())
    copies = [d for d in documents if "whatever part it lies in" in d.text]
    assert [part_of(d.key) for d in copies] == ["test"]
    assert copies[0].count == 200
    in_test = len({i for i, text in enumerate(texts) if part_of(content_key(text)) == "test"})
    assert corpus.skipped["passage repeated within its part (merged)"] == in_test - 1
    assert corpus.skipped["passage repeated in a more protected part"] == 200 - in_test


def test_passages_too_short_are_left_out():
    (long,) = prose(1)
    corpus = damaged_corpus(corpus_of(["short text", long]), typeset=0, fraction=0)
    documents = list(corpus.documents())
    assert {d.id.split("/")[0] for d in documents} == {"d1"}
    assert corpus.skipped["passage shorter than min_passage_bytes"] >= 1
    corpus = damaged_corpus(corpus_of(["short text", long]), min_passage_bytes=5, fraction=0)
    assert next(corpus.documents()).id == "d0/0"


def test_a_kind_that_cannot_be_leaves_the_passage_clean():
    everything_train = dict(train=1.0, outer=0.0, validation=0.0, test=0.0)
    corpus = damaged_corpus(
        corpus_of(prose(20)), 1.0, ["mojibake"], typeset=0, fractions=everything_train
    )
    documents = list(corpus.documents())
    assert {d.damage for d in documents} == {"clean"}
    assert corpus.skipped["left clean: no kind of damage applies"] == len(documents)
    assert corpus.describe()["damage"] == {"mojibake": {"number": 0, "level_quartiles": None}}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 999))
def test_damage_fits_and_is_real_whatever_the_text(text, name):
    text = text.encode()[:64].decode(errors="ignore").strip()
    outcome = damage.damage_passage(text, tuple(KINDS), (name,), 64)
    assert outcome == damage.damage_passage(text, tuple(KINDS), (name,), 64)
    if outcome is not None:
        damaged_text, kind, level = outcome
        assert len(damaged_text.encode()) <= 64
        assert damaged_text != text and kind in KINDS and 0 < level <= 1


def test_damage_that_would_not_fit_is_done_to_the_start():
    text = "\u00e9 \u2013 \u201cdeux\u201d " * 8
    text = text.encode()[:128].decode(errors="ignore").strip()
    for name in range(30):
        damaged_text, kind, level = damage.damage_passage(text, ("mojibake",), (name,), 128)
        assert 80 < len(damaged_text.encode()) <= 128
        assert damaged_text.startswith("\u00c3")


def test_typesetting_and_back():
    straight = "\"It's -- he said ('so') --- a 'test'...\"\n--- \"x\" ---- ...."
    curly = damage.typeset_text(straight)
    assert curly == (
        "\u201cIt\u2019s \u2013 he said (\u2018so\u2019) \u2014 a \u2018test\u2019\u2026\u201d\n"
        "\u2014 \u201cx\u201d ---- .\u2026"
    )
    assert damage._straight(curly) == straight


def test_the_weights_of_a_mixture_stay_with_its_corpora():
    inner = corpus_of(prose(5))
    inner.weights = {"prose": 1.0}
    corpus = damaged_corpus(inner, name="noisy")
    assert corpus.weights == {"prose": 1.0}
    assert {d.corpus for d in corpus.documents()} == {"prose"}
    inner.weights = None
    assert {d.corpus for d in damaged_corpus(inner, name="noisy").documents()} == {"noisy"}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"fraction": 1.5}, r"damaged_corpus.fraction must lie in \[0, 1\], not 1.5"),
        ({"fraction": float("nan")}, "fraction must lie in"),
        ({"typeset": -0.1}, "typeset must lie in"),
        ({"kinds": ["ocr", "mojibake"]}, "kinds must name at least one of .*got 'ocr'"),
        ({"kinds": []}, "got none"),
        ({"passage_bytes": 8}, "passage_bytes of at least 16"),
        ({"min_passage_bytes": 129}, "min_passage_bytes between 1 and passage_bytes; got 128 and"),
        ({"fractions": {"train": 1.0}}, "exactly the shares"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        list(damaged_corpus(corpus_of(prose(2)), **settings).documents())


def test_by_gin():
    gin.parse_config("damaged_corpus.kinds = ('shuffled_words',)\ndamaged_corpus.fraction = 1.0")
    found = {d.damage for d in damaged_corpus(corpus_of(prose(60))).documents()}
    assert found == {"clean", "shuffled_words"}


text_that_utf8_can_hold = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def test_it_cuts_at_white_space_and_fills_each_passage():
    assert cut_passages("one two three four", 8) == ["one two", "three", "four"]
    assert cut_passages("one two  three\n\n four", 7) == ["one two", "three", "four"]
    assert cut_passages("a b\n  c", 20) == ["a b\n  c"]
    assert cut_passages(" \n ", 8) == []
    assert cut_passages("", 8) == []


def test_long_words_are_cut_between_characters():
    assert cut_passages("abcdefghij kl", 4) == ["abcd", "efgh", "ij", "kl"]
    assert cut_passages("\u00fc" * 5, 5) == ["\u00fc\u00fc", "\u00fc\u00fc", "\u00fc"]
    assert cut_passages("\U0001f600" * 2, 4) == ["\U0001f600"] * 2


@given(text_that_utf8_can_hold, st.integers(4, 40))
@example("a" * 8 + " b", 8)
@example("a" * 8 + " ", 8)
def test_nothing_is_lost_and_nothing_is_too_long(text, max_bytes):
    passages = cut_passages(text, max_bytes)
    white = dict.fromkeys(map(ord, " \t\n\r\f\v"))
    assert "".join(passages).translate(white) == text.translate(white)
    position = 0
    for passage in passages:
        assert 0 < len(passage.encode()) <= max_bytes
        position = text.index(passage, position) + len(passage)  # a slice, in order


@given(st.lists(st.text("ab\u00fc", min_size=1, max_size=6), min_size=1), st.integers(12, 40))
def test_each_passage_is_as_long_as_fits(words, max_bytes):
    passages = cut_passages(" ".join(words), max_bytes)
    assert " ".join(passages) == " ".join(words)
    for passage, following in zip(passages, passages[1:]):
        assert len(f"{passage} {following.split()[0]}".encode()) > max_bytes


def test_a_passage_must_hold_any_character():
    with pytest.raises(ValueError, match="at least 4 bytes, not 3"):
        cut_passages("a", 3)
