"""docs/examples/curated_training.py, on a corpus and a target that are told apart at a glance."""

import importlib.util
import json
from pathlib import Path
import random
import re

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "docs/examples/curated_training.py"

pytestmark = pytest.mark.long


def write(path, source, letters, count, generator):
    with open(path, "w") as file:
        for _ in range(count):
            text = "".join(generator.choices(letters, k=1500))
            file.write(json.dumps({"text": text, "source": source}) + "\n")


def test_the_rater_keeps_what_is_like_the_target(tmp_path, capsys):
    generator = random.Random(0)
    (tmp_path / "corpus").mkdir()
    write(tmp_path / "corpus/a.jsonl", "words", "abc de", 60, generator)
    write(tmp_path / "corpus/b.jsonl", "digits", "0123456789", 60, generator)
    write(tmp_path / "target.jsonl", "target", "abc de", 40, generator)
    spec = importlib.util.spec_from_file_location("curated_training", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    target = str(tmp_path / "target.jsonl")
    module.main(["--input", str(tmp_path / "corpus"), "--target", target, "--steps", "160"])
    printed = capsys.readouterr().out
    losses = dict(re.findall(r"^(plain|curated) +(\d+\.\d+) nats", printed, re.M))
    assert float(losses["curated"]) < float(losses["plain"])
    kept = dict(re.findall(r"^kept of (\w+) +(\d+\.\d+)$", printed, re.M))
    assert float(kept["words"]) > float(kept["digits"])
    with pytest.raises(SystemExit):
        module.main(["--input", "x"])
    assert "--input and --target go together" in capsys.readouterr().err
