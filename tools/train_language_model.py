#!/usr/bin/env python3
"""Trains a language model on a corpus, with Keras; see --help.

The same as the console script dr-keras-train-language-model, from a checkout.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.train_language_model import main

if __name__ == "__main__":
    sys.exit(main())
