"""What is said of machines that are not this one: facts in, findings out."""

import copy

import pytest

from dr_keras.commands.doctor_checks.findings import CHECKS, OK, PROBLEM, WARNING, findings

GOOD = {
    "python": {"version": "3.11.7", "executable": "/venv/bin/python"},
    "versions": {
        "dr_keras": "0.1.0",
        "tensorflow": "2.21.0",
        "tensorflow-tpu": None,
        "tensorflow-text": "2.21.1",
        "keras": "3.15.1",
        "keras-hub": "0.32.0",
        "keras-nlp": "0.32.0",
        "numpy": "2.4.6",
        "libtpu": None,
        "apache-beam": None,
    },
    "requirements": {
        "python": ">=3.11,<3.14",
        "packages": {
            "tensorflow": ">=2.20,<2.22",
            "tensorflow-text": ">=2.20,<2.22",
            "keras": ">=3.15,<4",
            "keras-nlp": ">=0.32",
            "numpy": ">=2.1",
        },
    },
    "tensorflow_files": {"tensorflow": [3, 3]},
    "environment": {"KERAS_BACKEND": "tensorflow"},
    "memory": {"total": 32e9, "available": 16e9},
    "folders": {
        "temporary folder": {"path": "/tmp", "free": 9e9},
        "working folder": {"path": "/home/me", "free": 9e9},
    },
    "cores": {"machine": 8, "usable": 8},
    "nodes": [],
    "encoding": {"files": "utf-8", "output": "utf-8"},
    "probe": {
        "steps": {
            "tensorflow": {"value": {"version": "2.21.0", "file": "", "build": ["cuda"]}},
            "keras": {"value": {"version": "3.15.1", "backend": "tensorflow"}},
            "text": {"value": "2.21.1"},
            "devices": {"value": ["CPU"]},
            "threads": {"value": {"intra": 0, "inter": 0}},
            "xla": {"value": 7.0, "seconds": 0.2},
            "gin": {"value": 29},
            "rater": {"value": [1.2, 0.5]},
            "libtpu": {"value": None},
        },
        "ended": None,
        "during": None,
        "log": "",
    },
}


def changed(*changes):
    """GOOD with values at paths: ("versions", "keras", None), ..."""
    facts = copy.deepcopy(GOOD)
    for *path, name, value in changes:
        place = facts
        for part in path:
            place = place[part]
        place[name] = value
    return facts


def test_a_good_machine():
    found = findings(GOOD)
    assert {one.level for one in found} == {OK}
    shown = {one.about: one.text for one in found}
    assert shown["TensorFlow"] == "2.21.0, from the wheel tensorflow, built for cuda"
    assert shown["packages"] == "keras 3.15.1, keras-hub 0.32.0, keras-nlp 0.32.0, numpy 2.4.6"
    assert shown["optional: beam"].endswith("pip install 'dr_keras[beam]'")
    assert shown["optional: study"].startswith(
        "scikit-learn, scipy, jinja2, matplotlib not installed"
    )
    assert shown["threads"] == "8 of 8 cores; threads of an operation: one a core"
    assert shown["memory"] == "32.0 GB, 16.0 GB of them free"


BOTH = (
    ("versions", "tensorflow-tpu", "2.20.0"),
    ("versions", "libtpu", "0.0.17"),
    ("probe", "steps", "libtpu", {"value": {"path": "libtpu.so"}}),
)
ABORTED = {"steps": {}, "during": "tensorflow"}
NAMED = "tensorflow 2.21.0 and tensorflow-tpu 2.20.0"
ONLY = "--no-deps --force-reinstall"
WRONG = {
    "Python 3.10": (
        [("python", "version", "3.10.13")],
        (PROBLEM, "Python", "3.10.13 (/venv/bin/python), and dr_keras needs >=3.11,<3.14"),
        "python3.12 -m venv",
    ),
    "a package is missing": (
        [("versions", "keras", None), ("versions", "numpy", None)],
        (PROBLEM, "packages", "not installed: keras, numpy"),
        "pip install 'keras>=3.15,<4' 'numpy>=2.1'",
    ),
    "a package is old": (
        [("versions", "numpy", "1.26.4")],
        (PROBLEM, "packages", "numpy 1.26.4, and dr_keras needs >=2.1"),
        "pip install 'numpy>=2.1'",
    ),
    "TensorFlow is missing": (
        [("tensorflow_files", {}), ("probe", "steps", "tensorflow", {"error": "ModuleNotFound"})],
        (PROBLEM, "TensorFlow", "is not installed"),
        "pip install 'tensorflow>=2.20,<2.22'",
    ),
    "TensorFlow is old": (
        [("versions", "tensorflow", "2.19.1")],
        (PROBLEM, "TensorFlow", "tensorflow 2.19.1, and dr_keras needs >=2.20,<2.22"),
        "pip install 'tensorflow>=2.20,<2.22'",
    ),
    "TensorFlow was overwritten": (
        [("tensorflow_files", {"tensorflow": [1, 3]})],
        (PROBLEM, "TensorFlow", "the files of tensorflow 2.21.0 are not those that were installed"),
        f"pip install {ONLY} 'tensorflow==2.21.0'",
    ),
    "both wheels, TensorFlow's files, no TPU": (
        [*BOTH, ("tensorflow_files", {"tensorflow": [3, 3], "tensorflow-tpu": [1, 3]})],
        (WARNING, "TensorFlow", f"{NAMED} write the same folder"),
        f"without one: pip uninstall tensorflow-tpu, then pip install {ONLY} 'tensorflow==2.21.0'",
    ),
    "both wheels, TensorFlow's files, a TPU": (
        [
            *BOTH,
            ("tensorflow_files", {"tensorflow": [3, 3], "tensorflow-tpu": [1, 3]}),
            ("nodes", ["/dev/accel0"]),
        ],
        (PROBLEM, "TensorFlow", f"{NAMED} write the same folder"),
        f"pip install {ONLY} 'tensorflow-tpu==2.20.0'",
    ),
    "both wheels, a mixture": (
        [*BOTH, ("tensorflow_files", {"tensorflow": [2, 3], "tensorflow-tpu": [1, 3]})],
        (PROBLEM, "TensorFlow", "what lies there is a mixture of them"),
        f"for a TPU: pip install {ONLY} 'tensorflow-tpu==2.20.0'",
    ),
    "importing TensorFlow ends the process": (
        [
            ("versions", "libtpu", "0.0.30"),
            ("probe", {**ABORTED, "ended": "SIGABRT", "log": "a\nF000 b\n"}),
        ],
        (PROBLEM, "trying tensorflow", "ended the process (SIGABRT): F000 b"),
        "pip install --no-deps 'libtpu==0.0.17'",
    ),
    "an old processor": (
        [("probe", {**ABORTED, "ended": "SIGILL", "log": ""})],
        (PROBLEM, "trying tensorflow", "ended the process (SIGILL)"),
        "AVX",
    ),
    "TensorFlow cannot be imported": (
        [("probe", "steps", "tensorflow", {"error": "ImportError: libstdc++.so.6"})],
        (PROBLEM, "TensorFlow", "cannot be imported: ImportError: libstdc++.so.6"),
        f"pip install {ONLY} 'tensorflow==2.21.0'",
    ),
    "tensorflow-text is missing": (
        [("versions", "tensorflow-text", None)],
        (PROBLEM, "tensorflow-text", "is not installed"),
        "pip install --no-deps 'tensorflow-text==2.21.*'",
    ),
    "tensorflow-text of another minor version": (
        [("versions", "tensorflow-text", "2.20.1")],
        (PROBLEM, "tensorflow-text", "2.20.1 beside TensorFlow 2.21.0"),
        "pip install --no-deps 'tensorflow-text==2.21.*'",
    ),
    "tensorflow-text beside the TensorFlow that is imported": (
        [
            *BOTH,
            ("tensorflow_files", {"tensorflow": [1, 3], "tensorflow-tpu": [3, 3]}),
            ("probe", "steps", "tensorflow", {"value": {"version": "2.20.0", "build": []}}),
        ],
        (PROBLEM, "tensorflow-text", "2.21.1 beside TensorFlow 2.20.0"),
        "pip install --no-deps 'tensorflow-text==2.20.*'",
    ),
    "tensorflow-text cannot be loaded": (
        [("probe", "steps", "text", {"error": "NotFoundError: undefined symbol"})],
        (PROBLEM, "tensorflow-text", "2.21.1 fails: NotFoundError: undefined symbol"),
        "tensorflow-text==2.21.*",
    ),
    "another backend": (
        [("environment", "KERAS_BACKEND", "jax")],
        (PROBLEM, "Keras backend", "KERAS_BACKEND is 'jax'"),
        "unset KERAS_BACKEND",
    ),
    "legacy Keras": (
        [("environment", "TF_USE_LEGACY_KERAS", "1")],
        (PROBLEM, "TF_USE_LEGACY_KERAS", "is set"),
        "unset TF_USE_LEGACY_KERAS",
    ),
    "a GPU that is not seen": (
        [("nodes", ["/dev/nvidia0"])],
        (WARNING, "devices", "1 CPU; TensorFlow does not see /dev/nvidia0"),
        "pip install 'tensorflow[and-cuda]==2.21.0'",
    ),
    "a GPU that is hidden": (
        [("nodes", ["/dev/nvidia0"]), ("environment", "CUDA_VISIBLE_DEVICES", "")],
        (WARNING, "devices", "1 CPU; CUDA_VISIBLE_DEVICES hides 1 GPU"),
        "unset CUDA_VISIBLE_DEVICES",
    ),
    "a TPU without its wheel": (
        [("nodes", ["/dev/vfio/0"])],
        (WARNING, "TPU", "1 device file (/dev/vfio/0, ...), but no tensorflow-tpu"),
        "docs/distributed.md",
    ),
    "a TPU's wheel without libtpu": (
        [
            ("versions", "tensorflow-tpu", "2.20.0"),
            ("tensorflow_files", {"tensorflow-tpu": [3, 3]}),
        ],
        (PROBLEM, "TPU", "tensorflow-tpu 2.20.0 without libtpu"),
        "pip install --no-deps 'libtpu==0.0.17'",
    ),
    "libtpu cannot be loaded": (
        [*BOTH, ("probe", "steps", "libtpu", {"error": "OSError: GLIBC_2.38 not found"})],
        (PROBLEM, "TPU", "libtpu 0.0.17 cannot be loaded: OSError: GLIBC_2.38 not found"),
        "libtpu==0.0.17",
    ),
    "XLA does not compile": (
        [("probe", "steps", "xla", {"error": "InternalError: x"})],
        (PROBLEM, "XLA", "does not compile: InternalError: x"),
        "reinstall TensorFlow",
    ),
    "XLA's flags": (
        [("probe", "steps", "xla", {"error": "x"}), ("environment", "XLA_FLAGS", "--no_such")],
        (PROBLEM, "XLA", "does not compile"),
        "unset XLA_FLAGS",
    ),
    "the shipped rater prefers damage": (
        [("probe", "steps", "rater", {"value": [0.5, 1.2]})],
        (PROBLEM, "shipped rater", "scores prose 0.50 and damaged prose 1.20"),
        "install dr_keras anew",
    ),
    "little memory": (
        [("memory", {"total": 3e9, "available": 2.5e9})],
        (WARNING, "memory", "3.0 GB, 2.5 GB of them free"),
        "one worker",
    ),
    "a small container": (
        [("memory", {"total": 64e9, "available": 60e9, "limit": 1e9})],
        (PROBLEM, "memory", "this container may use 1.0 GB"),
        "4 GB or more",
    ),
    "no temporary folder": (
        [("folders", "temporary folder", {"path": "/tmp", "error": "Read-only file system"})],
        (PROBLEM, "temporary folder", "/tmp: Read-only file system"),
        "export TMPDIR=",
    ),
    "a working folder that is read-only": (
        [("folders", "working folder", {"path": "/ro", "free": 5e9, "error": "Permission denied"})],
        (WARNING, "working folder", "/ro, 5.0 GB free: Permission denied"),
        "work in another folder",
    ),
    "a full disk": (
        [("folders", "temporary folder", {"path": "/tmp", "free": 1e8})],
        (WARNING, "temporary folder", "/tmp, 0.1 GB free"),
        "make room",
    ),
    "more threads than cores": (
        [("environment", "OMP_NUM_THREADS", "16")],
        (WARNING, "threads", "OMP_NUM_THREADS is 16, and there are 8 cores"),
        "export OMP_NUM_THREADS=8",
    ),
    "no number of threads": (
        [("environment", "TF_NUM_INTRAOP_THREADS", "all")],
        (WARNING, "threads", "TF_NUM_INTRAOP_THREADS is 'all', no number"),
        "unset TF_NUM_INTRAOP_THREADS",
    ),
    "a container's share of the cores": (
        [("cores", {"machine": 64, "usable": 64, "share": 2.0})],
        (WARNING, "threads", "64 of 64 cores, of which the container may use 2;"),
        "export TF_NUM_INTRAOP_THREADS=2 TF_NUM_INTEROP_THREADS=2",
    ),
    "another encoding": (
        [("encoding", "files", "iso8859-1")],
        (WARNING, "file names", "Python reads them as iso8859-1"),
        "export LC_ALL=C.UTF-8",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_its_fix(case):
    changes, (level, about, text), fix = WRONG[case]
    found = [one for one in findings(changed(*changes)) if one.level != OK]
    matching = [one for one in found if (one.level, one.about) == (level, about)]
    assert any(text in one.text and fix in one.fix for one in matching), found
    assert all(one.fix for one in found), "whatever is wrong has a fix"


def test_the_documented_way_to_a_tpu_is_no_problem():
    facts = changed(
        *BOTH,
        ("versions", "tensorflow", "2.20.0"),
        ("versions", "tensorflow-text", "2.20.1"),
        ("tensorflow_files", {"tensorflow": [1, 3], "tensorflow-tpu": [3, 3]}),
        ("probe", "steps", "tensorflow", {"value": {"version": "2.20.0", "build": []}}),
        ("nodes", ["/dev/accel0"]),
    )
    found = findings(facts)
    assert {one.level for one in found} == {OK}
    shown = {one.about: one.text for one in found}
    assert shown["TensorFlow"] == "2.20.0, from the wheel tensorflow-tpu"
    assert shown["TPU"] == "libtpu 0.0.17 loads; 1 device file"


def test_one_cause_is_one_problem():
    failed = {name: {"error": "ImportError: x"} for name in GOOD["probe"]["steps"]}
    facts = changed(("probe", "steps", failed))
    assert [one.about for one in findings(facts) if one.level == PROBLEM] == ["TensorFlow"]


@pytest.mark.parametrize("name", GOOD)
def test_facts_that_could_not_be_had_do_not_end_the_report(name):
    found = findings(changed((name, {"error": "OSError: x"})))
    assert len(found) > 5
    assert any(one.text == "could not be looked at: OSError: x" for one in found)
    assert {one.level for one in found if one.about == "Python"} <= {OK}


def test_every_check_is_in_the_report():
    assert len(CHECKS) == len(set(CHECKS)) == 15
