"""What a release is made of agrees with the rest: workflows, versions, the text of an index."""

import configparser
import email
from pathlib import Path
import re
import shlex

import pytest
import setuptools.build_meta

import dr_keras

yaml = pytest.importorskip("yaml", reason="apache-beam brings PyYAML; pip install dr_keras[test]")

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path):
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def steps():
    for path in WORKFLOWS:
        for job in read(path)["jobs"].values():
            yield from ((path.name, step["run"]) for step in job["steps"] if "run" in step)


def test_workflows_try_what_setup_cfg_allows():
    jobs = read(ROOT / ".github/workflows/tests.yml")["jobs"]
    classifiers = setup_cfg()["metadata"]["classifiers"]
    pythons = re.findall(r"Python :: (3\.\d+)", classifiers)
    assert jobs["tests"]["strategy"]["matrix"]["python"] == pythons
    assert jobs["wheel"]["strategy"]["matrix"]["python"] == pythons
    least, most = re.search(
        r"tensorflow>=2\.(\d+),<2\.(\d+)", setup_cfg()["options"]["install_requires"]
    ).groups()
    versions = [f"2.{minor}" for minor in range(int(least), int(most))]
    assert jobs["tests"]["strategy"]["matrix"]["tensorflow"] == versions
    assert jobs["nightly"]["continue-on-error"] is True
    assert not any("continue-on-error" in jobs[name] for name in jobs if name != "nightly")


def test_what_workflows_call_is_there():
    launcher = (ROOT / "tools" / "test").read_text(encoding="utf-8")
    extras, found = setup_cfg()["options.extras_require"], []
    for name, run in steps():
        for word in shlex.split(run, comments=True):
            if word.startswith(("./tools/", "tools/")):
                assert (ROOT / word).exists(), (name, word)
                found.append(word)
            for extra in re.findall(r"\[(\w+)\]", word):
                assert extra in extras, (name, word)
        if run.startswith("./tools/test --"):
            flag = run.split()[1]
            assert flag == "$" or f"{flag})" in launcher or f"{flag}|" in launcher, (name, run)
    matrix = read(ROOT / ".github/workflows/scheduled.yml")["jobs"]["long"]["strategy"]["matrix"]
    assert all(flag in launcher for flag in matrix["which"])
    assert "tools/mkdocs.yml" in found and "./tools/test" in found


def test_one_version_everywhere():
    assert read(ROOT / "CITATION.cff")["version"] == dr_keras.__version__
    newest = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest[1] == dr_keras.__version__


def test_hooks_before_a_commit_fetch_no_code():
    config = read(ROOT / ".pre-commit-config.yaml")
    (local,) = config["repos"]
    assert local["repo"] == "local"
    modules = {re.match(r"python -m (\w+)", hook["entry"])[1] for hook in local["hooks"]}
    assert modules == {"ruff", "mypy"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.name
)
def test_issue_templates_are_forms(path):
    form = read(path)
    assert form["name"] and form["description"] and form["labels"]
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    names = [part["id"] for part in asked]
    assert len(names) == len(set(names)) > 1
    assert all(part["attributes"]["label"] for part in asked)


def test_an_index_shows_the_readme(tmp_path, monkeypatch):
    """Of the metadata that a wheel has, made without building one."""
    monkeypatch.chdir(ROOT)
    made = setuptools.build_meta.prepare_metadata_for_build_wheel(str(tmp_path))
    metadata = email.message_from_bytes((tmp_path / made / "METADATA").read_bytes())
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload(decode=True).decode("utf-8")
    assert text.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    assert "data curation" in metadata["Keywords"] and len(metadata.get_all("Classifier")) > 8
    assert any(url.startswith("Paper,") for url in metadata.get_all("Project-URL"))
