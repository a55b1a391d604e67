"""The wheel, installed in an environment of its own and used from outside the checkout."""

import configparser
import email
from importlib.metadata import version
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from dr_keras.__main__ import verbs

ROOT = Path(__file__).resolve().parent.parent
DATA_PACKAGES = {"dr_keras.packaged_gin": "gin", "dr_keras.packaged_savedmodels": "savedmodels"}


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def run(command, folder, timeout=300):
    """Runs a command outside the checkout, with nothing of this process's search path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TF_CPP"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built without a download from a copy of what it is made of."""
    if int(version("setuptools").split(".")[0]) < 71:
        pytest.skip("building the wheel needs setuptools 71 or newer; ./tools/test installs it")
    source = tmp_path_factory.mktemp("source")
    no_caches = shutil.ignore_patterns("__pycache__")
    for name in ("dr_keras", "gin", "savedmodels"):
        shutil.copytree(ROOT / name, source / name, ignore=no_caches)
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "MANIFEST.in", "README.md"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    built = run([*command, "--wheel-dir", source / "dist", source], source)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """Folder of the programs of an environment that has the wheel, and borrows the rest from ours.

    A .pth file lends it our packages. An editable dr_keras among these stays out of sight, because
    Python reads .pth files only in an environment's own folder.
    """
    folder = tmp_path_factory.mktemp("environment")
    assert run([sys.executable, "-m", "venv", "--without-pip", folder], folder).returncode == 0
    programs = folder / "bin"
    question = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run([programs / "python", "-c", question], folder).stdout.strip())
    lent = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (packages / "lent.pth").write_text("\n".join(lent))
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install"]
    result = run([*pip, "--no-deps", "--no-index", "--ignore-installed", wheel], folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return programs


@pytest.fixture
def outside(tmp_path):
    assert not tmp_path.is_relative_to(ROOT)
    return tmp_path


def test_setup_cfg_lists_every_package():
    listed = set(setup_cfg()["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "dr_keras").rglob("__init__.py")
    }
    assert listed - set(DATA_PACKAGES) == found
    assert listed >= set(DATA_PACKAGES)
    unnoticed = {
        path.parent
        for path in (ROOT / "dr_keras").rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    }
    assert not unnoticed, "folders of modules without an __init__.py do not get into the wheel"


def test_the_wheel_holds_the_modules_the_gin_files_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dr_keras").rglob("*.py")}
    templates = (ROOT / "dr_keras" / "report" / "templates").iterdir()
    wanted |= {path.relative_to(ROOT).as_posix() for path in templates}
    wanted.add("dr_keras/py.typed")  # annotations are for whoever uses it, too
    for package, folder in DATA_PACKAGES.items():
        below = package.replace(".", "/")
        for path in (ROOT / folder).rglob("*.gin" if folder == "gin" else "*"):
            if path.is_file():
                wanted.add(f"{below}/{path.relative_to(ROOT / folder).as_posix()}")
    held = {name for name in names if ".dist-info/" not in name}
    assert held == wanted
    assert any(name.endswith("LICENSE") for name in names)


def test_the_wheel_asks_for_what_has_been_tried(wheel):
    """Bounds of what changes between versions; the suite passes at both ends of TensorFlow's."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    wanted = {}
    for line in metadata.get_all("Requires-Dist"):
        bounds, _, marker = line.partition(";")
        project, bounds = re.match(r"([\w-]+(?:\[\w+\])?)(.*)", bounds.strip()).groups()
        extra = re.search(r"""extra == ['"](\w+)['"]""", marker)
        wanted[extra[1] if extra else None, project] = set(bounds.replace(" ", "").split(","))
    assert wanted[None, "tensorflow"] == {">=2.20", "<2.22"}
    assert wanted[None, "tensorflow-text"] == wanted[None, "tensorflow"]
    for extra in ("serving", "test"):
        assert wanted[extra, "tensorflow-serving-api"] == wanted[None, "tensorflow"]
    assert wanted[None, "keras"] == {">=3.15", "<4"}
    # Rotary positions replace a private method, the TPU's compiler has no public interface.
    assert wanted[None, "keras-nlp"] == {">=0.32", "<0.33"}
    assert wanted["aot", "jax[tpu]"] == {">=0.10.2", "<0.11"}
    assert metadata["Requires-Python"].replace(" ", "") in (">=3.11,<3.14", "<3.14,>=3.11")


def test_the_installed_package_finds_its_folders(installed, outside):
    code = (
        "import dr_keras, sys\n"
        "from dr_keras.config import gin_files\n"
        "print(dr_keras.__file__)\n"
        "print(gin_files.packaged_folder('gin'))\n"
        "print(gin_files.packaged_folder('savedmodels'))\n"
        "print(' '.join(gin_files.packaged_gin_files()))\n"
    )
    result = run([installed / "python", "-c", code], outside)
    assert result.returncode == 0, result.stderr
    package, gin_folder, savedmodels, names = result.stdout.splitlines()
    environment = installed.parent
    assert Path(package).is_relative_to(environment)
    assert Path(gin_folder).is_relative_to(environment)
    assert Path(savedmodels).is_relative_to(environment)
    folder = ROOT / "gin"
    assert names.split() == sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.gin"))


def test_the_rater_that_ships_scores_a_string(installed, outside):
    code = (
        "import dr_keras\n"
        "rater = dr_keras.load_rater('damaged_prose')\n"
        "print(rater.path)\n"
        "print(rater('If the file cannot be opened.')['percentile'])\n"
    )
    result = run([installed / "python", "-c", code], outside)
    assert result.returncode == 0, result.stderr
    path, percentile = result.stdout.splitlines()
    assert Path(path).is_relative_to(installed.parent)
    assert float(percentile) == pytest.approx(0.381, abs=0.005)


def test_the_tests_of_the_gin_files_pass_outside_the_checkout(installed, outside):
    """They parse every packaged file, here by the installed package alone."""
    for name in ("conftest.py", "config/test_gin_files.py"):
        shutil.copy(ROOT / "tests" / name, outside)
    (outside / "pytest.ini").write_text("[pytest]\n")
    result = run([installed / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider"], outside)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("verb", [[], *([name] for name in verbs())])
def test_every_verb_tells_how_it_is_used(installed, outside, verb):
    result = run([installed / "dr-keras", *verb, "--help"], outside)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(" ".join(["usage: dr-keras", *verb]))
    assert result.stderr == ""


def test_the_package_is_the_command_as_well(installed, outside):
    ways = [installed / "dr-keras"], [installed / "python", "-m", "dr_keras"]
    first, second = (run([*way, "--help"], outside) for way in ways)
    assert first.returncode == second.returncode == 0 and first.stdout == second.stdout
    assert [path.name for path in installed.glob("dr-keras*")] == ["dr-keras"]


def test_a_gin_typo_is_one_line_with_the_nearest_name(installed, outside):
    command = [installed / "dr-keras", "meta-train", "--base_dir", outside / "run"]
    command += ["--gin_file", "experiments/quickstart.gin", "--gin_param", "META_STEP = 3"]
    result = run(command, outside)
    assert result.returncode == 2
    assert result.stderr == (
        "error: --gin_param number 1: META_STEP is given a value, and nothing uses it."
        " Did you mean 'META_STEPS'?\n"
    )
    assert not (outside / "run").exists()


def test_meta_training_runs_on_a_users_file_outside_the_checkout(installed, outside):
    lines = [
        json.dumps({"text": f"Document {i} says {i * i} and {i % 7} in so many words. " * 3})
        for i in range(400)
    ]
    (outside / "mine.jsonl").write_text("\n".join(lines))
    (outside / "mine.gin").write_text(
        "include 'experiments/quickstart.gin'\n"
        "CORPUS = @jsonl_corpus()\n"
        "jsonl_corpus.path = 'mine.jsonl'\n"
        "SEQUENCE_LENGTH = 32\n"
        "language_model.layer_count = 1\n"
        "text_rater.layer_count = 1\n"
        "MetaTrainer.unroll_length = 1\n"
        "MetaTrainer.jit_compile = False\n"
        "MetaTrainer.inner_batch_size = 4\n"
        "MetaTrainer.outer_batch_size = 4\n"
        "meta_train.evaluate = False\n"
    )
    command = [installed / "dr-keras", "meta-train", "--base_dir", "run", "--gin_file", "mine.gin"]
    result = run([*command, "--gin_param", "META_STEPS = 2"], outside)
    assert result.returncode == 0, result.stderr
    assert "2 meta-steps done" in result.stdout
    assert "jsonl_corpus.path = 'mine.jsonl'" in (outside / "run/parsed_config.gin").read_text()
    assert (outside / "run/operative_config-0.gin").exists()
    assert any((outside / "run/checkpoints").iterdir())
