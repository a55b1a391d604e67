import pytest

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.corpora.mixture import mixture_corpus, sampled_corpus
from dr_keras.data.documents import make_document
from dr_keras.data.prepare import split_documents
from dr_keras.errors import ConfigurationError, DataError
import gin


def corpus_of(name, *texts):
    return Corpus(name, lambda skipped: (make_document(text, f"from {name}") for text in texts))


def test_documents_keep_their_source_and_name_their_corpus():
    mixture = mixture_corpus([corpus_of("a", "1", " ", "2"), corpus_of("b", "3")])
    assert [(d.text, d.source, d.corpus) for d in mixture.documents()] == [
        ("1", "from a", "a"),
        ("2", "from a", "a"),
        ("3", "from b", "b"),
    ]
    assert mixture.weights is None
    assert mixture.skipped == {"empty text": 1}
    assert [each["name"] for each in mixture.describe()["corpora"]] == ["a", "b"]


@pytest.mark.parametrize("weights", [[3, 1], (0.3, 0.1), {"b": 1, "a": 3}])
def test_weights_are_shares_by_name(weights):
    mixture = mixture_corpus([corpus_of("a", "1"), corpus_of("b", "2")], weights)
    assert mixture.weights == pytest.approx({"a": 0.75, "b": 0.25})
    assert mixture.describe()["weights"] == mixture.weights


def test_mixtures_of_mixtures():
    inner = mixture_corpus([corpus_of("a", "1"), corpus_of("b", "2")], [1, 3], name="inner")
    loose = mixture_corpus([corpus_of("c", "3"), corpus_of("d", "4")], name="loose")
    outer = mixture_corpus([inner, loose], [2, 2])
    assert outer.weights == pytest.approx({"a": 0.125, "b": 0.375, "loose": 0.5})
    assert [d.corpus for d in outer.documents()] == ["a", "b", "loose", "loose"]
    with pytest.raises(ConfigurationError, match="'inner' has weights, so the mixture around it"):
        mixture_corpus([inner, loose])
    with pytest.raises(ConfigurationError, match="nested mixtures are called 'a'"):
        mixture_corpus([inner, corpus_of("a", "5")], [1, 1])


def test_weights_by_source():
    """One corpus whose documents say where they are from is a mixture, too."""

    def read(skipped):
        yield from (make_document(text, source) for text, source in ["1a", "2b", "3a"])

    weights = {"a": 1, "b": 3}
    corpus = Corpus("all", read)
    mixture = mixture_corpus([corpus], weights, by_source=True)
    assert mixture.weights == {"a": 0.25, "b": 0.75} and mixture.describe()["by_source"]
    assert [(d.text, d.corpus) for d in mixture.documents()] == [("1", "a"), ("2", "b"), ("3", "a")]
    outer = mixture_corpus([mixture, corpus_of("c", "4")], [1, 1])
    assert outer.weights == pytest.approx({"a": 0.125, "b": 0.375, "c": 0.5})
    assert [d.corpus for d in outer.documents()] == ["a", "b", "a", "c"]
    with pytest.raises(DataError, match="is of the source 'b', which mixture_corpus.weights"):
        list(mixture_corpus([corpus], {"a": 1}, by_source=True).documents())
    for wrong in (None, [1, 3]):
        with pytest.raises(ConfigurationError, match="give a weight to every source by its name"):
            mixture_corpus([corpus], wrong, by_source=True)
    with pytest.raises(ConfigurationError, match="'mixture' has weights of its own"):
        mixture_corpus([mixture], weights, by_source=True)


@pytest.mark.parametrize(
    "weights, message",
    [
        ([1], "has 1 numbers for 2 corpora: a, b"),
        ({"a": 1, "c": 1}, "names a, c, but the corpora are a, b"),
        ([1, 0], "weight of corpus 'b' must be a positive number, not 0"),
        ([1, -1], "positive number, not -1"),
        ([float("nan"), 1], "weight of corpus 'a'"),
        ([float("inf"), 1], "weight of corpus 'a'"),
    ],
)
def test_weights_that_do_not_fit(weights, message):
    with pytest.raises(ConfigurationError, match=message):
        mixture_corpus([corpus_of("a", "1"), corpus_of("b", "2")], weights)


def test_names_must_differ_and_there_must_be_some():
    with pytest.raises(ConfigurationError, match="called 'a'; set the name of one"):
        mixture_corpus([corpus_of("a", "1"), corpus_of("a", "2")])
    with pytest.raises(ConfigurationError, match="corpora is empty"):
        mixture_corpus([])


def test_an_empty_part_is_named():
    mixture = mixture_corpus([corpus_of("a", "1"), corpus_of("b")])
    with pytest.raises(DataError, match="corpus 'b' holds no documents"):
        list(mixture.documents())


def test_by_gin(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "1"}\n')
    (tmp_path / "b.txt").write_text("2")
    gin.parse_config(f"""
        import dr_keras.data.formats.jsonl
        import dr_keras.data.formats.text
        jsonl_corpus.path = '{tmp_path}/a.jsonl'
        text_corpus.path = '{tmp_path}/b.txt'
        mixture_corpus.corpora = [@jsonl_corpus(), @text_corpus()]
        mixture_corpus.weights = [1, 4]
    """)
    mixture = mixture_corpus()
    assert [d.text for d in mixture.documents()] == ["1", "2"]
    assert mixture.weights == {"a": 0.2, "b": 0.8}


def numbered(order=1):
    texts = [f"text number {k} of many" for k in range(2000)][::order]
    return Corpus("all", lambda skipped: (make_document(t, "s", None) for t in texts))


def test_a_share_whatever_the_order_and_the_part():
    sample = sampled_corpus(numbered(), 0.25)
    found = {d.text for d in sample.documents()}
    assert 420 < len(found) < 580
    assert sample.skipped["not in the sample"] == 2000 - len(found)
    assert found == {d.text for d in sampled_corpus(numbered(-1), 0.25).documents()}
    assert found != {d.text for d in sampled_corpus(numbered(), 0.25, seed=1).documents()}
    whole, part = split_documents(numbered()), split_documents(sample)
    assert len(part["train"]) / len(whole["train"]) == pytest.approx(0.25, abs=0.04)
    assert {d.text for d in part["test"]} <= {d.text for d in whole["test"]}
    larger = {d.text for d in sampled_corpus(numbered(), 0.5).documents()}
    assert found < larger


def test_everything_and_nothing():
    assert len(list(sampled_corpus(numbered(), 1.0).documents())) == 2000
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ConfigurationError, match="must lie in"):
            sampled_corpus(numbered(), share)
    assert sampled_corpus(numbered(), 0.5).describe()["share"] == 0.5


def test_a_sample_and_the_rest_are_the_whole():
    whole = [d.text for d in numbered().documents()]
    sample, rest = (
        [d.text for d in sampled_corpus(numbered(), 0.25, rest=rest).documents()]
        for rest in (False, True)
    )
    assert sorted(sample + rest) == sorted(whole) and not set(sample) & set(rest)
    with pytest.raises(ConfigurationError, match="below 1 where the rest is taken"):
        sampled_corpus(numbered(), 1.0, rest=True)
