#!/usr/bin/env python3
"""Exports the rater of a run directory as a SavedModel; see --help.

The same as the console script dr-keras-retraining-study, from a checkout.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.retraining_study import main

if __name__ == "__main__":
    sys.exit(main())
