"""Artefacts load in TensorFlow 2.15 to 2.21: what their graphs are made of is held fixed.

operations_of_raters.json lists the operations that raters of bytes use, each with the attributes
that TensorFlow 2.15.1 knows of it (`op_def_registry.get(name).attr` there). An operation or
attribute that is not listed is one to try in that version, by the long test, before it is added.
"""

import json
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from dr_keras.config.gin_files import packaged_folder
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.models.convolutional_rater import convolutional_rater
from dr_keras.models.ngram_rater import ngram_rater
from dr_keras.models.text_models import text_rater
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.export import export_rater
from dr_keras.serving.loading import load_rater
from dr_keras.serving.portable import SIGNATURE
from dr_keras.serving.signatures import References
from dr_keras.serving.text import TextKind

KNOWN = json.loads(Path(__file__).with_name("operations_of_raters.json").read_text())
SHIPPED = packaged_folder("savedmodels") / "damaged_prose" / "1"
S = 16
REFERENCE = ReferenceDistribution(np.linspace(-1, 1, 5, dtype=np.float32))
STUDENTS = {
    "n-grams": lambda: ngram_rater(258, S, (1, 3), buckets=64, width=4, hidden=3),
    "network": lambda: convolutional_rater(258, S, width=4),
}
# What the rater that ships does without.
FURTHER = {
    **STUDENTS,
    "recomputed": lambda: text_rater(
        258, S, width=8, heads=2, layer_count=2, recompute_blocks=True
    ),
}


def used(graph) -> dict[str, set[str]]:
    """The operations of a graph and of its functions, with attributes that are not the default."""
    library = graph.library.function
    own = {function.signature.name for function in library}
    found: dict[str, set[str]] = {}
    for node in (*graph.node, *(node for function in library for node in function.node_def)):
        if node.op in own:
            continue
        defaults = {
            attr.name: attr.default_value
            for attr in op_def_registry.get(node.op).attr
            if attr.HasField("default_value")
        }
        said = {name for name, value in node.attr.items() if value != defaults.get(name)}
        found.setdefault(node.op, set()).update(n for n in said if not n.startswith("_"))
    return found


def new(found: dict[str, set[str]]) -> dict:
    return {op: more for op, attrs in found.items() if (more := attrs - set(KNOWN.get(op, ["-"])))}


def test_the_list_is_what_raters_are_made_of():
    model = saved_model_pb2.SavedModel.FromString((SHIPPED / "saved_model.pb").read_bytes())
    assert model.meta_graphs[0].meta_info_def.stripped_default_attrs  # an older one reads the rest
    shipped = used(model.meta_graphs[0].graph_def)
    assert new(shipped) == {} and set(shipped) <= set(KNOWN)
    all_used = set(shipped)
    for make in FURTHER.values():
        signatures = TextKind(make(), byte_tokenizer(), S).signatures(
            References(REFERENCE, REFERENCE)
        )
        served = tf.function(signatures[SIGNATURE].function, autograph=False)
        graph = served.get_concrete_function(*signatures[SIGNATURE].inputs).graph.as_graph_def()
        found = used(graph)
        assert new(found) == {} and set(found) <= set(KNOWN)
        all_used |= set(found)
    assert set(KNOWN) == all_used  # nothing is listed that is not used


PROGRAM = """
import json, sys
import tensorflow as tf
assert tf.__version__ == "2.15.1"
texts, tokens, paths = json.load(sys.stdin)
found = []
for path in paths:
    served = tf.saved_model.load(path).signatures
    results = [
        served["serving_default"](text=tf.constant(texts)),
        served["serve_scores"](tokens=tf.constant(tokens)),
        served["serve_tokens"](tokens=tf.constant(tokens), padding_mask=tf.constant([[True]])),
        served["keep_probability"](
            text=tf.constant(texts), discard_fraction=tf.constant(0.5, tf.float64),
            batch_size=tf.constant(8)),
    ]
    found.append([{name: t.numpy().tolist() for name, t in each.items()} for each in results])
print(json.dumps(found))
"""


@pytest.mark.long
def test_tensorflow_2_15_scores_alike(tmp_path):
    """The rater that ships and both students, in an environment of their own (1.6 GB)."""
    python = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if python is None:
        pytest.skip("TensorFlow 2.15.1 needs Python 3.11, and there is none")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "tensorflow==2.15.1"]
    if (made := subprocess.run(install, capture_output=True, text=True)).returncode:
        pytest.skip(f"TensorFlow 2.15.1 cannot be installed: {made.stderr.strip()[-200:]}")
    paths = [str(SHIPPED)]
    for name, make in STUDENTS.items():
        model, rng = make(), np.random.default_rng(0)
        model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
        paths.append(export_rater(model, byte_tokenizer(), S, tmp_path / name, REFERENCE))
    texts = ["short", "", "A text that has several windows of sixteen bytes.", "\N{SNOWMAN}" * 9]
    tokens = np.random.default_rng(1).integers(2, 258, (5, S)).astype(int).tolist()
    ran = subprocess.run(
        [python, "-c", PROGRAM],
        input=json.dumps([texts, tokens, paths]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    for path, (of_text, scores, of_tokens, kept) in zip(paths, json.loads(ran.stdout)):
        rater = load_rater(path)
        chance = rater.keep_probability(tf.constant(texts), 0.5, 8)
        here = rater.score_tokens(np.array(tokens, np.int32))
        for found, expected in ((of_text, rater(tf.constant(texts))), (kept, chance)):
            assert set(found) == set(expected)
            for name, values in found.items():
                np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-5)
        for name, values in of_tokens.items():
            np.testing.assert_allclose(values, here[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scores["score"], here["score"], rtol=1e-4, atol=1e-5)
