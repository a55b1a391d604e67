"""Standard streams that are closed, full, or cannot show a character; in processes of their own."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PRINTS = "print(chr(0xB1), chr(0x2192), chr(0xDCFF))"


def run(main, redirect="", *arguments, **environment):
    """Runs a command whose main is `main`, through a shell; TensorFlow is not imported."""
    program = (
        "import os, sys; from dr_keras.commands import common\n"
        f"sys.exit(common.run(lambda argv: {main}))\n"
    )
    return subprocess.run(
        ["bash", "-c", f'"$0" -c "$@" {redirect}', sys.executable, program, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "", **environment},
        capture_output=True,
        cwd="/",
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("main", [PRINTS, "print('x', flush=True)", "print('x' * 100000)"])
def test_full_standard_output(main, unbuffered):
    result = run(main, ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert result.returncode == 2
    assert result.stderr.startswith(b"error: standard output: No space left on device; make room")
    assert result.stderr.count(b"\n") == 1


def test_help_to_a_full_device():
    main = "common.argument_parser('x').parse_args()"
    result = run(main, ">/dev/full", "--help")
    assert result.returncode == 2 and result.stderr.count(b"\n") == 1
    assert result.stderr.startswith(b"error: standard output: No space left")


def test_closed_streams():
    opened = "print('x') or print('y', file=sys.stderr) or os.open('/dev/null', 0) > 2 and 7"
    for redirect in (">&-", ">&- 2>&-", ">&- 2>&- <&-"):
        result = run(opened, redirect)
        assert (result.returncode, result.stdout) == (7, b"")
        assert result.stderr == (b"y\n" if redirect == ">&-" else b"")


def test_an_error_that_nobody_can_be_told():
    main = "open('/no/such/file')"
    for redirect in ("2>/dev/full", "2>&-"):
        assert run(main, redirect).returncode == 2


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_ascii_terminals(environment):
    result = run(PRINTS, **environment)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == b"\\xb1 \\u2192 \\udcff\n"


def test_a_broken_pipe_of_something_else_is_a_defect():
    main = "(_ for _ in ()).throw(BrokenPipeError(32, 'Broken pipe'))"
    result = run(main)
    assert result.returncode == 1 and b"Traceback" in result.stderr


def test_arguments_that_are_not_utf8():
    result = run("0", "", os.fsdecode(b"a\xff.jsonl"))
    assert result.returncode == 2
    assert result.stderr.startswith(b"error: 'a\\udcff.jsonl' is not UTF-8, and TensorFlow")
    assert result.stderr.count(b"\n") == 1


def test_the_traceback_is_there_for_whoever_asks():
    result = run("open('/no/such/file')")
    assert result.stderr == (
        b"error: /no/such/file: No such file or directory; check the name and that the folder it"
        b" lies in is there\n"
    )
    result = run("open('/no/such/file')", DR_KERAS_TRACEBACK="1")
    assert result.returncode == 2 and result.stderr.startswith(b"Traceback")
    assert b"\nerror: /no/such/file: " in result.stderr
