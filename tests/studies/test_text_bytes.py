import math

import numpy as np
import pytest
import study

from dr_keras.data.documents import make_document
from dr_keras.data.examples import ExampleSet
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.data.windows import window_documents
from dr_keras.studies.text_bytes import bytes_per_target


class Words:
    """Ids of words that are known; 0 is padding and 1 the end."""

    end_id = 1
    known = ("", "\n", "a", "bb", "ccc", "éé")

    def encode(self, texts):
        return [np.array([self.known.index(w) for w in t.split()], np.int32) for t in texts]

    def decode(self, ids):
        return " ".join(self.known[k] for k in ids if k)


def windows(tokenizer, *texts):
    documents = [make_document(text, "s", str(k)) for k, text in enumerate(texts)]
    return window_documents(documents, tokenizer, 4)


def test_bytes_by_hand():
    # "a bb ccc éé" and, in a window of its own, "éé a": targets " bb ccc éé" and " a"
    found = bytes_per_target(windows(Words(), "a bb ccc éé éé a"))
    assert found == pytest.approx((3 + 4 + 5 + 2) / 4)
    # A character cut by a window's end, which decodes to U+FFFD, is no more than its bytes.
    assert bytes_per_target(windows(byte_tokenizer(), "aaaé", "bb")) == 1.0


def test_what_is_no_text_has_no_bytes():
    names = np.array(["a"], object)
    assert bytes_per_target(ExampleSet({"image": np.zeros((1, 2))}, names, names, names)) is None


def test_bits_per_byte_are_nats_over_the_bytes():
    size = study.size(
        {
            arm: {0: [(0, 5.0), (9, 2.0)], 1: [(0, 5.0), (9, 4.0)]}
            for arm in ("unfiltered", "rater")
        },
        bytes_per_token=3.0,
    )
    bits = size.arms["rater"].bits_per_byte
    assert bits.mean == pytest.approx(3 / math.log(2) / 3)
    assert bits.by_seed == pytest.approx({"0": 2 / math.log(8), "1": 4 / math.log(8)})
    assert study.results().sizes[0].arms["rater"].bits_per_byte is None
