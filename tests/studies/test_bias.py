import dataclasses

import numpy as np

from dr_keras.data.documents import make_document
from dr_keras.data.examples import objects
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.data.windows import window_documents
from dr_keras.rating.audit import UNKNOWN
from dr_keras.runs.held_out import held_out_groups, label_groups
from dr_keras.studies.bias import audited


def windows(texts, labels=None, length=32):
    documents = [
        dataclasses.replace(
            make_document(text, "books" if len(text) > 100 else "web", f"d{n}"),
            labels=tuple((labels or {}).get(n, {}).items()),
        )
        for n, text in enumerate(texts)
    ]
    return window_documents(documents, byte_tokenizer(), length)


LONG, SHORT = "a long text of a book, " * 12, "short text of the web"


def test_a_study_is_audited_by_windows_their_documents_and_their_labels():
    train = windows(
        [LONG, *[SHORT + str(n) for n in range(9)]], {0: {"lang": "en"}, 3: {"lang": "de"}}
    )
    of_book = train.sources == "books"
    assert (of_book.sum(), len(train)) == (9, 18)  # nine windows of one book, one of each page
    outer = windows([f"{n} страница из сети" for n in range(60)])
    found = audited(train, outer, np.where(of_book, 1.0, 0.0), 0.5)
    by = found["dimensions"]
    assert (found["documents"], found["kept"], found["held_out"]) == (18, 9, len(outer))
    assert (by["source"]["books"]["kept"], by["source"]["web"]["kept"]) == (9, 0)
    assert by["script"]["Latin"]["held_out_share"] == 0.0
    assert by["length"]["256 to 1,023 tokens"]["documents"] == 9  # of its document, not its window
    assert by["length"]["under 64 tokens"]["documents"] == 9
    assert by["lang"]["en"]["kept"] == 9 and by["lang"]["de"]["documents"] == 1
    assert by["lang"][UNKNOWN]["documents"] == 8
    notes = " ".join(found["notes"])
    assert "by script, the corpus and the held-out set have no group in common" in notes


def test_a_held_out_set_is_counted_by_documents():
    groups = held_out_groups(windows([LONG, SHORT], {1: {"lang": "en"}}))
    assert groups["source"] == {"books": 1, "web": 1}
    assert groups["length"] == {"under 64 bytes": 1, "256 to 1,023 bytes": 1}
    assert groups["lang"] == {"en": 1, UNKNOWN: 1}
    assert held_out_groups(windows([LONG]).take([])) is None


def test_measures_are_no_groups_and_classes_are():
    train = windows([SHORT + str(n) for n in range(200)])
    labels = {
        "level": np.linspace(0, 1, 200).astype(np.float32),
        "documents": np.arange(200),
        "damage": objects([None] * 200),
        "corrupted": np.arange(200) % 2 == 0,
        "kind": objects(["a"] * 200),
    }
    features = {"image": np.zeros([200, 4]), "label": np.arange(200, dtype=np.int32) % 10}
    images = dataclasses.replace(train, features=features, labels=labels, render=None)
    groups = label_groups(images)
    assert set(groups) == {"corrupted", "kind", "label"}
    assert groups["corrupted"][:2] == ["yes", "no"] and groups["label"][9] == "9"
    found = audited(images, images, np.arange(200.0), 0.5)
    assert set(found["dimensions"]) == {"corrupted", "kind", "label", "source"}
