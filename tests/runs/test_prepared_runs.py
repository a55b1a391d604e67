"""Meta-training on a prepared corpus: the same rater as from memory, and rows alone are read."""

import functools
import json

import numpy as np
from prepared_corpora import write_prepared
import pytest
import tensorflow as tf

from dr_keras.commands import common, flags
from dr_keras.data.columns import Column
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.prepare import text_data
from dr_keras.data.prepared import prepared_data
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.models.losses import next_token_loss
from dr_keras.models.text_models import language_model, text_rater
from dr_keras.runs.experiment import experiment
from dr_keras.runs.meta_training import meta_train
import gin

LENGTH = 16
BINDINGS = """
    MetaTrainer.inner_optimizer = @adam()
    MetaTrainer.outer_optimizer = @OuterAdam()
    MetaTrainer.jit_compile = False
    MetaTrainer.population_size = 1
    MetaTrainer.unroll_length = 1
    MetaTrainer.inner_batch_size = 4
    MetaTrainer.outer_batch_size = 4
"""


def documents(skipped):
    for k in range(1000):
        yield make_document(f"document {k}: {k % 7 * 'some text '}", f"source {k % 5}")


@pytest.fixture(scope="module")
def parts():
    fractions = {"train": 0.7, "outer": 0.1, "validation": 0.1, "test": 0.1}
    corpus = Corpus("main", documents)
    return text_data(corpus, byte_tokenizer(), LENGTH, fractions=fractions)


@pytest.fixture
def prepared(parts, tmp_path):
    return write_prepared(tmp_path / "prepared", parts, byte_tokenizer(), 700)


def setup_of(parts):
    models = (
        functools.partial(make, 258, LENGTH, width=4, layer_count=1, heads=1)
        for make in (text_rater, language_model)
    )
    return experiment(parts, *models, next_token_loss)


def test_three_meta_steps_are_those_of_memory(parts, prepared, tmp_path, monkeypatch):
    most = []
    for kind in Column.__subclasses__():

        def read(self, rows, plain=kind.read):
            most.append(len(rows))
            return plain(self, rows)

        monkeypatch.setattr(kind, "read", read)
    gin.parse_config(BINDINGS)
    raters = {}
    for name, data in {"memory": parts, "files": prepared_data(prepared)}.items():
        setup = setup_of(data)
        trainer = meta_train(tmp_path / name, setup, meta_steps=3, evaluate=False)
        raters[name] = [v.numpy() for v in tf.nest.flatten(trainer.variables())]
        assert max(most, default=0) < len(parts.train) // 2
    assert most and len(raters["files"]) == len(raters["memory"])
    for one, same in zip(*raters.values()):
        np.testing.assert_array_equal(one, same)
    metrics = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in raters]
    for line, same in zip(*metrics, strict=True):
        line, same = json.loads(line), json.loads(same)
        assert {k: v for k, v in line.items() if "second" not in k and "wait" not in k} == {
            k: v for k, v in same.items() if "second" not in k and "wait" not in k
        }
    with pytest.raises(CheckpointError, match="holds a run on other data"):
        meta_train(tmp_path / "memory", setup_of(prepared_data(prepared)), meta_steps=4)


def bound(argv):
    parser = common.ArgumentParser("A sample.", base_dir=False)
    flags.add_input(parser, "compare_filtered.corpus")
    flags.add_target(parser)
    from dr_keras.runs import experiment  # noqa: F401  makes names known

    common.parse_gin(parser.parse_args(argv), "experiments/quickstart_input.gin")


def test_a_prepared_corpus_is_named_by_its_folder(prepared, tmp_path):
    bound(["--input", prepared, "--gin_param=SEQUENCE_LENGTH = 16"])
    data = gin.get_bindings("experiment")["data"]()
    assert len(data.train) and isinstance(data.train.features["tokens"], Column)
    gin.clear_config()
    bound(["--input", prepared])
    with pytest.raises(ConfigurationError, match="set SEQUENCE_LENGTH = 16"):
        prepared_data()
    for flag, given in ("--target", str(tmp_path)), ("--group_field", "page"):
        gin.clear_config()
        with pytest.raises(ConfigurationError, match=f"prepared already.*{flag} would come too"):
            bound(["--input", prepared, flag, given])
    gin.clear_config()
    with pytest.raises(ConfigurationError, match="DATA is given a value, and nothing uses"):
        bound(["--input", prepared, "--gin_file=data/bytes.gin", "--gin_param=SEQUENCE_LENGTH=9"])
    gin.clear_config()
    (tmp_path / "raw.jsonl").write_text('{"text": "some"}\n')
    bound(["--input", str(tmp_path / "raw.jsonl")])
    assert gin.get_bindings("text_data")["corpus"].name == "raw"
