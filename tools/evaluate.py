#!/usr/bin/env python3
"""Compares models trained on a filtered corpus with others, for loss and compute; see --help.

The same as the console script dr-keras-evaluate, from a checkout.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
