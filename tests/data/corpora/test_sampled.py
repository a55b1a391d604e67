import pytest

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.corpora.sampled import sampled_corpus
from dr_keras.data.documents import make_document
from dr_keras.data.prepare import split_documents
from dr_keras.errors import ConfigurationError


def corpus(order=1):
    texts = [f"text number {k} of many" for k in range(2000)][::order]
    return Corpus("all", lambda skipped: (make_document(t, "s", None) for t in texts))


def test_a_share_whatever_the_order_and_the_part():
    sample = sampled_corpus(corpus(), 0.25)
    found = {d.text for d in sample.documents()}
    assert 420 < len(found) < 580
    assert sample.skipped["not in the sample"] == 2000 - len(found)
    assert found == {d.text for d in sampled_corpus(corpus(-1), 0.25).documents()}
    assert found != {d.text for d in sampled_corpus(corpus(), 0.25, seed=1).documents()}
    whole, part = split_documents(corpus()), split_documents(sample)
    assert len(part["train"]) / len(whole["train"]) == pytest.approx(0.25, abs=0.04)
    assert {d.text for d in part["test"]} <= {d.text for d in whole["test"]}
    larger = {d.text for d in sampled_corpus(corpus(), 0.5).documents()}
    assert found < larger


def test_everything_and_nothing():
    assert len(list(sampled_corpus(corpus(), 1.0).documents())) == 2000
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ConfigurationError, match="must lie in"):
            sampled_corpus(corpus(), share)
    assert sampled_corpus(corpus(), 0.5).describe()["share"] == 0.5
