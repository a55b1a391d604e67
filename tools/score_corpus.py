#!/usr/bin/env python3
"""Scores every document of a corpus with an exported rater; see --help.

The same as the console script dr-keras-score-corpus, from a checkout.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.score_corpus import main

if __name__ == "__main__":
    sys.exit(main())
