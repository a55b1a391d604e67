"""Libraries that only a part of dr_keras needs: asked for by name, before any work is done."""

from collections.abc import Mapping
import importlib
from types import ModuleType

from dr_keras.errors import ConfigurationError

# What setup.cfg lists as the extra `study`, by the name of the import.
STUDY = {
    "sklearn": "scikit-learn",
    "scipy": "SciPy",
    "jinja2": "Jinja2",
    "matplotlib": "Matplotlib",
}
ADVICE = "pip install 'dr_keras[study]'"
NEAR_DUPLICATES = {"datasketch": "datasketch"}

# What setup.cfg lists as the extra `web` and every web archive needs.
WEB = {"warcio": "warcio"}


def require_study_extra() -> None:
    """Raises, in one line, if what comparisons and reports stand on cannot be imported.

    Raises:
      ConfigurationError: at least one is missing or broken; it names all of them.
    """
    _require(STUDY, ADVICE)


def require_near_duplicates_extra() -> None:
    """Raises ConfigurationError, in one line, if the library of near-duplicates is missing."""
    _require(NEAR_DUPLICATES, "pip install 'dr_keras[near_duplicates]'")


def require_array_record() -> ModuleType:
    """The library of ArrayRecord files; ConfigurationError, in one line, where it is missing."""
    name = "array_record.python.array_record_module"
    _require({name: "array_record"}, "pip install array_record, which there is for Linux")
    return importlib.import_module(name)


def require_warcio() -> tuple[ModuleType, ModuleType]:
    """warcio's modules of HTTP heads and of records; ConfigurationError where it is missing."""
    names = ("warcio.statusandheaders", "warcio.recordloader")
    _require(WEB, "pip install 'dr_keras[web]'")
    return importlib.import_module(names[0]), importlib.import_module(names[1])


def _require(libraries: Mapping[str, str], advice: str) -> None:
    absent = []
    for name, library in libraries.items():
        try:
            importlib.import_module(name)
        except ImportError as error:
            absent.append((library, error))
    if absent:
        named = ", ".join(library for library, _ in absent)
        first = absent[0][1]
        raise ConfigurationError(f"{named} cannot be imported ({first}): {advice}.") from first
