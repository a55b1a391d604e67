#!/usr/bin/env python3
"""Makes a rater that ships with dr_keras anew; see --help.

For the checkout, where savedmodels/ is part of the repository; no console script does this.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.build_savedmodel import main

if __name__ == "__main__":
    sys.exit(main())
