"""Every gin file that comes with dr_keras parses, and says at its top which values it needs."""

import re

import pytest

from dr_keras.config import configuration, gin_files
import gin
from gin import config as gin_config

FILES = gin_files.packaged_gin_files()
# Files of the other folders are parts: they say in their header what the including file must set.
EXPERIMENTS = [name for name in FILES if name.startswith("experiments/")]
PARTS = [name for name in FILES if name not in EXPERIMENTS]


def header(name):
    text = (gin_files.packaged_folder("gin") / name).read_text(encoding="utf-8")
    return "\n".join(re.match(r"(?:#.*\n)*", text)[0].splitlines())


def open_macros():
    """Names of macros that are used or listed without a value."""
    bound = {scope: values["value"] for (scope, name), values in gin_config._CONFIG.items()
             if name == "gin.macro"}  # fmt: skip
    used = {
        reference.config_key[0]
        for reference in gin_config.iterate_references(
            gin_config._CONFIG, to=gin.get_configurable("gin.macro")
        )
    }
    required = {name for name, value in bound.items() if "gin.REQUIRED" in repr(value)}
    return (used - set(bound)) | required


def test_files_are_found():
    assert "runs/meta_train.gin" in FILES
    assert EXPERIMENTS
    assert not list(gin_files.packaged_folder("gin").rglob("__init__.py"))


@pytest.mark.parametrize("name", FILES)
def test_says_what_it_is_for(name):
    assert len(header(name)) > 40, f"gin/{name} needs a comment at its top that says what it is for"


def require_named_in_header(name, macros):
    unnamed = [macro for macro in sorted(macros) if not re.search(rf"\b{macro}\b", header(name))]
    assert not unnamed, (
        f"the comment at the top of gin/{name} must say that these need a value: {unnamed}"
    )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_is_complete_but_for_what_only_its_user_has(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configuration.parse(name, complete=False)
    needed = open_macros()
    require_named_in_header(name, needed)
    configuration.parse(name, [f"{macro} = 'given by the user'" for macro in sorted(needed)])
    assert gin.config_is_locked()


def test_the_quick_start_needs_nothing():
    configuration.parse("experiments/quickstart.gin")
    assert gin.config_is_locked() and open_macros() == set()
    # open_macros would have said so
    configuration.parse("experiments/paper_c4.gin", complete=False)
    assert open_macros() == {"VOCABULARY_FILE"}


@pytest.mark.parametrize("name", PARTS)
def test_part_parses_and_names_what_it_leaves_open(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configuration.parse(name, complete=False)
    require_named_in_header(name, open_macros())
