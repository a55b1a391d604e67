"""docs/your_own_data.md, followed by a stranger: its files, in an empty folder, as commands."""

import json
import os
from pathlib import Path
import re
import subprocess
import sys
import textwrap

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "your_own_data.md"


def run(folder, *command):
    """A process in `folder`, outside the package, that finds dr_keras by PYTHONPATH alone."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def command(folder, name, *arguments):
    return run(folder, "-m", "dr_keras", name, *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of the page, as it spells them."""
    folder = tmp_path_factory.mktemp("outside")
    page = PAGE.read_text(encoding="utf-8")
    for name in ("houses.py", "houses.gin", "look.py"):
        block = re.search(
            rf"`{re.escape(name)}`[^\n]*:\n\n(?:<!--.*-->\n\n)?((?:    .*\n|\n)+)", page
        )
        (folder / name).write_text(textwrap.dedent(block[1]), encoding="utf-8")
    return folder


def test_the_page_names_the_commands():
    page = PAGE.read_text(encoding="utf-8")
    for name in ("meta-train", "export-rater", "score-examples"):
        assert f"    dr-keras {name} " in page


@pytest.mark.long
def test_meta_train_export_and_score(folder):
    done = command(folder, "meta-train", "--base_dir", "run", "--gin_file", "houses.gin")
    assert done.returncode == 0, done.stderr
    assert "run: 150 meta-steps done" in done.stdout
    done = command(folder, "export-rater", "--base_dir", "run", "--gin_file", "houses.gin")
    assert done.returncode == 0 and "run/export/1" in done.stdout, done.stderr
    score = ("score-examples", "--rater", "run/export", "--gin_file", "houses.gin",
             "--output", "scores.jsonl")  # fmt: skip
    done = command(folder, *score)
    assert done.returncode == 0 and "scores.jsonl: 4000 examples" in done.stdout, done.stderr
    rows = [json.loads(line) for line in open(folder / "scores.jsonl")]
    assert [row["id"] for row in rows] == [f"flat-{n}" for n in range(4000)]
    assert all(0 <= row["percentile"] <= 1 for row in rows)
    manifest = json.loads((folder / "scores.jsonl.manifest.json").read_text())
    assert manifest["documents"] == 4000 and manifest["rater"]["fingerprint"]
    done = run(folder, "look.py")
    assert done.returncode == 0, done.stderr
    found = re.search(r"wrong among the lowest quarter: ([0-9.]+)", done.stdout)
    assert float(found[1]) > 0.6  # 30% of all prices are
    assert "(64,)\n(64, 6)" in done.stdout


MISTAKES = {
    "a mean loss": (
        'return tf.square(outputs - batch["price"])[:, 0]',
        'return tf.reduce_mean(tf.square(outputs - batch["price"]))',
        r"The loss price_error gave shape \(\) for \d examples: it must give one loss an example",
    ),
    "an id that repeats": (
        'f"flat-{row}" for row',
        'f"flat-{row % 3000}" for row',
        r"The id 'flat-0' of 'flats' repeats: rows 0 and 3000",
    ),
    "a batched dataset": (
        '"level": is_wrong.astype("float32"),               # for evaluation only\n    })',
        '"level": is_wrong.astype("float32"),\n    }).batch(8)',
        r"'id' of 'flats' has shape \(None,\): .*Is the dataset batched\?",
    ),
    "a wrong shape": (
        'x = keras.Input((6,), name="x")\n    hidden = keras.layers.Dense(32',
        'x = keras.Input((5,), name="x")\n    hidden = keras.layers.Dense(32',
        r"does not take the examples of 'flats' \(x: float32 \(6,\).*expected shape=\(None, 5\)|"
        r"does not take the examples of 'train' \(",
    ),
    "a layer that rounds": (
        'hidden = keras.layers.Dense(32, activation="silu")(x)\n    return',
        'hidden = keras.ops.round(keras.layers.Dense(32, name="wide")(x))\n    return',
        r"The weight 'wide/kernel' of the inner model .* changes the result but gets no gradient",
    ),
    "a NaN": (
        "price = np.where(is_wrong, rng.normal(0, 4, rows), price)",
        "price = np.where(np.arange(rows) == 12, np.nan, price)",
        r"The feature 'price' of 'flats' is not finite in 1 of 4000 rows, first in 'flat-12'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_get_a_plain_answer_before_any_work(name, folder, tmp_path, capsys, monkeypatch):
    """In this process, because a start costs seconds; the module has a name of its own."""
    from dr_keras.commands.meta_train import main

    before, after, message = MISTAKES[name]
    source = (folder / "houses.py").read_text(encoding="utf-8")
    assert source.count(before) == 1
    module = f"houses_{list(MISTAKES).index(name)}"
    (tmp_path / f"{module}.py").write_text(source.replace(before, after), encoding="utf-8")
    bindings = (folder / "houses.gin").read_text(encoding="utf-8").replace("houses", module)
    for function in ("flats", "checked_flats", "price_model", "price_rater", "price_error"):
        bindings = re.sub(rf"(@(?:\w+/)?){function}\b", rf"\1{module}.{function}", bindings)
        scoped = rf"^(\w+)/{function}\."
        bindings = re.sub(scoped, rf"\1/{module}.{function}.", bindings, flags=re.M)
    (tmp_path / "mine.gin").write_text(bindings, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["--base_dir", "run", "--gin_file", "mine.gin"]) == 2
    assert re.search(message, capsys.readouterr().err, re.S)
    assert not (tmp_path / "run" / "checkpoints").exists()
