#!/usr/bin/env python3
"""Is this machine fit for dr_keras? Looks and says what to do; see --help.

The same as the console script dr-keras-doctor, from a checkout.
"""

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands.doctor import main

if __name__ == "__main__":
    sys.exit(main())
