#!/usr/bin/env python3
"""Counts or compiles what a configuration asks of a TPU chip; see --help.

The same as the console script dr-keras-precompile, from a checkout.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.precompile import main

if __name__ == "__main__":
    sys.exit(main())
