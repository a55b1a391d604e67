"""Warm-up requests for TensorFlow Serving."""

import os

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.serving import export
from dr_keras.serving.export import export_rater
from dr_keras.serving.loading import load_rater


def test_every_request_runs_on_the_artefact_it_came_with(exported, loaded):
    pytest.importorskip("tensorflow_serving", reason="pip install dr_keras[serving] brings it")
    from tensorflow_serving.apis import prediction_log_pb2

    records = list(tf.data.TFRecordDataset(os.path.join(exported, export.WARMUP)))
    seen = {}
    for record in records:
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        name = request.model_spec.signature_name
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        seen[name] = loaded.signatures[name](**inputs)
        assert np.all(np.isfinite(seen[name]["score"]))
    assert sorted(seen) == [
        "keep_probability",
        "serve_tf_examples",
        "serve_tokens",
        "serving_default",
    ]
    assert loaded.metadata["files"]["assets.extra/tf_serving_warmup_requests"] > 0
    assert len(records) <= 1000  # what servers read at most


def test_without_the_messages_there_is_no_file_and_the_rater_loads(
    live_rater, references, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, "can_warm_up", lambda: False)
    path = export_rater(live_rater, byte_tokenizer(), 16, tmp_path, references[0])
    assert not os.path.exists(os.path.join(path, export.WARMUP))
    assert load_rater(path)("short")["score"].dtype == np.float32
