"""Hashes that stand for ids where millions of them are held in memory."""

import hashlib

import numpy as np


def keys_of(ids: list[str], size: int = 12) -> np.ndarray:
    """Hashes of strings, as bytes that can be sorted: [N], `size` bytes each.

    Of 12 bytes, no two of 10^12 different ids are expected to agree.
    """
    return np.array([_digest(id, size) for id in ids], f"S{size}")


def _digest(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
