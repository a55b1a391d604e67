"""docs/examples/serving_client.py against a stand-in that speaks TensorFlow Serving's REST."""

import base64
import http.server
import importlib.util
import io
import json
from pathlib import Path
import threading

import numpy as np
import pytest
import tensorflow as tf

EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/serving_client.py"
TEXTS = ["A sentence.", "An0ther 0ne, läng.", ""] * 30  # more than a request has


@pytest.fixture(scope="module")
def client():
    spec = importlib.util.spec_from_file_location("serving_client", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server(loaded):
    """The row format of the predict API, over the artefact's signatures; and the sizes of requests.

    https://www.tensorflow.org/tfx/serving/api_rest, "Predict API" and "Encoding binary values".
    """
    sizes = []

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/models/rater:predict":
                self._answer(404, {"error": f"Servable not found: {self.path}"})
                return
            rows = [base64.b64decode(row["b64"]) for row in request["instances"]]
            sizes.append(len(rows))
            outputs = loaded.signatures[request["signature_name"]](text=tf.constant(rows))
            columns = {name: value.numpy().tolist() for name, value in outputs.items()}
            found = [dict(zip(columns, row)) for row in zip(*columns.values())]
            self._answer(200, {"predictions": found})

        def _answer(self, status, content):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Answering) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://localhost:{running.server_port}/v1/models/rater", sizes
        running.shutdown()


def run(client, url, *arguments, monkeypatch, capsys):
    lines = "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS))
    monkeypatch.setattr("sys.stdin", io.StringIO(lines + "\n"))
    status = client.main(["--url", url, *arguments])
    return status, capsys.readouterr()


def test_lines_get_the_scores_of_the_artefact(client, server, loaded, monkeypatch, capsys):
    url, sizes = server
    status, said = run(client, url, monkeypatch=monkeypatch, capsys=capsys)
    found = [json.loads(line) for line in said.out.splitlines()]
    expected = loaded.signatures["serving_default"](text=tf.constant(TEXTS))
    assert status == 0 and sizes == [64, 26]
    assert [row["text"] for row in found] == TEXTS
    for name in ("score", "percentile"):
        np.testing.assert_allclose([r[name] for r in found], expected[name].numpy(), rtol=1e-6)
    least = float(np.median(expected["percentile"].numpy()))
    status, said = run(client, url, "--keep", str(least), monkeypatch=monkeypatch, capsys=capsys)
    kept = [json.loads(line) for line in said.out.splitlines()]
    assert kept == [
        {"id": row["id"], "text": row["text"]} for row in found if row["percentile"] >= least
    ]
    assert 0 < len(kept) < len(TEXTS)


def test_what_a_server_says_is_told(client, server, monkeypatch, capsys):
    url, _ = server
    status, said = run(client, f"{url}s", monkeypatch=monkeypatch, capsys=capsys)
    assert status == 2 and "refuses the request (404)" in said.err and "not found" in said.err
    status, said = run(client, "http://localhost:1", monkeypatch=monkeypatch, capsys=capsys)
    assert status == 2 and said.err.startswith("error: http://localhost:1 cannot be reached")
