"""The artefact in a C program: the loader that TensorFlow Serving embeds, and no Python."""

from pathlib import Path
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dr_keras.data.tokenizers import wordpiece_tokenizer
from dr_keras.serving.export import export_rater

TEXTS = ["short", "", "a text of more than sixteen bytes, so that it has windows", "ünïcödé"]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("there is no C compiler (cc, gcc or clang) here")
    libraries = Path(tf.sysconfig.get_lib())
    if not (libraries / "libtensorflow_cc.so.2").exists():
        pytest.skip(f"this TensorFlow has no libtensorflow_cc.so.2 in {libraries}")
    output = tmp_path_factory.mktemp("program") / "score_rater"
    command = [compiler, str(Path(__file__).with_name("score_rater.c")), "-o", str(output)]
    command += ["-std=c11", "-I", tf.sysconfig.get_include(), f"-L{libraries}"]
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    command += [f"-Wl,-rpath,{libraries}"]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return output


def names(exported, signature, inputs):
    """Names of operations, as saved_model_cli shows them."""
    stored = saved_model_pb2.SavedModel.FromString((Path(exported) / "saved_model.pb").read_bytes())
    definition = stored.meta_graphs[0].signature_def[signature]
    outputs = [definition.outputs[name].name for name in ("score", "percentile")]
    return [definition.inputs[name].name for name in inputs] + outputs


def run(program, *arguments):
    result = subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return np.array([line.split() for line in result.stdout.splitlines()], np.float32)


def test_text_scores_alike_in_c(program, exported, loaded):
    found = run(program, exported, "text", *names(exported, "serving_default", ["text"]), *TEXTS)
    expected = loaded(TEXTS)
    np.testing.assert_allclose(found[:, 0], expected["score"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], expected["percentile"], rtol=0, atol=1e-4)
    assert len(set(found[:, 0])) == len(TEXTS)


def check_tokens(program, exported, live_rater, vocabulary_size):
    tokens = np.random.default_rng(5).integers(2, vocabulary_size, size=(3, 10))
    tokens[1, 4:] = 0
    operations = names(exported, "serve_tokens", ["tokens", "padding_mask"])
    found = run(program, exported, "tokens", *operations, *tokens.shape, *tokens.ravel())
    expected = live_rater({"tokens": tokens.astype(np.int32)})
    np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-6)


def test_tokens_score_alike_in_c(program, exported, live_rater):
    check_tokens(program, exported, live_rater, 258)


def test_tokens_of_a_subword_rater_need_nothing_but_core_operations(
    program, live_rater, references, tmp_path
):
    pytest.importorskip("tensorflow_text")
    vocabulary = tmp_path / "pieces.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[SEP]", "the", "cat"]))
    path = export_rater(
        live_rater, wordpiece_tokenizer(str(vocabulary)), 16, tmp_path / "export", references[0]
    )
    check_tokens(program, Path(path, "assets.extra/core/1"), live_rater, 5)


def test_a_directory_that_is_no_rater_is_an_error_in_c(program, tmp_path):
    arguments = [tmp_path, "text", "text:0", "score:0", "percentile:0", "x"]
    result = subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1 and "load: Could not find SavedModel" in result.stderr
