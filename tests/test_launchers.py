"""./tools/quickstart and ./tools/test on machines of many kinds, played by a stand-in for Python.

The stand-in is a shell script that answers what the launcher asks of an interpreter; nothing is
installed and no network is used. PATH holds only it and the tools that any Unix has.
"""

import fnmatch
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNIX_TOOLS = [
    "sh",
    "env",
    "cat",
    "tail",
    "sed",
    "awk",
    "grep",
    "cut",
    "df",
    "cksum",
    "dirname",
    "mkdir",
    "rm",
    "cp",
    "chmod",
    "sleep",
    "touch",
]

# Behaviour is set by variables: FAKE_VERSION, FAKE_NO_ENSUREPIP, FAKE_INSTALLED (an environment
# that has dr_keras), FAKE_NO_VENV, FAKE_PIP (fail or slow). Commands go to $FAKE_LOG.
FAKE_PYTHON = r"""#!/bin/sh
case "$*" in
*platform.python_version*) echo "$FAKE_VERSION" ;;
*'sys.version_info[:2]'*)
    case $FAKE_VERSION in 3.11.*|3.12.*|3.13.*) exit 0 ;; *) exit 1 ;; esac ;;
*'import venv, ensurepip'*) [ -z "$FAKE_NO_ENSUREPIP" ] ;;
*'import pip, gin, numpy'*) [ -e "$(dirname "$0")/../installed" ] ;;
*'import pip'*) exit 0 ;;
'- runtime '*|'- test '*) cat >/dev/null; [ -n "$FAKE_INSTALLED" ] ;;
'-m venv '*)
    echo venv >>"$FAKE_LOG"
    if [ -n "$FAKE_NO_VENV" ]; then echo 'Error: ensurepip is not available' >&2; exit 1; fi
    mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
'-m pip check') exit 0 ;;
'-m pip '*install*)
    wanted=''
    for last; do case $last in tensorflow*) wanted="$last " ;; esac; done
    echo "install $wanted$last" >>"$FAKE_LOG"
    case $FAKE_PIP in
    fail) echo 'ERROR: no matching distribution' >&2; exit 1 ;;
    slow) echo 'Collecting tensorflow'; sleep 60 ;;
    esac
    touch "$(dirname "$0")/../installed" ;;
'-m dr_keras quickstart'*|'-m pytest'*)
    echo "ran: $*"; echo "with: $0"; echo "path: $PYTHONPATH"; exit "${FAKE_STATUS:-0}" ;;
'-m ruff'*|'-m mypy'*) echo "style: $*"; exit "${FAKE_STYLE:-0}" ;;
*) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


class Machine:
    """A checkout of its own with the launchers, and a PATH with the stand-ins that a test names."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.checkout = folder / "a checkout"  # A blank in the path must not matter.
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.bin.mkdir()
        shutil.copytree(ROOT / "tools", self.checkout / "tools")
        for name in ("setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, self.checkout)
        for name in UNIX_TOOLS:
            (self.bin / name).symlink_to(shutil.which(name))
        self.environment = {"PATH": str(self.bin), "FAKE_LOG": str(self.log)}

    def add_python(self, name: str, version: str, **settings: str) -> None:
        lines = [f"export {key}={value}" for key, value in settings.items()]
        exports = "\n".join([f"export FAKE_VERSION={version}", *lines])
        path = self.bin / name
        path.write_text(FAKE_PYTHON.replace("#!/bin/sh", f"#!/bin/sh\n{exports}"))
        path.chmod(0o755)

    def command(self, launcher: str, *arguments: str) -> list[str]:
        return [str(self.checkout / "tools" / launcher), *arguments]

    def run(self, launcher: str, *arguments: str, **environment: str):
        return subprocess.run(
            self.command(launcher, *arguments),
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def done(self) -> list[str]:
        """What was asked of pip and venv so far; forgotten after this call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_a_fresh_checkout_makes_its_environment_once(machine):
    machine.add_python("python3", "3.12.4")
    first = machine.run("quickstart", "--input", "my file.jsonl")
    assert first.returncode == 0, first.stderr
    assert machine.done() == ["venv", f"install {machine.checkout}[study]"]
    assert "Python 3.12.4" in first.stderr and "about 2.5 GB" in first.stderr
    assert first.stdout.splitlines() == [
        "ran: -m dr_keras quickstart --input my file.jsonl",
        f"with: {machine.checkout}/.venv/bin/python",
        f"path: {machine.checkout}",
    ]
    second = machine.run("quickstart")
    assert second.returncode == 0 and second.stderr == ""
    assert machine.done() == []


def test_the_tests_add_what_they_need_and_pytest_has_the_last_word(machine):
    machine.add_python("python3", "3.12.4")
    machine.run("quickstart")
    machine.done()
    result = machine.run("test", "--long", "-k", "adam", FAKE_STATUS="1")
    assert machine.done() == [f"install {machine.checkout}[test]"]
    ran = "ran: -m pytest -n 2 --dist loadfile -m long -k adam"
    assert result.stdout.splitlines()[0] == ran
    assert result.returncode == 1
    result = machine.run("test", "--kill", "tests/meta")
    assert result.stdout.splitlines()[0] == ran.replace("long -k adam", "kill tests/meta")
    machine.run("quickstart")
    assert machine.done() == [], "the tests' environment serves for running, too"


STYLE = ["style: -m ruff format --check --quiet", "style: -m ruff check --quiet", "style: -m mypy"]


@pytest.mark.parametrize(
    "arguments, wrong, wanted, status",
    [
        ([], "0", [*STYLE, "ran: -m pytest -n 2 --dist loadfile"], 0),
        ([], "1", [*STYLE, "ran: -m pytest -n 2 --dist loadfile"], 1),
        (["--style"], "0", STYLE, 0),
        (["--style"], "1", STYLE, 1),
        (["tests/meta"], "1", ["ran: -m pytest -n 2 --dist loadfile tests/meta"], 0),
    ],
)
def test_the_style_comes_first_and_fails_the_command(machine, arguments, wrong, wanted, status):
    machine.add_python("python3", "3.12.4", FAKE_INSTALLED="yes")
    result = machine.run("test", *arguments, FAKE_STYLE=wrong)
    lines = [line for line in result.stdout.splitlines() if line.startswith(("style", "ran"))]
    assert (lines, result.returncode) == (wanted, status)
    said_so = "the style is not as pyproject.toml has it" in result.stderr
    assert said_so == bool(status)


def test_failing_tests_keep_their_status_after_the_style(machine):
    machine.add_python("python3", "3.12.4", FAKE_INSTALLED="yes")
    assert machine.run("test", FAKE_STATUS="3").returncode == 3


def allowed_tensorflows():
    """Minor versions that setup.cfg allows."""
    text = (ROOT / "setup.cfg").read_text()
    first, end = re.search(r"^    tensorflow>=2\.(\d+),<2\.(\d+)$", text, re.M).groups()
    return [f"2.{minor}" for minor in range(int(first), int(end))]


@pytest.mark.parametrize("tensorflow", allowed_tensorflows())
def test_each_tensorflow_that_is_allowed_has_an_environment_of_its_own(machine, tensorflow):
    machine.add_python("python3", "3.12.4", FAKE_INSTALLED="yes")
    result = machine.run("test", "--tensorflow", tensorflow, "--long", "-k", "adam")
    assert result.returncode == 0, result.stderr
    requirement = f"tensorflow=={tensorflow}.*"
    assert machine.done() == ["venv", f"install {requirement} {machine.checkout}[test]"]
    assert result.stdout.splitlines()[:2] == [
        "ran: -m pytest -n 2 --dist loadfile -m long -k adam",
        f"with: {machine.checkout}/.venv-tf{tensorflow}/bin/python",
    ]
    assert not (machine.checkout / ".venv").exists()
    machine.run("test", "--tensorflow", tensorflow)
    assert machine.done() == [], "it is made once"


@pytest.mark.parametrize("given", [[], ["2.19"], ["tests/meta"]])
def test_a_tensorflow_that_is_not_allowed_is_refused(machine, given):
    machine.add_python("python3", "3.12.4")
    result = machine.run("test", "--tensorflow", *given)
    assert result.returncode == 2 and machine.done() == []
    allowed = " or ".join(allowed_tensorflows())
    assert f"error: --tensorflow {''.join(given)}: it must be {allowed}," in result.stderr


def test_the_tpu_compiler_is_installed_where_its_tests_run(machine):
    machine.add_python("python3", "3.12.4", FAKE_INSTALLED="yes")
    result = machine.run("test", "--aot", "-x")
    assert machine.done() == ["venv", f"install {machine.checkout}[test,aot]"]
    assert "about 4.2 GB" in result.stderr
    assert result.stdout.splitlines()[:2] == [
        "ran: -m pytest -n 2 --dist loadfile -m long tests/precompile -x",
        f"with: {machine.checkout}/.venv-aot/bin/python",
    ]


def test_environments_of_the_checkout_are_not_committed():
    names = [".venv", ".venv-aot", *(f".venv-tf{version}" for version in allowed_tensorflows())]
    lines = (ROOT / ".gitignore").read_text().splitlines()
    patterns = [line.strip("/") for line in lines if line.startswith("/")]
    for name in [*names, *(f"{name}-install.log" for name in names)]:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name


def test_a_change_of_setup_cfg_updates_the_environment(machine):
    machine.add_python("python3", "3.12.4")
    machine.run("test")
    machine.done()
    with open(machine.checkout / "setup.cfg", "a") as file:
        file.write("# changed\n")
    result = machine.run("test")
    assert "up to date" in result.stderr and result.returncode == 0
    assert machine.done() == [f"install {machine.checkout}[test]"]


def test_a_moved_checkout_makes_its_environment_anew(machine):
    machine.add_python("python3", "3.12.4")
    machine.run("quickstart")
    machine.done()
    machine.checkout = machine.checkout.rename(machine.checkout.parent / "moved")
    assert machine.run("quickstart").returncode == 0
    assert machine.done() == ["venv", f"install {machine.checkout}[study]"]


def test_an_environment_left_half_made_is_made_anew(machine):
    machine.add_python("python3", "3.12.4")
    failed = machine.run("quickstart", FAKE_PIP="fail")
    assert failed.returncode == 2
    assert "ERROR: no matching distribution" in failed.stderr
    assert f"{machine.checkout}/.venv-install.log" in failed.stderr
    assert failed.stdout == ""
    machine.done()
    assert machine.run("quickstart").returncode == 0
    assert machine.done() == ["venv", f"install {machine.checkout}[study]"]


def test_an_environment_that_does_not_run_is_made_anew(machine):
    machine.add_python("python3", "3.12.4")
    machine.run("quickstart")
    machine.done()
    (machine.checkout / ".venv/bin/python").write_text("#!/no/such/interpreter\n")
    result = machine.run("quickstart")
    assert result.returncode == 0, result.stderr
    assert machine.done() == ["venv", f"install {machine.checkout}[study]"]


def test_interruption_stops_pip_and_the_next_call_starts_over(machine):
    machine.add_python("python3", "3.12.4")
    process = subprocess.Popen(
        machine.command("quickstart"),
        env=machine.environment | {"FAKE_PIP": "slow"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that run in the background of a shell inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 20
    while not (machine.log.exists() and "install" in machine.log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # Ctrl-C goes to the whole foreground group.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in errors
    machine.done()
    assert machine.run("quickstart").returncode == 0
    assert machine.done() == ["venv", f"install {machine.checkout}[study]"]


def test_an_active_environment_with_dr_keras_is_used(machine):
    machine.add_python("python3", "3.12.4")
    machine.add_python("python", "3.11.2", FAKE_INSTALLED="yes")
    result = machine.run("quickstart")
    assert "using the active environment" in result.stderr
    assert f"with: {machine.bin}/python" in result.stdout
    assert machine.done() == []
    assert not (machine.checkout / ".venv").exists()


def test_an_environment_made_by_the_user_is_left_alone(machine):
    machine.add_python("python3", "3.12.4")
    (machine.checkout / ".venv").mkdir()
    (machine.checkout / ".venv" / "mine").touch()
    result = machine.run("quickstart")
    assert result.returncode == 2
    assert "was not made by this command, so it is left alone" in result.stderr
    assert machine.done() == []


def test_python_is_looked_for_under_its_versioned_names(machine):
    machine.add_python("python3", "3.10.13")
    machine.add_python("python3.13", "3.13.0", FAKE_NO_ENSUREPIP="yes")
    machine.add_python("python3.12", "3.12.1")
    assert "Python 3.12.1" in machine.run("quickstart").stderr


def test_a_python_too_old_or_too_new_is_refused_with_what_was_found(machine):
    machine.add_python("python3", "3.10.13")
    machine.add_python("python", "3.14.0")
    result = machine.run("quickstart")
    assert result.returncode == 2
    assert (
        "error: dr_keras needs Python 3.11, 3.12 or 3.13, and found none: "
        "python3 is 3.10.13, python is 3.14.0.\n"
    ) in result.stderr
    assert "PYTHON=/path/to/python3.12" in result.stderr


def test_no_python_at_all(machine):
    result = machine.run("test")
    assert result.returncode == 2
    assert "error: found no Python that runs." in result.stderr
    result = machine.run("test", PYTHON="/no/such/python")
    assert "found no Python that runs (PYTHON is set to /no/such/python)." in result.stderr


def test_a_python_without_venv_gets_a_word_on_what_to_install(machine):
    machine.add_python("python3", "3.11.2", FAKE_NO_ENSUREPIP="yes")
    result = machine.run("quickstart")
    assert result.returncode == 2
    assert "its venv or ensurepip module is missing" in result.stderr
    assert "sudo apt install python3.11-venv" in result.stderr


def test_a_venv_that_fails_is_shown_and_tried_again(machine):
    machine.add_python("python3", "3.11.2")
    result = machine.run("quickstart", FAKE_NO_VENV="yes")
    assert result.returncode == 2
    assert "Error: ensurepip is not available" in result.stderr
    assert "python3 -m venv failed; see above" in result.stderr
    assert machine.run("quickstart").returncode == 0


def test_the_python_that_is_named_is_the_one_that_is_used(machine):
    machine.add_python("python3", "3.11.2")
    machine.add_python("named python", "3.13.1")
    result = machine.run("quickstart", PYTHON=str(machine.bin / "named python"))
    assert "Python 3.13.1" in result.stderr


def test_a_full_disk_is_seen_before_the_download(machine):
    machine.add_python("python3", "3.12.4")
    (machine.bin / "df").unlink()
    (machine.bin / "df").write_text(
        "#!/bin/sh\necho header\necho '/dev/x 9999999 8999999 1024000 90% /'\n"
    )
    (machine.bin / "df").chmod(0o755)
    result = machine.run("quickstart")
    assert result.returncode == 2
    assert "needs 3500 MB of disk" in result.stderr and "has 1000 MB free" in result.stderr


def test_a_real_interpreter_without_dr_keras_is_told_apart(tmp_path):
    """The question put to an active environment, to the interpreter that runs this test."""
    question = f'has_installed "{sys.executable}" runtime && echo yes'
    script = f'. "{ROOT}/tools/environment.sh"; {question}'
    result = subprocess.run(
        ["sh", "-c", script],
        env={"root": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('dr_keras') is None)"
    installed = subprocess.run([sys.executable, "-c", code], cwd="/").returncode == 0
    assert (result.stdout == "yes\n") == installed, result.stderr


def test_the_readme_begins_with_both_commands_what_they_need_and_how_long_they_take():
    readme = (ROOT / "README.md").read_text()
    top = readme.split("\n## ")[1]
    for command in ("quickstart", "test"):
        assert re.search(rf"^    \./tools/{command} .* \d+ minutes", top, re.M), command
    for need in ("3.11, 3.12 or 3.13", "of free disk", "of memory", "package index"):
        assert need in " ".join(top.split()), need
    options = set(re.findall(r"tools/test (--[\w-]+)", readme))
    assert {"--long", "--kill", "--tensorflow", "--aot"} <= options
    launcher = (ROOT / "tools" / "test").read_text()
    for option in options:
        assert re.search(rf"^#.*tools/test {option} ", launcher, re.M), option


def test_ci_runs_the_tests():
    text = (ROOT / ".ci" / "run").read_text()
    assert "tools/test" in text
    for name in (".ci/run", "tools/test", "tools/quickstart"):
        assert os.access(ROOT / name, os.X_OK), f"{name} is not executable"
