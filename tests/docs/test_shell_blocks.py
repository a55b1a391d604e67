"""Commands that the pages show: their own parsers take them, all gin included, and some run."""

import json
import os
from pathlib import Path
import random
import re
import shlex
import shutil
import subprocess
import sys

import blocks
import pytest

from dr_keras.__main__ import verbs
from dr_keras.commands import common
from dr_keras.config import configuration
from dr_keras.errors import CheckpointError
from dr_keras.system import extras

VERBS = verbs()
# Their own tests have the modules that these pages have their readers write.
ELSEWHERE = ("your_own_data.md",)
# What a reader has by then, in the folder from which the commands of a page are called.
FILES = {
    "mine.gin": """include 'experiments/quickstart_input.gin'
META_STEPS = 2
meta_train.judged = False
meta_train.evaluate = False
MetaTrainer.unroll_length = 1
MetaTrainer.inner_batch_size = 4
MetaTrainer.outer_batch_size = 4
""",
    "my_tokens.gin": "include 'runs/prepare.gin'\nSEQUENCE_LENGTH = 128\n",
}


def verb_lines() -> list[tuple[str, str]]:
    """(place, command) of every call of dr-keras that is shown whole."""
    found = []
    for block in blocks.of_kind("shell"):
        for line in blocks.commands(block.text) if block.page.name not in ELSEWHERE else ():
            if line.startswith("dr-keras ") and " ..." not in line and "<" not in line:
                found.append((f"{block.place}+{len(found)}", line))
    return found


LINES = verb_lines()


class Parsed(BaseException):
    """All that a command was told has been read; it is not to start."""


@pytest.fixture
def before_work(monkeypatch, tmp_path):
    """Verbs end where they have read their flags and all bindings."""
    parse_flags, parse = common.ArgumentParser.parse_args, configuration.parse

    def parse_args(self, args=None, namespace=None):
        arguments = parse_flags(self, args, namespace)
        if not hasattr(arguments, "gin_params") or getattr(arguments, "topology", None):
            raise Parsed  # there is nothing else to read, or the compiler is asked for first
        return arguments

    def parse_all(*arguments, **named):
        parse(*arguments, **named)
        raise Parsed

    monkeypatch.setattr(common.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(configuration, "parse", parse_all)
    monkeypatch.setattr(common, "_require_folder", lambda path: None)
    # A reader has what a page says to install; whoever runs the tests may not.
    monkeypatch.setattr(extras, "_require", lambda libraries, advice: None)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("place, line", LINES, ids=[place for place, _ in LINES])
def test_the_verb_takes_the_command(place, line, before_work):
    _, name, *arguments = shlex.split(re.sub(r"\s[>|].*", "", line))
    verb = VERBS[name]
    parser = common.ArgumentParser("", f"dr-keras {name}", **verb.needs)
    # A verb that reads what a run recorded looks for the run before it parses that.
    with pytest.raises((Parsed, CheckpointError)):
        verb.function(parser, arguments)


def test_marks_name_tests_that_are_there():
    named = [block for page in blocks.PAGES for block in blocks.blocks(page) if block.reason]
    assert len(named) > 60
    tests = [name for block in named for name in re.findall(r"tests/[\w/.]*\w", block.reason)]
    assert [name for name in tests if not (blocks.ROOT / name).exists()] == []


# ------------------------------------------------------------------------------------ run


def texts(count: int, start: int = 0) -> str:
    lines = (
        {"text": f"Entry {n} of the log says that {n * n} lines were read, and {n % 7} left out."
                 " Whoever reads it should know what that means for the next one.", "page": n}
        for n in range(start, start + count)
    )  # fmt: skip
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Corpora, a target, and a run of one meta-step with its export."""
    folder = tmp_path_factory.mktemp("reader")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("my.jsonl", "corpus/a.jsonl", "data/news.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(texts(600), encoding="utf-8")
    draw = random.Random(0)  # as many words as a vocabulary of a page has
    words = ["".join(draw.choices("abcdefghijklmnop", k=8)) for _ in range(20_000)]
    lines = (json.dumps({"text": " ".join(draw.choices(words, k=100))}) for _ in range(2000))
    (folder / "data/news.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "good.jsonl").write_text(texts(300, start=5000), encoding="utf-8")
    run = (
        "dr-keras meta-train --base_dir runs/mine --gin_file mine.gin --input corpus/"
        " --gin_param 'META_STEPS = 1'"
    )
    call(folder, run)
    call(folder, "dr-keras export-rater --base_dir runs/mine")
    return folder


def call(folder: Path, line: str) -> None:
    """Runs a line of the shell in which dr-keras is this checkout's."""
    environment = {**os.environ, "PYTHONPATH": os.fspath(blocks.ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    line = re.sub(r"^dr-keras ", f"{shlex.quote(sys.executable)} -m dr_keras ", line)
    done = subprocess.run(
        line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.long
@pytest.mark.parametrize("block", blocks.of_kind("shell", run=True), ids=lambda block: block.place)
def test_commands_run(block, folder, tmp_path):
    place = tmp_path / "reader"
    shutil.copytree(folder, place)
    if "meta-train" in block.text:
        shutil.rmtree(place / "runs")  # which it makes
    for line in blocks.commands(block.text):
        call(place, line)
