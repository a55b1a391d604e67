"""Windows of a text that is too long to be cut in one go, a few at a time.

They are the windows of the whole text, to the token. A text of bytes may be taken apart anywhere.
Other tokenizers look at what stands around a token, and at the beginning of a text, so their texts
are taken apart only at white space, and only where the tokens around it come out the same with and
without the cut.
"""

from collections.abc import Callable, Iterator

import numpy as np

# Tokens of a text: bytes -> int32 [n], without padding.
Encode = Callable[[bytes], np.ndarray]

STEP_BYTES = 1 << 20
_CONTEXT = 256  # bytes on both sides of a cut that have to agree
_TRIES = 32  # white spaces tried before the piece is made longer
_SPACES = (b" ", b"\n", b"\t")


def window_blocks(
    text: bytes,
    encode: Encode,
    sequence_length: int,
    cut_anywhere: bool,
    step_bytes: int | None = None,
) -> Iterator[np.ndarray]:
    """Cuts one text into windows, about `step_bytes` of it at a time.

    Args:
      text: any bytes.
      encode: the tokenizer.
      sequence_length: S, tokens in a window.
      cut_anywhere: whether the tokens of two halves are always those of the whole.
      step_bytes: bytes of text that are tokenized at once; more where no cut can be found. None:
        `STEP_BYTES`.

    Yields:
      int32 [n, S] with n >= 1: the windows in order; only the very last is padded, with 0. Nothing
      where the text has no token.
    """
    rest = np.zeros(0, np.int32)
    for piece in _pieces(text, None if cut_anywhere else encode, step_bytes or STEP_BYTES):
        ids = np.concatenate([rest, encode(piece)])
        whole = len(ids) // sequence_length * sequence_length
        if whole:
            yield ids[:whole].reshape(-1, sequence_length)
        rest = ids[whole:]
    if len(rest):
        yield np.pad(rest, (0, sequence_length - len(rest)))[np.newaxis]


def _pieces(text: bytes, encode: Encode | None, step_bytes: int) -> Iterator[bytes]:
    start, stop = 0, step_bytes
    while stop < len(text):
        cut = (stop, stop) if encode is None else _safe_cut(text, start, stop, encode)
        if cut is None:
            stop += step_bytes
            continue
        yield text[start : cut[0]]
        start, stop = cut[1], cut[1] + step_bytes
    yield text[start:]


def _safe_cut(text: bytes, start: int, stop: int, encode: Encode) -> tuple[int, int] | None:
    """Where a piece ends and the next one begins, which may leave out the space between."""
    place = stop
    for _ in range(_TRIES):
        place = max(text.rfind(space, start + 1, place) for space in _SPACES)
        if place < 0:
            return None
        left = text[max(start, place - _CONTEXT) : place]
        together = encode(left + text[place : place + _CONTEXT])
        for begin in (place, place + 1):
            right = encode(text[begin : place + _CONTEXT])
            if np.array_equal(together, np.concatenate([encode(left), right])):
                return place, begin
    return None
