"""`dr-keras`: its verbs, the list of them, and what is no verb."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

from dr_keras import __main__ as command
from dr_keras import commands
from dr_keras.commands import common

ROOT = Path(__file__).resolve().parent.parent
VERBS = [
    "quickstart",
    "fit-rater",
    "distill",
    "meta-train",
    "train-curated",
    "meta-evaluate",
    "export-rater",
    "source-weights",
    "prepare",
    "score-corpus",
    "filter-corpus",
    "score-examples",
    "train-language-model",
    "retraining-study",
    "evaluate",
    "checkpoint-study",
    "learn-vocabulary",
    "precompile",
    "doctor",
]


def test_the_verbs():
    found = command.verbs()
    assert sorted(found) == sorted(VERBS)
    files = {name: verb.function.__module__.split(".")[-1] for name, verb in found.items()}
    assert files == {name: name.replace("-", "_") for name in found}


@pytest.mark.parametrize("flag", ["--help", "-h", "help"])
def test_help_lists_every_verb_once_below_its_task(capsys, flag):
    assert command.main([flag]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    task, seen = None, {}
    for line in lines[3:]:
        if line.startswith("  "):
            name, text = line.split(maxsplit=1)
            seen[name] = task, text
        elif line:
            task = line.rstrip(":")
    verbs = command.verbs()
    assert seen == {n: (v.task.value, v.text.splitlines()[0]) for n, v in verbs.items()}
    assert {task for task, _ in seen.values()} == {task.value for task in common.Task}


@pytest.mark.parametrize("name", VERBS)
def test_help_of_a_verb(capsys, name):
    for typed in (name, name.replace("-", "_")):
        with pytest.raises(SystemExit) as caught:
            command.main([typed, "--help"])
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: dr-keras {name} [-h]")


@pytest.mark.parametrize(
    "given, error",
    [
        (["filtr_corpus"], "'filtr_corpus' is no verb of dr-keras. Did you mean 'filter-corpus'?"),
        (["dr"], "'dr' is no verb of dr-keras."),
        (["--workers", "2"], "'--workers' is no verb of dr-keras."),
        ([], "dr-keras needs a verb."),
    ],
)
def test_what_is_no_verb_is_one_line_and_status_2(capsys, given, error):
    assert command.main(given) == 2
    assert capsys.readouterr() == ("", f"error: {error} `dr-keras --help` lists them.\n")


def test_a_verb_is_one_file_and_gets_its_arguments(tmp_path, monkeypatch, capsys):
    (tmp_path / "size_up.py").write_text(
        '"""Says a size."""\n\nfrom dr_keras.commands import common\n\n\n'
        '@common.verb("size-up", common.Task.MACHINE, __doc__, base_dir=False, tensorflow=False)\n'
        "def main(parser, argv):\n"
        '    parser.add_argument("--size", type=int)\n'
        "    return parser.parse_args(argv).size\n"
    )
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    assert command.main(["size_up", "--size", "7"]) == 7
    monkeypatch.setattr(sys, "argv", ["dr-keras", "size-up", "--size", "3"])
    assert command.main() == 3
    assert command.main(["--help"]) == 0
    assert "  size-up               Says a size.\n" in capsys.readouterr().out
    # a defect in another file is no reason for this one not to run
    (tmp_path / "broken.py").write_text("this is no Python")
    assert command.main(["size-up", "--size", "5"]) == 5


@pytest.mark.parametrize("file", ["common", "corpus_files", "doctor_checks"])
def test_other_files_beside_the_verbs_are_none(capsys, file):
    assert command.main([file]) == 2
    assert f"'{file}' is no verb of dr-keras." in capsys.readouterr().err


def started(*arguments, python=()):
    """`python -m ...` in a checkout, without what is installed in this environment where asked."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *python, "-m", *arguments],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
    )


def test_lists_and_refusals_take_nothing_that_is_installed():
    """Without site-packages there is neither TensorFlow nor gin: so none is waited for."""
    done = started("dr_keras", "--help", python=["-S"])
    assert (done.returncode, done.stderr) == (0, "") and "  doctor " in done.stdout
    assert started("dr_keras", "doctor", "--help", python=["-S"]).returncode == 0
    done = started("dr_keras", "docter", python=["-S"])
    assert done.returncode == 2 and "Did you mean 'doctor'?" in done.stderr


def test_the_file_of_a_verb_says_how_it_is_started():
    done = started("dr_keras.commands.filter_corpus", "--help")
    assert done.returncode == 2
    assert done.stderr == "error: this is started as: python -m dr_keras filter-corpus\n"
