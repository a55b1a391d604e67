"""A study of checkpoints end to end, so small that its figures mean nothing."""

import numpy as np
import pytest

from dr_keras.commands import checkpoint_study as command
from dr_keras.errors import ConfigurationError
from dr_keras.studies.checkpoints import CheckpointStudy
from dr_keras.studies.results import Results

BINDINGS = {
    "META_STEPS": "4",
    "meta_train.steps_per_epoch": "1",
    "Workers.count": "0",
    "SEEDS": "(0, 1)",
    "INNER_MODELS": "{'4k': @narrow/language_model, '9k': @middle/language_model}",
    "checkpoint_study.checkpoints": "2",
    "checkpoint_study.test_size": "48",
    "damaged_corpus.corpus": "@jsonl_corpus()",
    "MetaTrainer.inner_batch_size": "4",
    "MetaTrainer.outer_batch_size": "4",
    "LanguageModelTrainer.steps": "4",
    "LanguageModelTrainer.batch_size": "8",
    "LanguageModelTrainer.evaluation_batch_size": "16",
    "LanguageModelTrainer.evaluate_every": "2",
    "LanguageModelTrainer.jit_compile": "False",
    "language_model.layer_count": "1",
    "language_model.width": "8",
    "narrow/language_model.width": "8",
    "middle/language_model.width": "16",
    "text_rater.layer_count": "1",
    "text_rater.width": "8",
    "checkpoint_study.tasks": "@jsonl_tasks()",
    "jsonl_tasks.items": "4",
}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    corpus = folder / "corpus.jsonl"
    text = "The river carried the quiet road, and nobody at all answered its own name "
    lines = [f'{{"text": "{k} times {text}", "source": "s{k % 2}"}}' for k in range(400)]
    corpus.write_text("\n".join(lines))
    question = '{{"question": "Number {0}?", "choices": ["it is {0}", "none"], "gold": 0}}'
    (folder / "toy_validation.jsonl").write_text("\n".join(map(question.format, range(6))))
    paths = {
        "jsonl_corpus.path": repr(str(corpus)),
        "jsonl_tasks.paths": repr(str(folder / "toy_validation.jsonl")),
    }
    return [
        "--gin_file=experiments/checkpoints_minutes.gin", f"--base_dir={folder / 'study'}",
        *(f"--gin_param={name} = {value}" for name, value in (BINDINGS | paths).items()),
    ]  # fmt: skip


@pytest.mark.long
def test_every_checkpoint_is_an_arm_and_a_second_call_trains_nothing(arguments, capsys):
    assert not command.main(arguments)
    said = capsys.readouterr().out
    folder = arguments[1].partition("=")[2]
    found = Results.load(f"{folder}/results.json")
    (size,) = found.sizes
    runs = found.findings["checkpoints"]
    assert list(runs) == ["4k", "9k"] and runs["9k"]["meta_steps"] == [2, 4]
    assert runs["4k"]["flops"] < runs["9k"]["flops"]
    made = ["4k@2", "4k@4", "9k@2", "9k@4"]
    assert list(size.arms) == ["unfiltered", "random", *made]
    assert found.protocol.candidate == "9k@4"
    assert "toy likelihood" in size.arms["9k@4"].metrics
    scores = {arm: np.load(f"{folder}/scores/{arm}.npy") for arm in made}
    assert not np.array_equal(scores["4k@2"], scores["4k@4"])
    assert not np.array_equal(scores["4k@4"], scores["9k@4"])
    assert "4k, meta-step 2" in said and "toy likelihood, higher by" in said
    page = open(f"{folder}/report.html").read()
    assert "Do raters get better" in page and "Whom does the choice favour?" in page
    assert not command.main(arguments)
    assert "steps in" not in capsys.readouterr().out  # no cell was trained
    again = Results.load(f"{folder}/results.json")
    assert again.sizes == found.sizes


def test_settings_that_cannot_be_are_refused():
    given = dict(inner_models={"a": lambda: None}, sizes={"b": lambda: None}, tokenizer=None)
    for changes, told in (
        ({"sizes": {}}, "checkpoint_study.sizes is empty"),
        ({"checkpoints": 0}, "checkpoints"),
        ({"inner_models": {"a@1": None}}, "'a@1' cannot"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            CheckpointStudy(**(given | changes))
