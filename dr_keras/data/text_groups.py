"""Groups that any text belongs to: by its script and by its length.

They stand in for language and kind where a corpus has no field that says so, and need nothing but
the text. A script is no language: English and Spanish are both Latin. Where a field names the
language, read it (`jsonl_corpus.label_fields`).
"""

from collections.abc import Iterable, Sequence
import functools
import math
import unicodedata

from dr_keras.data.documents import utf8_size

NO_LETTERS = "no letters"
JAPANESE = "Kana and Han"
# Words that the name of a letter has in Unicode; other characters of category L, such as the micro
# sign, belong to no script of their own.
_LETTERS = ("LETTER", "SYLLABLE", "IDEOGRAPH", "CHARACTER")
_NO_SCRIPT = ("MODIFIER", "MATHEMATICAL")
_WIDTHS = ("FULLWIDTH", "HALFWIDTH")
_NAMES = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana"}
_LOOKED_AT = 2048  # characters of a text: a script shows soon
_KANA_SHARE = 0.1  # of kana and Han, from which on Han is Japanese, too


@functools.lru_cache(maxsize=1 << 16)
def _script_of(character: str) -> str | None:
    """The script of a letter, by the first word of its name in Unicode; None for all else."""
    if not character.isalpha():
        return None
    words = unicodedata.name(character, "").replace("-", " ").split()
    if words and words[0] in _WIDTHS:
        words = words[1:]
    if not words or words[0] in _NO_SCRIPT or not any(word in words for word in _LETTERS):
        return None
    return _NAMES.get(words[0], words[0].capitalize())


def script(text: str) -> str:
    """The script that most letters of a text are of, by its first 2,048 characters.

    "Latin", "Cyrillic", "Han", "Hangul", ...; "Kana and Han" where kana make up a tenth or more of
    both (Japanese); "no letters" where there are none. Of equal counts the first by name.
    """
    text = text[:_LOOKED_AT]
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else NO_LETTERS
    counts: dict[str, int] = {}
    for character in text:
        name = _script_of(character)
        if name is not None:
            counts[name] = counts.get(name, 0) + 1
    both = counts.get("Kana", 0) + counts.get("Han", 0)
    if counts.get("Kana", 0) >= _KANA_SHARE * both > 0:
        counts[JAPANESE] = both
        counts.pop("Kana", None)
        counts.pop("Han", None)
    return min(counts, key=lambda name: (-counts[name], name)) if counts else NO_LETTERS


def length_band(size: int, unit: str = "bytes") -> str:
    """The band of a length, each four times as wide as the one before: "1,024 to 4,095 bytes"."""
    if size < 64:
        return f"under 64 {unit}"
    low = 64
    while size >= 4 * low:
        low *= 4
    return f"{low:,} to {4 * low - 1:,} {unit}"


def text_groups(texts: Sequence[str]) -> dict[str, list[str]]:
    """ "script" and "length" (in UTF-8 bytes) of every text, [N] each."""
    return {
        "script": [script(text) for text in texts],
        "length": [length_band(utf8_size(text)) for text in texts],
    }


def bands_in_order(bands: Iterable[str]) -> list[str]:
    """Bands of length, the shortest first; what is none comes last."""
    return sorted(bands, key=lambda name: (_start(name), name))


def _start(band: str) -> float:
    first = band.split(" ", 1)[0].replace(",", "")
    return 0.0 if first == "under" else float(first) if first.isdigit() else math.inf
