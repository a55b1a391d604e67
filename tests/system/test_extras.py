"""Training, serving and pipelines run without the extra `study`, which comparisons ask for."""

import configparser
import os
from pathlib import Path
import subprocess
import sys

from packaging.requirements import Requirement
import pytest

from dr_keras.data.formats.warc import WEB
from dr_keras.system.extras import NEAR_DUPLICATES, STUDY

ROOT = Path(__file__).resolve().parents[2]
BLOCK = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {tuple(STUDY)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])

sys.meta_path.insert(0, Absent())
"""
PROGRAM = """
import os, pathlib, tempfile
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
from dr_keras import load_rater, top_k
from dr_keras.config import configuration
from dr_keras.errors import ConfigurationError
from dr_keras.runs.meta_training import meta_train

folder = pathlib.Path(tempfile.mkdtemp())
for name in ("paper_c4", "paper_c4_noclean"):
    configuration.parse(f"experiments/{name}.gin", "VOCABULARY_FILE = 'a.model'")
configuration.parse(
    ["runs/meta_train.gin", "models/text_tiny.gin", "data/bytes.gin"],
    [
        "DATA = @text_data", "text_data.corpus = @embedded_corpus()", "SEQUENCE_LENGTH = 16",
        "RATER = @text_rater", "INNER_MODEL = @language_model", "META_STEPS = 1",
        "embedded_corpus.packages = ('gin',)", "MetaTrainer.population_size = 1",
        "MetaTrainer.inner_batch_size = 4", "MetaTrainer.outer_batch_size = 4",
        "MetaEvaluation.updates = 1", "MetaEvaluation.batch_size = 4",
        "MetaEvaluation.validation_size = 4", "MetaEvaluation.jit_compile = False",
        "MetaTrainer.jit_compile = False", "MetaTrainer.unroll_length = 1",
        "language_model.layer_count = 1", "text_rater.layer_count = 1",
    ],
)
meta_train(folder)
assert (folder / "metrics.jsonl").exists()
rater = load_rater("savedmodels/damaged_prose")
texts = tf.data.Dataset.from_tensor_slices(["a line of text", "another"] * 4)
kept = list(texts.apply(top_k(rater, 0.5, 2)))
assert [batch.shape[0] for batch in kept] == [2, 2]
assert not NAMES & {name.partition(".")[0] for name in sys.modules}
try:
    configuration.parse([], "meta_train.callback_fns = [@ScoreAgainstCorruption]")
except ConfigurationError as error:
    assert "pip install 'dr_keras[study]'" in str(error), error
else:
    raise AssertionError("a callback that draws was found without Matplotlib")
print("done")
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )


def test_meta_training_loading_and_top_k_need_none_of_it():
    ended = run(PROGRAM.replace("NAMES", repr(set(STUDY))))
    assert ended.stdout.endswith("done\n"), ended.stderr[-3000:]


@pytest.mark.parametrize("command", ["quickstart", "evaluate", "retraining_study"])
def test_comparisons_ask_for_it_before_they_start(command, tmp_path):
    code = f"from dr_keras.commands import {command} as command; sys.exit(command.main())"
    ended = run(code, "--base_dir", str(tmp_path / "run"))
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "error: scikit-learn, SciPy, Jinja2, Matplotlib cannot be imported (No module named"
        " 'sklearn'): pip install 'dr_keras[study]'."
    ]
    assert not (tmp_path / "run").exists()


def test_setup_lists_what_is_asked_for():
    setup = configparser.RawConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    listed = [Requirement(line).name for line in extras["study"].split("\n") if line]
    assert listed == [name.lower() for name in STUDY.values()]
    near = [line for line in extras["near_duplicates"].split("\n") if line]
    assert [Requirement(line).name for line in near] == list(NEAR_DUPLICATES.values())
    assert set(near) <= set(extras["test"].split("\n"))
    assert set(WEB.values()) <= {Requirement(line).name for line in extras["web"].split() if line}
    assert "dr_keras[study]" in extras["test"].split("\n")
    assert not set(listed) & {
        Requirement(line).name
        for line in setup["options"]["install_requires"].split("\n")
        if line and not line.startswith("#")
    }
