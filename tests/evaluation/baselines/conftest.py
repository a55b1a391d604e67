"""Makes the helper module beside the tests importable (pytest's importlib mode does not)."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
