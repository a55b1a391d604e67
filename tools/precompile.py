#!/usr/bin/env python3
"""Counts or compiles what a configuration asks of a TPU chip; see --help.

The same as the console script dr-keras-precompile, from a checkout.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.precompile import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
