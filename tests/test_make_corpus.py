"""The generator of corpora: what it recombines, and what it says of what it made."""

import collections
import json

from make_corpus import Duplicates, Recombined, main
import numpy as np
import pytest

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import content_key, make_document

TEXTS = {
    "prose": ["One is here. Two is there!  Three is \u00e9. ", "Four follows.\n\nFive ends"],
    "code": ["def f():\n    return 1\n", "x" * 4500],
}


@pytest.fixture(scope="module")
def at_hand(tmp_path_factory):
    path = tmp_path_factory.mktemp("at_hand") / "texts.jsonl"
    rows = [{"text": text, "kind": kind} for kind, texts in TEXTS.items() for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--input", str(path), "--source_field", "kind"]


def made(folder, at_hand, *flags):
    main(["--output", str(folder), "--megabytes", "0.1", *at_hand, *flags])
    files = sorted(folder.iterdir())
    return files, [json.loads(line) for file in files for line in file.open(encoding="utf-8")]


def test_documents_are_sentences_of_their_source_at_natural_lengths(tmp_path, at_hand, capsys):
    flags = "--copies", "0.2", "--near_copies", "0.1", "--file_megabytes", "0.03"
    files, rows = made(tmp_path / "a", at_hand, *flags)
    said = json.loads(capsys.readouterr().out)
    texts = [row["text"] for row in rows]
    assert [row["id"] for row in rows] == [f"made/{n}" for n in range(len(rows))]
    assert len(files) == said["files"] > 2 and said["documents"] == len(rows)
    assert said["text_bytes"] == sum(len(text.encode()) for text in texts) >= 100_000
    assert said["file_bytes"] == sum(file.stat().st_size for file in files)
    for row in rows:
        words = set(" ".join(TEXTS[row["source"]]).split()) | {""}
        assert {word.strip("x") for word in row["text"].split()} <= words
    shares = collections.Counter(row["source"] for row in rows)
    assert 0.4 < shares["code"] / len(rows) < 0.6
    duplicates = 1 - len({content_key(text) for text in texts}) / len(texts)
    assert said["share_of_exact_duplicates"] == pytest.approx(duplicates, abs=1e-5) and duplicates
    again, _ = made(tmp_path / "b", at_hand, *flags)
    assert [f.read_bytes() for f in again] == [f.read_bytes() for f in files]
    other, _ = made(tmp_path / "c", at_hand, *flags, "--seed", "1")
    assert other[0].read_bytes() != files[0].read_bytes()


def test_bad_flags_are_said(tmp_path, at_hand):
    (tmp_path / "file").write_text("")
    for flags, said in {
        ("--output", str(tmp_path)): "is not empty",
        ("--output", str(tmp_path / "new"), "--copies", "1"): "a share in",
        ("--output", str(tmp_path / "new"), "--input", str(tmp_path / "absent")): "absent",
    }.items():
        with pytest.raises(SystemExit, match=said):
            main([*at_hand, *flags])


def test_duplicates_in_a_slice_of_the_keys_have_the_share_of_all():
    random = np.random.default_rng(0)
    numbers = np.concatenate([np.arange(6000), random.integers(0, 6000, 2000)])
    exact, sampled = Duplicates(), Duplicates(held=1500)
    for number in random.permutation(numbers).tolist():
        exact.add(str(number))
        sampled.add(str(number))
    assert exact.share == 0.25
    assert len(sampled._counts) <= 1500 and sampled.share == pytest.approx(0.25, abs=0.04)


def test_a_copy_is_an_earlier_document_and_a_near_copy_has_a_sentence_more():
    texts = [f"This is sentence {n}. And so is that of {n}." for n in range(50)]
    corpus = Corpus("c", lambda skipped: (make_document(text, "s") for text in texts))
    copies = Recombined(corpus, 0, copies=0.5, near_copies=0.0)
    found = [copies.document(number)[0] for number in range(200)]
    assert 70 < sum(text in found[:n] for n, text in enumerate(found)) < 130
    near = Recombined(corpus, 0, copies=0.0, near_copies=0.5)
    found = [near.document(number)[0] for number in range(200)]
    longer = [any(text.startswith(f"{old} ") for old in found[:n]) for n, text in enumerate(found)]
    assert 70 < sum(longer) < 130
