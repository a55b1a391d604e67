"""Programs that the pages show, a page in one process: each block after those above it."""

import json
import os
import subprocess
import sys

import blocks
import pytest

# What the text of a page takes for granted: where these programs begin.
BEFORE = {
    "docs/extensions/curated.md": """
import dr_keras
data = dr_keras.text_data(dr_keras.corpus_from_path("my.jsonl"), dr_keras.byte_tokenizer(), 128)
train, held_out, validation = data.train, data.outer, data.validation
""",
    "docs/pipelines.md": """
import keras, pathlib
pathlib.Path("runs/quickstart").mkdir(parents=True)
import dr_keras.config.gin_files as places
shipped = pathlib.Path(str(places.packaged_folder("savedmodels"))) / "damaged_prose"
pathlib.Path("runs/quickstart/export").symlink_to(shipped)
pathlib.Path("corpus.txt").write_text("A line of a corpus, read by itself.\\n" * 500)
""",
}
# Where a block needs more than is shown, before it; by the words that it begins with.
WITHIN = {
    'dataset.apply(dr_keras.top_k(rater, 0.5, 64, key="text"))': """
dataset = tf.data.Dataset.from_tensor_slices({"text": ["A line."] * 200})
""",
    "dataset.apply(dr_keras.top_k(rater, 0.5, 64, key=lambda": """
lines = dataset
dataset = tf.data.Dataset.from_tensors(({"tokens": tf.ones([128], tf.int32)}, 0)).repeat(200)
""",
    "model.fit(dataset.apply": """
dataset = lines.map(lambda line: (line["text"], tf.strings.length(line["text"])))
model = keras.Sequential([keras.layers.Lambda(tf.strings.length), keras.layers.Reshape((1,)),
                          keras.layers.Dense(1)])
model.compile("sgd", "mse")
""",
}
# Trainings of minutes, here of moments.
SHORTER = {
    "docs/extensions/curated.md": ("epochs=20, steps_per_epoch=200", "epochs=1, steps_per_epoch=2"),
    "docs/meta_training.md": ("meta_steps=200", "meta_steps=2"),
}
PAGES = {}
for _block in blocks.of_kind("python", run=True):
    PAGES.setdefault(str(_block.page.relative_to(blocks.ROOT)), []).append(_block)


def program(page: str) -> str:
    """The blocks of a page as one program."""
    parts = [BEFORE.get(page, "")]
    for block in PAGES[page]:
        parts += [text for begins, text in WITHIN.items() if block.text.startswith(begins)]
        parts.append(block.text)
    whole = "\n".join(parts)
    old, new = SHORTER.get(page, ("", ""))
    assert old in whole, f"{page} no longer has {old}"
    return whole.replace(old, new) if old else whole


@pytest.mark.parametrize("page", PAGES)
def test_programs_are_python(page):
    compile(program(page), page, "exec")


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_programs_run(page, tmp_path):
    with open(tmp_path / "my.jsonl", "w", encoding="utf-8") as file:
        for n in range(600):
            text = f"Entry {n} says that {n * n} lines were read, and that {n % 7} were left out."
            file.write(json.dumps({"text": f"{text} Whoever reads it should know."}) + "\n")
    environment = {**os.environ, "PYTHONPATH": os.fspath(blocks.ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program(page)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
