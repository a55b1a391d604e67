"""Scores of a prepared corpus are a column beside it, of this corpus and this rater alone."""

import os
import types

import numpy as np
from prepared_corpora import write_prepared
import pytest

from dr_keras.baselines.candidates import joined_candidates, window_candidates
from dr_keras.baselines.score_file import score_file
from dr_keras.commands import score_examples as command
from dr_keras.corpus_jobs.prepared_scoring import score_prepared
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.prepare import text_data
from dr_keras.data.prepared import prepared_data
from dr_keras.data.prepared_scores import read_column
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import CheckpointError, ConfigurationError, DataError
from dr_keras.serving.loading import load_rater
from dr_keras.studies import rater as study_rater

FRACTIONS = {"train": 0.7, "outer": 0.1, "validation": 0.1, "test": 0.1}


class FirstToken:
    """A rater whose score is a window's first token; it may be stopped after some calls."""

    path, fingerprint, sequence_length = "first", "f" * 64, 16

    def __init__(self, calls=10**9, **metadata):
        self.metadata = {"kind": "text", "tokenizer": byte_tokenizer().config(), **metadata}
        self.calls, self.done = calls, 0

    def score_tokens(self, tokens):
        if self.done == self.calls:
            raise KeyboardInterrupt
        self.done += 1
        assert tokens.shape == (8, 16)
        return {"score": tokens[:, 0].astype(np.float32)}


def write(folder, count=60):
    corpus = Corpus("main", lambda _: (make_document(f"{k} words " * 4, "s") for k in range(count)))
    parts = text_data(corpus, byte_tokenizer(), 16, fractions=FRACTIONS)
    return write_prepared(folder, parts, byte_tokenizer(), 50)


def test_a_scoring_that_stopped_goes_on_and_is_the_same(tmp_path):
    prepared = write(tmp_path / "p")
    train = prepared_data(prepared).train
    with pytest.raises(KeyboardInterrupt):
        score_prepared(FirstToken(3), prepared, batch_size=8)
    with pytest.raises(DataError, match="the scoring did not finish"):
        read_column(f"{prepared}/scores/rater.npy")
    with open(f"{prepared}/scores/rater.partial", "ab") as file:
        file.write(b"half")  # of a row that a kill cut
    rater = FirstToken()
    facts = score_prepared(rater, prepared, batch_size=8)
    assert rater.done == -(-len(train) // 8) - 3 and facts["documents"] == len(train)
    assert sorted(os.listdir(f"{prepared}/scores")) == ["rater.json", "rater.npy"]
    tokens = train.features["tokens"][:, 0]
    scores = read_column(f"{prepared}/scores/rater.npy", train.fingerprint)
    assert scores.dtype == np.float32 and np.array_equal(scores[:], tokens)
    with pytest.raises(ConfigurationError, match="rater.npy exists already"):
        score_prepared(FirstToken(), prepared, batch_size=8)
    with pytest.raises(ConfigurationError, match="no name for scores"):
        score_prepared(FirstToken(), prepared, "../rater")
    score_prepared(FirstToken(), prepared, batch_size=8, overwrite=True)
    # arms take it by its path
    path = f"{prepared}/scores/rater.npy"
    assert np.array_equal(score_file(window_candidates(train), path=path).values, tokens)
    documents = score_file(joined_candidates(train), path=path)
    assert documents.facts["matched"] == 1 and len(documents.values) < len(tokens)
    with pytest.raises(DataError, match="is of another corpus"):
        score_file(window_candidates(prepared_data(write(tmp_path / "o", 61)).train), path=path)


def test_a_rater_of_other_windows_is_refused(tmp_path):
    prepared = write(tmp_path / "p")
    other = FirstToken(tokenizer={"kind": "wordpiece"})
    with pytest.raises(ConfigurationError, match="first rates windows of 16 tokens of {'kind': 'w"):
        score_prepared(other, prepared)
    with pytest.raises(ConfigurationError, match="first rates images"):
        score_prepared(FirstToken(kind="images"), prepared)
    assert not os.path.exists(f"{prepared}/scores")


def test_scores_of_a_study_say_of_which_corpus_they_are(tmp_path):
    train = prepared_data(write(tmp_path / "p")).train
    scores = np.arange(len(train), dtype=float)
    study_rater.write_scores(tmp_path, train, scores)
    assert (tmp_path / "scores.npz").stat().st_size < 16 * len(train)
    ids, found = study_rater.read_scores(tmp_path, train)
    assert ids is None and np.array_equal(found, scores)
    others = types.SimpleNamespace(ids=train.ids[:])
    for other in (prepared_data(write(tmp_path / "o", 61)).train, others):
        with pytest.raises(CheckpointError, match="scores.npz is of other data"):
            study_rater.read_scores(tmp_path, other)


def test_the_command_scores_with_the_rater_that_ships(tmp_path, capsys):
    corpus = Corpus("main", lambda _: (make_document(f"{k} words " * 9, "s") for k in range(60)))
    parts = text_data(corpus, byte_tokenizer(), 128, fractions=FRACTIONS)
    prepared = write_prepared(tmp_path / "p", parts, byte_tokenizer(), 50)
    argv = ["--rater", "damaged_prose", "--input", prepared, "--output", "prose"]
    assert command.main(argv) == 0
    train = prepared_data(prepared).train
    assert f"scores/prose.npy: {len(train)} windows" in capsys.readouterr().out
    scores = read_column(f"{prepared}/scores/prose.npy", train.fingerprint)
    tokens = parts.train.features["tokens"][:3]
    wanted = load_rater("damaged_prose").score_tokens(tokens)["score"]
    np.testing.assert_allclose(scores[:3], wanted, rtol=1e-5)
    assert command.main(argv) == 2 and "exists already" in capsys.readouterr().err
