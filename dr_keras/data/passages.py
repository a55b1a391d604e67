"""Cutting text into passages of a bounded number of bytes."""

_WHITESPACE = b" \t\n\r\f\v"


def cut_passages(text: str, max_bytes: int) -> list[str]:
    """Cuts text at white space into passages of at most `max_bytes` bytes of UTF-8.

    Each passage is as long as fits; a word longer than a passage is cut between characters. White
    space at the ends of passages is dropped, and nothing else.

    Args:
      text: valid Unicode.
      max_bytes: at least 4, the longest character of UTF-8.
    """
    if max_bytes < 4:
        raise ValueError(f"a passage needs at least 4 bytes, not {max_bytes}")
    raw = text.encode("utf-8")
    passages = []
    start = 0
    while start < len(raw):
        end = _end_of_passage(raw, start, max_bytes)
        passage = raw[start:end].decode("utf-8").strip(" \t\n\r\f\v")
        if passage:
            passages.append(passage)
        start = end
    return passages


def _end_of_passage(raw: bytes, start: int, max_bytes: int) -> int:
    while start < len(raw) and raw[start] in _WHITESPACE:
        start += 1  # white space that is dropped takes no room
    end = start + max_bytes
    if end >= len(raw):
        return len(raw)
    for i in range(end, start, -1):  # the byte at `end` may itself be the white space
        if raw[i] in _WHITESPACE:
            return i
    while raw[end] & 0xC0 == 0x80:  # a continuation byte: step back to the start of a character
        end -= 1
    return end
