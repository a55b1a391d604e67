#!/usr/bin/env python3
"""Filters a corpus by the scores of an exported rater; see --help.

The same as the console script dr-keras-filter-corpus, from a checkout.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.filter_corpus import main

if __name__ == "__main__":
    sys.exit(main())
