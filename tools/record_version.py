#!/usr/bin/env python3
"""Records the names of gin that a version has, which later versions are held to.

    tools/record_version.py            writes tests/versions/<version>/gin_names.json

For a release; docs/versioning.md says what else lies there and what is promised.
"""

import json
from pathlib import Path
import sys

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def gin_names() -> dict[str, list[str]]:
    """{configurable: arguments that gin may bind} of all of dr_keras."""
    from dr_keras.config import configuration
    from gin import config as gin_config

    configuration.import_configurables()
    found = {}
    for selector, configurable in gin_config._REGISTRY.items():
        if configurable.wrapped.__module__.startswith("dr_keras."):
            found[selector.rpartition(".")[2]] = configuration.arguments_of(selector)
    return dict(sorted(found.items()))


def main() -> int:
    """Writes the names."""
    import dr_keras

    path = ROOT / "tests" / "versions" / dr_keras.__version__ / "gin_names.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = gin_names()
    lines = [f" {json.dumps(name)}: {json.dumps(found)}" for name, found in names.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{path}: {len(names)} configurables, {sum(map(len, names.values()))} arguments")
    return 0


if __name__ == "__main__":
    sys.exit(main())
