"""Kinds of damage that text suffers in the wild, each with the level it really reached.

A kind is a function `(text, strength, rng) -> (damaged text, level)`, or None where it cannot
change this text. `strength` in (0, 1) asks for an amount; the level in (0, 1] is the damage
*realised*, measured on the outcome, and never 0.
"""

from collections.abc import Callable, Hashable, Sequence
import re

import numpy as np

Damaged = tuple[str, float] | None
Kind = Callable[[str, float, np.random.Generator], Damaged]


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Returns the fewest insertions, deletions and substitutions that turn one into the other.

    Myers' bit-vector algorithm in the form of Hyyro (2003): a column of the dynamic programme is
    two integers of len(first) bits, and Python's integers have as many bits as it takes. About
    0.1 ms for two passages of 128 characters.

    Args:
      first, second: strings, or sequences of words.
    """
    if not first:
        return len(second)
    positions: dict[Hashable, int] = {}
    for i, item in enumerate(first):
        positions[item] = positions.get(item, 0) | 1 << i
    mask = (1 << len(first)) - 1
    last = 1 << (len(first) - 1)
    rises, falls, distance = mask, 0, len(first)  # differences down the current column
    for item in second:
        equal = positions.get(item, 0)
        vertical = equal | falls
        horizontal = (((equal & rises) + rises) ^ rises) | equal
        up = (falls | ~(horizontal | rises)) & mask  # differences to the next column
        down = rises & horizontal
        distance += bool(up & last) - bool(down & last)
        up = (up << 1 | 1) & mask
        down = (down << 1) & mask
        rises = (down | ~(vertical | up)) & mask
        falls = up & vertical
    return distance


def normalised_edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Returns the edit distance as a share, in [0, 1], of the longer of the two."""
    longer = max(len(first), len(second))
    return edit_distance(first, second) / longer if longer else 0.0


# Passages have no white space at their ends, and damage must not be known by it. Not all that is
# white space in Unicode: mojibake is full of no-break spaces.
_ENDS = " \t\n\r\f\v"


def _measured(text: str, damaged: str) -> Damaged:
    damaged = damaged.strip(_ENDS)
    level = normalised_edit_distance(text.strip(_ENDS), damaged)
    return (damaged, level) if level > 0 and damaged else None


def _some(count: int, strength: float, rng: np.random.Generator, least: int = 1) -> np.ndarray:
    """Chooses about `strength` of `count` positions without replacement, in random order."""
    number = min(count, max(least, round(strength * count)))
    return rng.permutation(count)[:number]


def random_characters(text: str, strength: float, rng: np.random.Generator) -> Damaged:
    """Characters replaced (60%), lost (20%) or added (20%) at random, as by a bad line or disk.

    Level: normalised edit distance of the characters.
    """
    if not text:
        return None
    characters = list(text)
    positions = _some(len(text), strength, rng)
    actions = rng.random(len(positions))
    printable = rng.integers(32, 127, len(positions))
    for position, action, code in zip(positions.tolist(), actions, printable.tolist()):
        if action < 0.6:
            code = code if chr(code) != text[position] else 32 + (code - 31) % 95
            characters[position] = chr(code)
        elif action < 0.8:
            characters[position] = ""
        else:
            characters[position] += chr(code)
    return _measured(text, "".join(characters))


# What a scanner mistakes for what. Pairs come first: "rn" is looked for before "r".
_CONFUSIONS = {
    "rn": ("m",), "cl": ("d",), "vv": ("w",), "ri": ("n",), "nn": ("rm", "im"), "fi": ("\ufb01",),
    "li": ("h", "k"), "tt": ("ll", "n"), "oo": ("00", "co"),
    "a": ("o", "s", "n"), "b": ("h", "6"), "c": ("e", "o", "("), "d": ("cl", "a"), "e": ("c", "o"),
    "f": ("t", "r"), "g": ("9", "q"), "h": ("b", "li"), "i": ("l", "1", ";"), "j": (";", "i"),
    "k": ("lc", "h"), "l": ("1", "I", "|"), "m": ("rn", "nn"), "n": ("u", "ri"), "o": ("0", "c"),
    "p": ("n", "o"), "q": ("g", "9"), "r": ("i", "t"), "s": ("5", "a"), "t": ("f", "l", "+"),
    "u": ("n", "ii"), "v": ("y", "r"), "w": ("vv", "iv"), "x": ("z", "s"), "y": ("v", "g"),
    "z": ("2", "s"), "A": ("4", "R"), "B": ("8", "E"), "C": ("G", "("), "D": ("O", "0"),
    "E": ("F", "B"), "F": ("P", "E"), "G": ("6", "C"), "I": ("l", "1", "|"), "M": ("H", "N"),
    "N": ("H", "M"), "O": ("0", "Q"), "P": ("F", "R"), "S": ("5", "8"), "T": ("I", "7"),
    "U": ("V", "II"), "V": ("Y", "U"), "Z": ("2", "7"), "0": ("O", "o"), "1": ("l", "I"),
    "2": ("Z", "z"), "5": ("S", "s"), "6": ("b", "G"), "8": ("B", "3"), "9": ("g", "q"),
    ".": (",", ""), ",": (".", ";"), "'": ("`", ""), '"': ("''", "ll"), "-": ("~", "_"),
    " ": ("", "  "),
}  # fmt: skip
_CONFUSABLE = re.compile("|".join(map(re.escape, sorted(_CONFUSIONS, key=len, reverse=True))))


def ocr_confusions(text: str, strength: float, rng: np.random.Generator) -> Damaged:
    """Characters taken for others of like shape, words joined and torn, as by a scanner.

    Level: normalised edit distance of the characters.
    """
    places = list(_CONFUSABLE.finditer(text))
    if not places:
        return None
    chosen = np.sort(_some(len(places), strength, rng))
    draws = rng.random(len(chosen))
    pieces, end = [], 0
    for index, draw in zip(chosen.tolist(), draws.tolist()):
        place = places[index]
        outcomes = _CONFUSIONS[place[0]]
        pieces += [text[end : place.start()], outcomes[int(draw * len(outcomes))]]
        end = place.end()
    return _measured(text, "".join([*pieces, text[end:]]))


def misread_utf8(text: str, encoding: str) -> str:
    """Returns what the UTF-8 bytes of `text` look like to a reader that expects `encoding`.

    The five bytes that cp1252 does not define are read as latin-1 does, as web browsers do.
    """
    raw = text.encode("utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return "".join(
            bytes([b]).decode("latin-1" if b in b"\x81\x8d\x8f\x90\x9d" else encoding) for b in raw
        )


def mojibake(text: str, strength: float, rng: np.random.Generator) -> Damaged:
    """UTF-8 read as cp1252 or latin-1, above strength 0.5 twice in a row.

    Text in ASCII alone survives any such reading, so it is refused.
    Level: normalised edit distance of the characters.
    """
    if text.isascii():
        return None
    encoding = ("cp1252", "latin-1")[int(rng.random() < 0.3)]
    damaged = misread_utf8(text, encoding)
    if strength > 0.5:
        damaged = misread_utf8(damaged, encoding)
    return _measured(text, damaged)


def shuffled_words(text: str, strength: float, rng: np.random.Generator) -> Damaged:
    """Words out of order, as when columns of a page are read across; white space stays in place.

    Level: share of the words that stand where another word stood.
    """
    pieces = re.split(r"(\s+)", text)
    words = np.array([i for i, piece in enumerate(pieces) if piece and not piece.isspace()], int)
    if len(words) < 2:
        return None
    moved = words[_some(len(words), strength, rng, least=2)].tolist()
    damaged = list(pieces)
    for place, origin in zip(moved, moved[1:] + moved[:1]):  # one cycle: none stays in its place
        damaged[place] = pieces[origin]
    level = sum(damaged[i] != pieces[i] for i in words) / len(words)
    return ("".join(damaged), level) if level > 0 else None


def _replace_span(
    text: str, strength: float, rng: np.random.Generator, make: Callable[[int], str]
) -> Damaged:
    """Replaces whole words at the start, the end or in between by `make(length)`.

    Level: share of the characters replaced.
    """
    if not text:
        return None
    borders = np.array([0, *(m.end() for m in re.finditer(r"\s+", text)), len(text)])
    length = max(1, round(strength * len(text)))
    start = (0, len(text) - length, int(rng.integers(len(text) - length + 1)))[rng.integers(3)]
    end = borders[np.searchsorted(borders, start + length)]
    start = borders[np.searchsorted(borders, start, side="right") - 1]
    span = make(int(end - start))
    damaged = (text[:start] + span + text[end:]).strip(_ENDS)
    if not damaged or span.strip(_ENDS) == text[start:end].strip(_ENDS):
        return None
    return damaged, float(end - start) / len(text)


_BOILERPLATE = (
    "Home | About us | Products | Services | Blog | Contact",
    "Home > Category > Page 1 of 12 > Next >>",
    "Skip to main content   Skip to navigation   Search   Menu",
    "We use cookies to give you the best experience on our website. Accept all | Reject | Settings",
    "By continuing to use this site you consent to our use of cookies. Learn more | OK",
    "This site uses Akismet to reduce spam. Learn how your comment data is processed.",
    "Share on Facebook  Share on Twitter  Share on LinkedIn  Email  Print",
    "Tweet | Like 0 | +1 | Pin it | Share this:",
    "Sign up for our newsletter! Enter your email address. Subscribe now. No spam, ever.",
    "Log in | Register | Forgot your password? | My account | Cart (0 items) | Checkout",
    "Copyright 2019 All rights reserved. Terms of Use | Privacy Policy | Sitemap",
    "\u00a9 2021 Inc. All Rights Reserved. Powered by WordPress. Theme by Themify.",
    "Related posts: Leave a Reply Cancel reply. Your email address will not be published.",
    "You must be logged in to post a comment. Click here to login or create an account.",
    "Click here to read more... Read more >> Continue reading -> View all",
    "ADVERTISEMENT - CONTINUE READING BELOW - Sponsored links - Ads by Google",
    "Free shipping on orders over $50! Add to cart | Add to wishlist | Compare | In stock",
    "Please enable JavaScript to view this page properly. Your browser is not supported.",
    "Last updated: 12 Mar | Posted in Uncategorized | 0 Comments | Tags: none | Permalink",
    "All trademarks are the property of their respective owners. E&OE. Back to top",
)


def boilerplate(text: str, strength: float, rng: np.random.Generator) -> Damaged:
    """Menus, cookie notices and share buttons of web pages, over and over, in place of text.

    Level: share of the characters replaced.
    """
    lines = [_BOILERPLATE[i] for i in rng.integers(len(_BOILERPLATE), size=rng.integers(1, 4))]
    separator = ("\n", " ", " | ")[rng.integers(3)]
    block = separator.join(lines) + separator

    def make(length: int) -> str:
        return (block * (length // len(block) + 1))[: length - 1] + "\n"

    return _replace_span(text, strength, rng, make)


def number_tables(text: str, strength: float, rng: np.random.Generator) -> Damaged:
    """Rows of numbers and white space, as of a table that lost its labels, in place of text.

    Level: share of the characters replaced.
    """
    columns, width, digits = rng.integers(2, 7), int(rng.integers(5, 13)), int(rng.integers(0, 5))
    separator = ("", "\t", "  ")[rng.integers(3)]
    scale = 10.0 ** rng.integers(0, 5)
    values = rng.standard_normal((len(text) // 8 + 2, columns)) * scale
    values[rng.random(values.shape) < 0.1] = 0.0
    rows = [separator.join(f"{value:{width}.{digits}f}" for value in row) for row in values]
    table = "\n".join(rows)

    def make(length: int) -> str:
        return table[: length - 1] + "\n"

    return _replace_span(text, strength, rng, make)


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        random_characters,
        ocr_confusions,
        mojibake,
        shuffled_words,
        boilerplate,
        number_tables,
    )
}
