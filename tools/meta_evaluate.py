#!/usr/bin/env python3
"""Judges the raters of a run directory anew, beside a random choice; see --help.

The same as the console script dr-keras-meta-evaluate, from a checkout.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.meta_evaluate import main

if __name__ == "__main__":
    sys.exit(main())
