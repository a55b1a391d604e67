"""The requests in docs/serving.md, run as they stand there."""

from concurrent import futures
from pathlib import Path
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str) -> list[str]:
    """The indented blocks of a page, dedented."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"(?:^(?:    .*)?\n)+", text, re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in found if block.strip()]


def block_with(page: str, words: str) -> str:
    (block,) = [block for block in blocks(page) if words in block]
    return block


def stand_in(loaded):
    """TensorFlow Serving's Predict, as far as the protocol goes, over the artefact's signatures."""
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class StandIn(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            inputs = {
                name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()
            }
            response = predict_pb2.PredictResponse()
            outputs = loaded.signatures[request.model_spec.signature_name](**inputs)
            for name, value in outputs.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

    return StandIn()


def test_the_grpc_request(loaded, capsys):
    pytest.importorskip("tensorflow_serving", reason="pip install dr_keras[serving] brings it")
    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    server = grpc.server(futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(stand_in(loaded), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    program = block_with("docs/serving.md", "import grpc").replace("8500", str(port))
    try:
        exec(compile(program, "docs/serving.md", "exec"), {})
    finally:
        server.stop(None)
    printed = np.array(capsys.readouterr().out.strip(" []\n").split(), float)
    expected = loaded(["A sentence.", "An0ther 0ne."])["percentile"]
    np.testing.assert_allclose(printed, expected, atol=1e-4)


def test_a_request_of_saved_model_cli(exported, loaded):
    command = block_with("docs/serving.md", "saved_model_cli run").replace("\\\n", "")
    lines = command.replace("runs/mine/export/1", str(exported)).splitlines()
    cli = Path(sys.executable).with_name("saved_model_cli")
    if not cli.exists():
        pytest.skip(f"this TensorFlow has no {cli}")
    result = subprocess.run(
        lines[1].replace("saved_model_cli", str(cli), 1),
        shell=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    printed = result.stdout.partition("Result for output key score:\n")[2].strip()
    found = np.array(printed.strip("[]").split(), float)
    expected = loaded(["A sentence.", "An0ther 0ne."])["score"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
