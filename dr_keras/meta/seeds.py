"""Random numbers addressed by name: nothing to save, nothing shared by accident."""

from collections.abc import Iterator
import contextlib
import hashlib
import random

import numpy as np


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**31) for the purpose that `names` spell; independent of Python's hash()."""
    spelled = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.sha256(spelled.encode()).digest()[:4], "big") >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Keras initialisers without a seed draw from `seed` inside, and as before afterwards.

    Keras takes the seed of an unseeded initialiser or SeedGenerator from Python's `random`.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
