"""The rater in savedmodels/, and the command that makes it."""

from pathlib import Path
import re

import build_savedmodel  # of tools/
import numpy as np
import pytest

import dr_keras
from dr_keras.errors import ArtefactError
from dr_keras.serving.loading import load_rater, shipped_raters
import gin

ROOT = Path(__file__).resolve().parents[2]

CLEAN = [
    "Return a list of the names in the current local scope.",
    "If the file cannot be opened, an error is raised and nothing is written.",
    "The keys of the dictionary are strings, and its values are lists of numbers.",
    "This method is called once for every line that has been read from the input.",
]
DAMAGED = [
    "R#turn q l1st of zhe nxmes in tqe cur7ent loc$l scqpe.",
    "IÃ¢â‚¬â„¢f thÃ© filÃ© cannÃ³t bÃ© opÃ©nÃ©d, an Ã©rror is raisÃ©d.",
    "12.5 0.001 33 9 41 7.25 0 1 1 0 99 1024 3.1 0 0 18",
    "Tke kfys ov thu dictmonary ari strnngs, ang itz valueq arx lisbs of nuybers.",
]


@pytest.fixture(scope="module")
def rater():
    assert "damaged_prose" in shipped_raters()
    return load_rater("damaged_prose")


def test_it_is_small_and_tells_damaged_from_clean_prose(rater):
    assert sum(rater.metadata["files"].values()) < 800_000
    clean, damaged = rater(CLEAN)["percentile"], rater(DAMAGED)["percentile"]
    assert np.median(clean) > 0.6 and np.median(damaged) < 0.2
    assert clean.mean() > damaged.mean() + 0.3


def test_it_says_where_it_is_from(rater):
    training = rater.metadata["training"]
    assert training["meta_step"] == 300
    assert "SEQUENCE_LENGTH = 128" in training["gin_config"]
    assert "MetaTrainer.unroll_length = 2" in training["operative_config"]
    assert len(training["data_fingerprint"]) == 64
    assert rater.reference.sample_size > 10_000


def test_the_other_one_ranks_prose_above_code():
    """As its card says: a sentence high, a line of code low, whatever it says."""
    rater = load_rater("explaining_prose")
    assert sum(rater.metadata["files"].values()) < 300_000
    assert rater.metadata["training"]["meta_step"] == 100
    code = [
        "def read(self, size=-1):\n    if self._closed:\n        raise ValueError(self.name)\n",
        "for key, value in sorted(self._table.items()):\n    out.append((key, value[0], None))",
        "x = np.zeros((4, 4)); y = x.T @ x + 1e-3 * np.eye(4); assert y.shape == x.shape",
    ]
    prose, lines = rater(CLEAN)["percentile"], rater(code)["percentile"]
    assert prose.min() > lines.max() + 0.1


def test_its_card_says_what_its_metadata_says():
    card = (ROOT / "savedmodels/explaining_prose/README.md").read_text(encoding="utf-8")
    training = load_rater("explaining_prose").metadata["training"]
    gain = re.search(r"gains (\S+ ± \S+) on", training["chosen"])[1]
    assert gain in card and "## Where it fails" in card
    losses = dict(training["meta_evaluations"])
    assert f"{losses[training['meta_step']]:.3f}" in card
    block = re.search(r"^    import dr_keras\n    (dr_keras.*)$", card, re.M)[1]
    high, low = eval(block, {"dr_keras": dr_keras})["percentile"]
    assert high > low


def test_the_readme_shows_what_it_prints(capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Score a text\n")[2].partition("\n## ")[0]
    blocks, lines = [], []
    for line in [*section.splitlines(), "end"]:
        if line.startswith("    "):
            lines.append(line[4:])
        elif lines:
            blocks, lines = [*blocks, lines], []
    program, printed = blocks[:2]
    assert len(program) == 3
    exec(compile("\n".join(program), "README.md", "exec"), {})
    found, shown = capsys.readouterr().out.split("\n")[0], printed[0]
    numbers = [np.array(line.strip("[]").split(), float) for line in (found, shown)]
    np.testing.assert_allclose(*numbers, atol=2e-3)


def test_a_name_that_does_not_ship_is_told_those_that_do():
    with pytest.raises(ArtefactError, match="comes with dr_keras .*damaged_prose"):
        load_rater("dammaged_prose")


def test_a_folder_takes_the_place_of_another(tmp_path):
    source, target = tmp_path / "export" / "3", tmp_path / "shipped" / "name" / "1"
    for folder, name in ((source / "variables", "new"), (target, "left over")):
        folder.mkdir(parents=True)
        (folder / name).touch()
    build_savedmodel.replace_folder(source, target)
    assert [path.name for path in target.parent.iterdir()] == ["1"]
    assert [path.name for path in target.rglob("*")] == ["variables", "new"]


@pytest.mark.long
def test_the_command_puts_a_rater_in_place_of_the_old_one(tmp_path, capsys):
    (tmp_path / "mine.jsonl").write_text(
        "\n".join(f'{{"text": "Document {i} says {i * i} in so many words."}}' for i in range(300))
    )
    settings = {
        "CORPUS": "@jsonl_corpus()",
        "jsonl_corpus.path": f"'{tmp_path / 'mine.jsonl'}'",
        "SEQUENCE_LENGTH": "16",
        "language_model.layer_count": "1",
        "text_rater.layer_count": "1",
        "MetaTrainer.unroll_length": "1",
        "MetaTrainer.population_size": "1",
        "MetaTrainer.inner_batch_size": "4",
        "MetaTrainer.outer_batch_size": "4",
        "meta_train.evaluate": "False",
        "META_STEPS": "1",
    }
    arguments = ["--name", "tiny", "--base_dir", str(tmp_path / "run")]
    arguments += ["--output_dir", str(tmp_path / "shipped")]
    for name, value in settings.items():
        arguments += ["--gin_param", f"{name} = {value}"]
    old = tmp_path / "shipped" / "tiny" / "1"
    old.mkdir(parents=True)
    (old / "left over").touch()
    assert build_savedmodel.main(arguments) == 0
    assert f"{tmp_path}/shipped/tiny: " in capsys.readouterr().out
    rater = load_rater(tmp_path / "shipped" / "tiny")
    assert rater.sequence_length == 16 and rater.metadata["training"]["meta_step"] == 1
    assert np.isfinite(rater("Document")["score"])
    assert sorted(path.name for path in old.parent.iterdir()) == ["1"]
    assert not (old / "left over").exists()
    gin.clear_config()
