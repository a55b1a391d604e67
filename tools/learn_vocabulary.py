#!/usr/bin/env python3
"""Learns a vocabulary from a corpus: see `--help`. Installed as dr-keras-learn-vocabulary."""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.learn_vocabulary import main

if __name__ == "__main__":
    sys.exit(main())
