#!/usr/bin/env python3
"""Meta-trains a rater in a run directory, or resumes there; see --help.

The same as the console script dr-keras-meta-train, from a checkout.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.meta_train import main

if __name__ == "__main__":
    sys.exit(main())
