"""What a finding is, and what several checks ask of the facts."""

import dataclasses

OK, WARNING, PROBLEM = "ok", "warning", "problem"
PIP = "pip install"
# tensorflow-tpu 2.20 imports with this libtpu; with newer ones the process ends.
LIBTPU = "libtpu==0.0.17"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
      level: OK, WARNING (works, but something is lost) or PROBLEM (something will not work).
      about: what was looked at, a few words.
      text: what was found.
      fix: what to do; empty where nothing is to be done.
    """

    level: str
    about: str
    text: str
    fix: str = ""


def value_of(facts: dict, step: str, default):
    return facts["probe"]["steps"].get(step, {}).get("value", default)


def imports_nothing(facts: dict) -> bool:
    """Whether TensorFlow cannot be imported: what fails after that says nothing new."""
    return "error" in facts["probe"]["steps"].get("tensorflow", {})


def has_tpu(facts: dict) -> bool:
    return any(node.startswith(("/dev/accel", "/dev/vfio")) for node in facts["nodes"])


def tensorflow_version(facts: dict) -> str | None:
    """The one that is imported, else the one whose wheel is there."""
    named = [facts["versions"].get(name) for name in facts["tensorflow_files"]]
    return value_of(facts, "tensorflow", {}).get("version") or next(iter(named), None)


def gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
