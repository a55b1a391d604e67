"""The command, and the facts of the machine that runs the tests."""

from importlib import metadata
import json
import os
import subprocess
import sys

import pytest
import test_findings

from dr_keras.commands import doctor
from dr_keras.commands.doctor_checks import machine, probe
from dr_keras.commands.doctor_checks.findings import OK, PROBLEM, WARNING, Finding


def test_the_facts_of_this_machine():
    facts = machine.gather()
    assert not [name for name, fact in facts.items() if isinstance(fact, dict) and "error" in fact]
    assert facts["versions"]["numpy"] == metadata.version("numpy")
    assert facts["requirements"]["python"].startswith(">=3.11")
    assert set(facts["requirements"]["packages"]) >= {"tensorflow", "keras", "gin-config"}
    assert all(there == of == 3 for there, of in facts["tensorflow_files"].values())
    assert facts["memory"]["total"] > 1e9 and facts["cores"]["usable"] >= 1
    assert facts.keys() == test_findings.GOOD.keys() - {"probe"}


def test_files_that_another_wheel_wrote_are_noticed(tmp_path):
    for name, content in (("a", b"of a"), ("b", b"of b")):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
        digest = machine.hashlib.sha256(content).digest()
        sum64 = machine.base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        (folder / "RECORD").write_text(f"shared.py,sha256={sum64},4\n")
    (tmp_path / "shared.py").write_bytes(b"of b")
    found = {
        d.metadata["Name"]: machine._is_as_recorded(d.files[0])
        for d in metadata.distributions(path=[str(tmp_path)])
    }
    assert found == {"a": False, "b": True}


def test_secrets_are_not_shown(monkeypatch):
    monkeypatch.setenv("TF_VAR_password", "secret")
    monkeypatch.setenv("XLA_FLAGS", "--x")
    facts = machine.gather()["environment"]
    assert facts["XLA_FLAGS"] == "--x" and "secret" not in facts.values()


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    assert machine._folder(str(tmp_path / "file"))["error"] == "Not a directory"
    found = machine._folder(str(tmp_path))
    assert "error" not in found and found["free"] > 0 and os.listdir(tmp_path) == ["file"]


def test_a_process_that_ends_early_tells_how_far_it_came():
    output = b'{"begin": "tensorflow"}\n{"name": "tensorflow", "value": 1, "seconds": 2.0}\n'
    assert probe.read(output + b'{"begin": "keras"}\nnoise{') == {
        "steps": {"tensorflow": {"value": 1, "seconds": 2.0}},
        "ended": None,
        "during": "keras",
    }


@pytest.mark.parametrize(
    "program, ended, log",
    [
        ("import os, sys; sys.stderr.write('oh'); sys.stderr.flush(); os.abort()", "SIGABRT", "oh"),
        ("raise SystemExit(3)", "status 3", ""),
        ("import time; time.sleep(60)", "it did not answer in time", ""),
    ],
)
def test_a_library_that_ends_the_process(monkeypatch, program, ended, log):
    real = subprocess.run
    monkeypatch.setattr(
        probe.subprocess, "run", lambda command, **a: real([sys.executable, "-c", program], **a)
    )
    found = probe.ask(seconds=1)
    assert (found["ended"], found["log"], found["steps"]) == (ended, log, {})


@pytest.fixture
def machines(monkeypatch):
    def put(facts):
        monkeypatch.setattr(machine, "gather", lambda: {**facts})
        monkeypatch.setattr(probe, "ask", lambda: facts["probe"])

    return put


def test_status_and_last_line(machines, capsys):
    machines(test_findings.GOOD)
    assert doctor.main([]) == 0
    assert capsys.readouterr().out.endswith("\nall is well\n")
    machines(test_findings.changed(("environment", "OMP_NUM_THREADS", "99")))
    assert doctor.main([]) == 0
    assert capsys.readouterr().out.endswith("\n1 warning\n")
    machines(test_findings.changed(("versions", "keras", None), ("python", "version", "3.10.1")))
    assert doctor.main([]) == 1
    assert capsys.readouterr().out.endswith("\n2 problems\n")


def test_another_backend_is_a_finding_and_no_refusal(machines, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    machines(test_findings.changed(("environment", "KERAS_BACKEND", "jax")))
    assert doctor.main([]) == 1
    assert "unset KERAS_BACKEND" in capsys.readouterr().out


def test_json(machines, capsys):
    machines(test_findings.changed(("versions", "keras", None)))
    assert doctor.main(["--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {"level", "about", "text", "fix"} == found["findings"][0].keys()
    assert [one["about"] for one in found["findings"] if one["level"] == PROBLEM] == ["packages"]
    assert found["facts"]["versions"]["tensorflow"] == "2.21.0"


def test_lines():
    found = [
        Finding(OK, "a", "fine"),
        Finding(WARNING, "b", "word " * 20, "pip install " + "x" * 60),
    ]
    lines = doctor.text(found, 60).splitlines()
    assert lines[0] == "ok       a                  fine"
    assert lines[1] == "warning  b                  word word word word word word"
    assert lines[-3].endswith(" " + "x" * 60), "what is to be copied is not cut"
    assert lines[-2:] == ["", "1 warning"]


def test_it_runs_where_nothing_is_installed(tmp_path):
    """Without site-packages: neither gin, TensorFlow nor numpy."""
    steps = {name: {"error": "ModuleNotFoundError: x"} for name in probe.STEPS}
    program = (
        "import sys\n"
        "from dr_keras.commands import doctor\n"
        "from dr_keras.commands.doctor_checks import probe\n"
        f"probe.ask = lambda: {{'steps': {steps}, 'ended': None, 'during': None}}\n"
        "sys.exit(doctor.main(['--json']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(machine._ROOT)}
    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == ""
    wrong = [one for one in json.loads(done.stdout)["findings"] if one["level"] == PROBLEM]
    assert [one["about"] for one in wrong] == ["packages", "TensorFlow", "tensorflow-text"]
    assert "gin-config, numpy" in wrong[0]["text"]


@pytest.mark.long
def test_on_this_machine():
    command = [sys.executable, "-m", "dr_keras", "doctor", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(machine._ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    found = json.loads(done.stdout)
    assert done.returncode == 0, found["findings"]
    assert found["facts"]["probe"]["steps"].keys() == probe.STEPS.keys()


@pytest.mark.parametrize(
    "files, share",
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({}, None),
    ],
)
def test_the_containers_share_of_the_cores(monkeypatch, files, share):
    def read_text(path, encoding):
        name = str(path).removeprefix("/sys/fs/cgroup/")
        if name not in files:
            raise FileNotFoundError(name)
        return files[name]

    monkeypatch.setattr(machine.pathlib.Path, "read_text", read_text)
    assert machine._cores().get("share") == share
