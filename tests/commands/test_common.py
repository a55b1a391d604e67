"""Exit status and words of verbs, and their standard streams: closed, full, without a character."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from dr_keras.commands import common, flags
from dr_keras.errors import ConfigurationError, DataError
import gin

ROOT = Path(__file__).resolve().parent.parent.parent
PRINTS = "print(chr(0xB1), chr(0x2192), chr(0xDCFF))"


@gin.configurable(module="test_common")
def sample_step(size, rate=gin.REQUIRED):
    if rate == "bad":
        raise DataError("corpus.jsonl line 3: not JSON. Repair it.")
    return size


def run_sample(argv):
    arguments = common.ArgumentParser("A sample.").parse_args(argv)
    common.parse_gin(arguments)
    print(arguments.base_dir, sample_step())


def test_flags_are_handed_to_gin(capsys, tmp_path):
    path = tmp_path / "a.gin"
    path.write_text("sample_step.size = 3\n")
    argv = ["--base_dir", "somewhere", "--gin_file", str(path)]
    argv += ["--gin_param", "sample_step.rate = 1", "--gin_param=sample_step.size = 4"]
    assert common.run(run_sample, argv) == 0
    assert capsys.readouterr().out == "somewhere 4\n"


def target_of(argv):
    """What `text_data.target` is with the quick start's gin file and flags."""
    parser = common.ArgumentParser("A sample.", base_dir=False)
    flags.add_target(parser)
    common.parse_gin(parser.parse_args(argv), "experiments/quickstart_input.gin")
    return gin.query_parameter("%TARGET"), gin.get_bindings("text_data")


def test_a_target_is_bound_for_all_that_read_text(tmp_path, capsys):
    for name in ("good", "better"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a", "page": 3}\n{"text": "b"}\n')
    good, better = str(tmp_path / "good.jsonl"), str(tmp_path / "better.jsonl.gz")
    os.rename(tmp_path / "better.jsonl", better)
    _, bound = target_of(["--target", good, "--group_field", "page"])
    target = bound["target"]
    assert target.name == "good" and [d.group for d in target.documents()] == ["3", ""]
    assert bound["corpus"] is None
    argv = ["--target", good, "--target", better, "--gin_param=jsonl_corpus.name = 'mine'"]
    target = target_of(argv)[1]["target"]
    assert target.name == "good + better"
    assert "2 targets: one rater for all of them together" in capsys.readouterr().err
    assert target_of([])[0] is None


def test_a_target_without_text_is_refused(capsys):
    argv = ["--target=x.jsonl", "--gin_file=experiments/mnist_corruption.gin"]
    with pytest.raises(ConfigurationError, match="--target splits text by @text_data, and nothing"):
        target_of(argv)


def test_flags_that_a_command_does_without():
    arguments = common.ArgumentParser("x", base_dir=False, gin=False).parse_args([])
    assert vars(arguments) == {"program_cache": None}
    with pytest.raises(SystemExit):
        common.ArgumentParser("x").parse_args([])


@pytest.mark.parametrize(
    "bindings, error",
    [
        (
            ["sample_step.size = 1"],
            "error: the configuration gives sample_step no value for 'rate'. "
            "Bind it in a gin file or with --gin_param 'sample_step.rate = ...'.\n",
        ),
        (
            ["sample_step.rate = 1"],
            "error: the configuration gives sample_step no value for 'size'. "
            "Bind it in a gin file or with --gin_param 'sample_step.size = ...'.\n",
        ),
        (
            ["sample_step.rate = 'bad'", "sample_step.size = 1"],
            "error: corpus.jsonl line 3: not JSON. Repair it.\n",
        ),
    ],
)
def test_errors_a_user_can_act_on_are_one_line(capsys, bindings, error):
    argv = ["--base_dir=x", *(f"--gin_param={binding}" for binding in bindings)]
    assert common.run(run_sample, argv) == 2
    assert capsys.readouterr() == ("", error)


def test_a_defect_keeps_its_traceback():
    def defect(argv):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        common.run(defect)


def test_interruption(capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    assert common.run(interrupted) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_status_of_main_is_kept():
    assert common.run(lambda argv: 3) == 3
    assert common.run(lambda argv: None) == 0


def test_another_keras_backend_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert common.run(run_sample, ["--base_dir", "x"]) == 2
    assert "KERAS_BACKEND is set to 'jax'" in capsys.readouterr().err


def test_start_is_quiet_and_a_closed_pipe_is_no_error():
    program = (
        "from dr_keras.commands import common\n"
        "import sys\n"
        "assert 'tensorflow' not in sys.modules\n"
        "common.ArgumentParser('', base_dir=False, gin=False).parse_args([])\n"
        "import keras_hub, tensorflow as tf\n"
        "tf.constant(1)\n"
        "def main(argv):\n"
        "    for _ in range(100_000): print('line')\n"
        "sys.exit(common.run(main))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout.readline() == b"line\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


def test_sigterm_cleans_up_and_gives_its_status():
    left = []

    def main(argv):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            left.append("cleaned up")

    with pytest.raises(SystemExit) as caught:
        common.run(main)
    assert caught.value.code == 128 + signal.SIGTERM and left == ["cleaned up"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_sigterm_handler_of_the_caller_stays():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        assert common.run(lambda argv: os.kill(os.getpid(), signal.SIGTERM)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


# The rest runs in processes of their own.


def run_in_shell(main, redirect="", *arguments, **environment):
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
    result = run_in_shell(main, ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert result.returncode == 2
    assert result.stderr.startswith(b"error: standard output: No space left on device; make room")
    assert result.stderr.count(b"\n") == 1


def test_help_to_a_full_device():
    main = "common.ArgumentParser('x').parse_args()"
    result = run_in_shell(main, ">/dev/full", "--help")
    assert result.returncode == 2 and result.stderr.count(b"\n") == 1
    assert result.stderr.startswith(b"error: standard output: No space left")


def test_closed_streams():
    opened = "print('x') or print('y', file=sys.stderr) or os.open('/dev/null', 0) > 2 and 7"
    for redirect in (">&-", ">&- 2>&-", ">&- 2>&- <&-"):
        result = run_in_shell(opened, redirect)
        assert (result.returncode, result.stdout) == (7, b"")
        assert result.stderr == (b"y\n" if redirect == ">&-" else b"")


def test_an_error_that_nobody_can_be_told():
    main = "open('/no/such/file')"
    for redirect in ("2>/dev/full", "2>&-"):
        assert run_in_shell(main, redirect).returncode == 2


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_ascii_terminals(environment):
    result = run_in_shell(PRINTS, **environment)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == b"\\xb1 \\u2192 \\udcff\n"


def test_a_broken_pipe_of_something_else_is_a_defect():
    main = "(_ for _ in ()).throw(BrokenPipeError(32, 'Broken pipe'))"
    result = run_in_shell(main)
    assert result.returncode == 1 and b"Traceback" in result.stderr


def test_arguments_that_are_not_utf8():
    result = run_in_shell("0", "", os.fsdecode(b"a\xff.jsonl"))
    assert result.returncode == 2
    assert result.stderr.startswith(b"error: 'a\\udcff.jsonl' is not UTF-8, and TensorFlow")
    assert result.stderr.count(b"\n") == 1


def test_the_traceback_is_there_for_whoever_asks():
    result = run_in_shell("open('/no/such/file')")
    assert result.stderr == (
        b"error: /no/such/file: No such file or directory; check the name and that the folder it"
        b" lies in is there\n"
    )
    result = run_in_shell("open('/no/such/file')", DR_KERAS_TRACEBACK="1")
    assert result.returncode == 2 and result.stderr.startswith(b"Traceback")
    assert b"\nerror: /no/such/file: " in result.stderr
