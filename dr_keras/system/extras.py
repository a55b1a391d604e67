"""Libraries that only a part of dr_keras needs: asked for by name, before any work is done."""

from collections.abc import Mapping
import importlib

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


def require_study_extra() -> None:
    """Raises, in one line, if what comparisons and reports stand on cannot be imported.

    Raises:
      ConfigurationError: at least one is missing or broken; it names all of them.
    """
    _require(STUDY, ADVICE)


def require_near_duplicates_extra() -> None:
    """Raises ConfigurationError, in one line, if the library of near-duplicates is missing."""
    _require(NEAR_DUPLICATES, "pip install 'dr_keras[near_duplicates]'")


def require_extra(name: str, libraries: Mapping[str, str]) -> None:
    """Raises ConfigurationError, in one line, if libraries of the extra `name` are missing.

    Args:
      name: of the extra in setup.cfg.
      libraries: the name of each import -> what it is called.
    """
    _require(libraries, f"pip install 'dr_keras[{name}]'")


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
