#!/usr/bin/env python3
"""Asks a rater behind TensorFlow Serving about texts, by REST, with Python's own library alone.

    docs/examples/serving_client.py --url http://localhost:8501/v1/models/rater < texts.jsonl
    docs/examples/serving_client.py --url ... --keep 0.5 < texts.jsonl > better.jsonl

Standard input has one JSON object a line, its text under "text". Every line is printed with `score`
and `percentile`; with --keep only those of at least this percentile are, as they came.
"""

import argparse
import base64
from collections.abc import Iterable, Iterator, Sequence
import http.client
import itertools
import json
import sys
import urllib.error
import urllib.request

TEXTS = 64  # in a request: one forward pass of the rater has a few hundred windows


def predict(url: str, texts: Sequence[str], timeout: float = 60.0) -> list[dict[str, float]]:
    """`score` and `percentile` of every text.

    Args:
      url: of the model, http://HOST:8501/v1/models/NAME, or .../versions/N of one version.
      texts: any; sent as bytes, so that nothing in them is taken for anything else.
      timeout: seconds.

    Raises:
      RuntimeError: the server cannot be reached, or refuses the request; says why.
    """
    rows = [{"b64": base64.b64encode(text.encode()).decode()} for text in texts]
    body = json.dumps({"signature_name": "serving_default", "instances": rows}).encode()
    request = urllib.request.Request(
        f"{url}:predict", body, {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        said = error.read().decode("utf-8", "replace")
        raise RuntimeError(f"{url} refuses the request ({error.code}): {said}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # of the URL, or no JSON
        raise RuntimeError(f"{url} cannot be reached: {error}") from error


def rated(url: str, records: Iterable[dict]) -> Iterator[tuple[dict, dict[str, float]]]:
    """Yields each record with what the rater says of its text."""
    records = iter(records)
    while batch := list(itertools.islice(records, TEXTS)):
        yield from zip(batch, predict(url, [record["text"] for record in batch]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="http://HOST:8501/v1/models/NAME")
    parser.add_argument("--keep", type=float, help="the least percentile of what is printed")
    arguments = parser.parse_args(argv)
    records = (json.loads(line) for line in sys.stdin if line.strip())
    try:
        for record, rating in rated(arguments.url, records):
            if arguments.keep is None:
                print(json.dumps({**record, **rating}, ensure_ascii=False))
            elif rating["percentile"] >= arguments.keep:
                print(json.dumps(record, ensure_ascii=False))
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
