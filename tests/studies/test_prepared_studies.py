"""Studies of a prepared corpus are those of the same corpus in memory."""

import json

import numpy as np
from prepared_corpora import write_prepared
import pytest

from dr_keras.commands import evaluate, quickstart
from dr_keras.data.prepare import corpus_from_path, split_documents, text_data
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.studies.prepared_text import WindowDocuments
from dr_keras.studies.results import Results

FRACTIONS = {"train": 0.55, "outer": 0.15, "validation": 0.15, "test": 0.15}
WORDS = ("the", "river", "an", "old", "clock", "her", "letter", "garden", "winter", "forgot")
ARMS = ("conditional_loss", "token_prior", "best_sources", "classifier", "dsir", "heuristics_c4")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A file, and the same prepared."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    path = folder / "my.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for k in range(150):
            text = " ".join(rng.choice(WORDS, rng.integers(20, 120)))
            file.write(json.dumps({"id": f"d{k}", "text": text, "source": "ab"[k % 2]}) + "\n")
    parts = text_data(
        corpus_from_path(str(path)), byte_tokenizer(), 128, fractions=FRACTIONS, minimum_tokens=32
    )
    return str(path), write_prepared(folder / "prepared", parts, byte_tokenizer(), 70)


def params(**bindings):
    common = {
        "split_fractions.train": 0.55, "split_fractions.outer": 0.15,
        "split_fractions.validation": 0.15, "split_fractions.test": 0.15,
        "text_data.minimum_tokens": 32, "META_STEPS": 2, "Workers.count": 0,
        "LanguageModelTrainer.steps": 4, "LanguageModelTrainer.batch_size": 8,
        "LanguageModelTrainer.evaluate_every": 2, "LanguageModelTrainer.jit_compile": False,
        "LanguageModelTrainer.evaluation_batch_size": 16,
    }  # fmt: skip
    return [f"--gin_param={name} = {value}" for name, value in {**common, **bindings}.items()]


def test_documents_are_made_of_windows_again(corpus):
    path, _ = corpus
    whole = corpus_from_path(path)
    parts = text_data(whole, byte_tokenizer(), 16, fractions=FRACTIONS, minimum_tokens=1)
    found, wanted = WindowDocuments(parts.train), split_documents(whole, FRACTIONS)["train"]
    assert len(found) == len(wanted)
    for one, same in zip(found, wanted):
        assert one == same
    assert found[7] == wanted[7]


@pytest.mark.long
def test_an_evaluation_gives_the_same_figures(corpus, tmp_path):
    path, prepared = corpus
    bindings = params(**{
        "evidence.rater": "'damaged_prose'", "evidence.meta_training_flops": 1e9,
        "evidence.more_arms": ARMS, "evidence.discard_fraction": 0.5, "evidence.sweep": (),
        "SEEDS": (0,), "evidence.with_target": 0.2, "evidence.equal_tokens": True,
        "small/language_model.width": 8, "medium/language_model.width": 12,
        "language_model.layer_count": 1, "small/language_model.layer_count": 1,
        "medium/language_model.layer_count": 1, "evidence.test_size": 48,
        "tuning_trainer.steps": 2,
    })  # fmt: skip
    known = []
    for given in path, prepared:
        base_dir = str(tmp_path / str(len(known)))
        arguments = ["--gin_file=experiments/evidence_minutes.gin", f"--base_dir={base_dir}"]
        assert evaluate.main([*arguments, f"--input={given}", *bindings]) == 0
        known.append(Results.load(f"{base_dir}/results.json"))
    for size, same in zip(*(found.sizes for found in known), strict=True):
        assert size.arms.keys() == same.arms.keys()
        for name, arm in size.arms.items():
            assert arm.curves == same.arms[name].curves, name
            assert arm.budget == same.arms[name].budget, name
    assert set(ARMS) <= known[0].sizes[0].arms.keys()
    kept = sorted(file.name for file in (tmp_path / "1" / "kept").iterdir())
    assert kept == sorted(file.name for file in (tmp_path / "0" / "kept").iterdir())


@pytest.mark.long
def test_a_quick_start_filters_and_compares(corpus, tmp_path):
    _, prepared = corpus
    bindings = params(**{
        "language_model.layer_count": 1, "language_model.width": 8,
        "text_rater.width": 8, "text_rater.layer_count": 1, "MetaTrainer.jit_compile": False,
        "MetaTrainer.inner_batch_size": 4, "MetaTrainer.outer_batch_size": 4,
        "MetaEvaluation.jit_compile": False, "MetaEvaluation.updates": 2,
        "MetaEvaluation.batch_size": 4, "judge.repeats": 1, "judge.updates": 2,
        "compare_filtered.seeds": (0,),
    })  # fmt: skip
    arguments = ["--input", prepared, "--base_dir", str(tmp_path / "run"), "--anyway", *bindings]
    assert quickstart.main(arguments) == 0
    found = Results.load(tmp_path / "run" / "results.json")
    assert list(found.sizes[0].arms) == ["unfiltered", "random", "rater"]
    assert found.corpus.parts["train"].documents > 60
    assert {shown["source"] for shown in found.findings["extremes"]["Rated lowest"]} <= {"a", "b"}
    assert (tmp_path / "run" / "filtered" / "manifest.json").exists()
