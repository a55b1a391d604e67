"""Libraries that only a part of dr_keras needs: asked for by name, before any work is done."""

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


def require_study_extra() -> None:
    """Raises, in one line, if what comparisons and reports stand on cannot be imported.

    Raises:
      ConfigurationError: at least one is missing or broken; it names all of them.
    """
    absent = []
    for name, library in STUDY.items():
        try:
            importlib.import_module(name)
        except ImportError as error:
            absent.append((library, error))
    if absent:
        libraries = ", ".join(library for library, _ in absent)
        first = absent[0][1]
        raise ConfigurationError(f"{libraries} cannot be imported ({first}): {ADVICE}.") from first
