"""Which rows an arm trains on, and cells that are not run twice."""

import functools
import json

import numpy as np
import pytest

from dr_keras.data.document_rows import document_ids, kept_rows, random_documents
from dr_keras.data.examples import ExampleSet
from dr_keras.models.text_models import language_model
from dr_keras.studies.cells import run_cell
from dr_keras.training.language_model_training import LanguageModelTrainer


def windows(documents, each=2, seed=0):
    ids = [f"doc{d}#{k}" for d in range(documents) for k in range(each)]
    tokens = np.random.default_rng(seed).integers(1, 20, (len(ids), 8)).astype(np.int32)
    names = np.array(["a"] * len(ids), object)
    return ExampleSet({"tokens": tokens}, np.array(ids, object), names, names)


def test_windows_go_with_their_document():
    examples = windows(3)
    assert document_ids(examples).tolist() == ["doc0", "doc0", "doc1", "doc1", "doc2", "doc2"]
    assert kept_rows(examples, {"doc2", "doc0"}).tolist() == [0, 1, 4, 5]


def test_random_arm_is_a_hash_choice_of_whole_documents():
    examples = windows(200)
    chosen = random_documents(examples, 50, seed=0)
    assert len(chosen) == 50
    backwards = examples.take(np.arange(len(examples))[::-1])
    assert random_documents(backwards, 50, seed=0) == chosen
    other = random_documents(examples, 50, seed=1)
    # Two independent choices of 50 in 200 share 12.5 on average.
    assert 2 <= len(other & chosen) <= 26


@pytest.fixture(scope="module")
def trainer():
    model = functools.partial(language_model, 20, 8, width=8, layer_count=1, heads=1)
    return LanguageModelTrainer(model, steps=4, batch_size=4, evaluate_every=2, jit_compile=False)


def test_cell_is_read_back_and_run_again_only_for_other_data(tmp_path, trainer, capsys):
    data, test = windows(10), windows(4, seed=1)
    first = run_cell(tmp_path, trainer, "rater", 0, data, test)
    path = tmp_path / "cells" / "rater-0.json"
    stored = json.loads(path.read_text())
    stored["record"]["curve"][-1][1] = -1.0  # shows that the file is what comes back
    path.write_text(json.dumps(stored))
    assert run_cell(tmp_path, trainer, "rater", 0, data, test).curve[-1][1] == -1.0
    changed = run_cell(tmp_path, trainer, "rater", 0, data.take(np.arange(12)), test)
    assert changed.curve[-1][1] > 0
    assert changed.examples == 12 and first.examples == 20
    assert "rater, seed 0: 4/4 steps" in capsys.readouterr().err
