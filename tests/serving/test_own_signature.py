"""A signature of one's own: registered with a kind, and in every artefact of it from then on."""

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ConfigurationError
from dr_keras.serving import export
from dr_keras.serving.export import write_artefact
from dr_keras.serving.signatures import RaterKind, Signature
from dr_keras.serving.text import TextKind

TEXT = tf.TensorSpec([None], tf.string, name="text")


class LengthKind(TextKind):
    """Derived, so that what is registered here is in no artefact of other tests."""


@LengthKind.signature("serve_length")
def serve_length(rater, served, references):
    def function(text):
        return {"length": tf.strings.length(text), "score": served.function(text)["score"]}

    return Signature(function, [TEXT], {"text": np.array([b"four"], object)})


def test_one_registration_is_enough(live_rater, references, by_definition, tmp_path):
    kind = LengthKind(live_rater, byte_tokenizer(), 16)
    path = write_artefact(kind, tmp_path, references[0])
    signatures = tf.saved_model.load(path).signatures
    texts = [b"ab", b"three"]
    outputs = signatures["serve_length"](text=tf.constant(texts))
    assert outputs["length"].numpy().tolist() == [2, 5]
    np.testing.assert_allclose(outputs["score"], by_definition(texts), rtol=1e-5)
    assert {"serving_default", "serve_tokens", "serve_tf_examples"} < set(signatures)
    if export.can_warm_up():
        records = tf.data.TFRecordDataset(f"{path}/{export.WARMUP}")
        assert any(b"serve_length" in record.numpy() for record in records)


def test_other_kinds_do_not_have_it(live_rater, references):
    kind = TextKind(live_rater, byte_tokenizer(), 16)
    found = kind.signatures(export.References(references[0], references[0]))
    assert "serve_length" not in found
    assert [name for name, one in found.items() if one.core] == ["serve_tokens", "serve_scores"]


@pytest.mark.parametrize(
    "kind, name",
    [(LengthKind, "serve_length"), (TextKind, "serving_default"), (RaterKind, "get_metadata")],
)
def test_a_name_that_is_taken_is_refused(kind, name):
    with pytest.raises(ConfigurationError, match=f"{name}' already"):
        kind.signature(name)
