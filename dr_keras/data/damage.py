"""Noise with a known level: a corpus whose training part is half damaged, as text in the wild is.

A rater that learned something must tell the damaged passages from the clean ones, and rate a
passage lower the more of it is damaged. Only the train part is damaged; level and kind travel with
every passage, for evaluation only.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import re
from typing import Any

import numpy as np

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.damage_kinds import KINDS
from dr_keras.data.documents import Document, content_key, merge_duplicates
from dr_keras.data.splits import PARTS, PROTECTION, part_of, split_fractions, unit_hash
from dr_keras.errors import ConfigurationError
import gin


@gin.configurable
def damaged_corpus(
    corpus: Corpus,
    fraction: float = 0.5,
    kinds: Sequence[str] = tuple(KINDS),
    passage_bytes: int = 128,
    min_passage_bytes: int | None = None,
    typeset: float = 0.25,
    max_strength: float = 1.0,
    seed: int = 0,
    fractions: Mapping[str, float] | None = None,
    name: str | None = None,
) -> "DamagedCorpus":
    """Cuts a corpus into passages and damages a share of those in the train part.

    Passages have the id "<document id>/<k>" and the key of their document, so they lie in its
    part. What happens to a passage is decided by hash of the seed, the document's content and k:
    it depends neither on the order of the corpus nor on the other documents. The strength is
    uniform in (0, max_strength], the kind drawn evenly from those that can change the passage; only
    mojibake, which few passages admit, is preferred (one time in two) where it is possible.

    Passages that repeat are merged with a count. One that occurs in several parts stays in the
    most protected of them (test, validation, outer, train), so that nothing held out is trained on.

    Args:
      corpus: any corpus.
      fraction: share of the train passages to damage.
      kinds: names from `damage_kinds.KINDS`.
      passage_bytes: most bytes (UTF-8) of a passage, damaged or not.
      min_passage_bytes: shorter passages are left out; None for half of `passage_bytes`.
      typeset: share of the documents, in all parts and damaged or not, whose quotes, dashes and
        ellipses become typographic ones, as publishing does. Text in ASCII alone has nothing that
        a wrong decoding could turn into mojibake.
      max_strength: below 1 for damage as fine as scanners leave, which shows best to models that
        have learned to spell.
      seed: another seed damages other passages, in other ways.
      fractions: shares of the parts, the same as the split's; None for `split_fractions()`.
      name: None for the name of `corpus`.

    Raises:
      ConfigurationError: a setting is out of its range.
    """
    shares = {"fraction": fraction, "typeset": typeset, "max_strength": max_strength}
    for setting, share in shares.items():
        if not 0 <= share <= 1:
            raise ConfigurationError(f"damaged_corpus.{setting} must lie in [0, 1], not {share}")
    if max_strength == 0:
        raise ConfigurationError("damaged_corpus.max_strength must be above 0; fraction may be 0")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ConfigurationError(
            f"damaged_corpus.kinds must name at least one of {', '.join(KINDS)}; "
            f"got {', '.join(map(repr, unknown)) or 'none'}"
        )
    if min_passage_bytes is None:
        min_passage_bytes = passage_bytes // 2
    if passage_bytes < 16 or not 1 <= min_passage_bytes <= passage_bytes:
        raise ConfigurationError(
            "damaged_corpus needs passage_bytes of at least 16 and min_passage_bytes between 1 "
            f"and passage_bytes; got {passage_bytes} and {min_passage_bytes}"
        )
    return DamagedCorpus(
        name or corpus.name,
        corpus,
        fraction=fraction,
        kinds=tuple(dict.fromkeys(kinds)),
        passage_bytes=passage_bytes,
        min_passage_bytes=min_passage_bytes,
        typeset=typeset,
        max_strength=max_strength,
        seed=seed,
        fractions=dict(split_fractions() if fractions is None else fractions),
    )


class DamagedCorpus(Corpus):
    """See `damaged_corpus`; `fractions` are the shares of the parts it was made for."""

    def __init__(self, name: str, corpus: Corpus, **settings: Any):
        super().__init__(name, self._passages, settings, weights=corpus.weights)
        self.fractions: dict[str, float] = settings["fractions"]
        self._corpus = corpus
        self._options = settings
        self._summary: dict[str, Any] = {}

    def describe(self) -> dict[str, Any]:
        """Adds the corpus that was damaged and, after a whole pass, what came of it.

        "passages": passages by part; "non_ascii": those of them that hold more than ASCII, before
        any damage; "damage": kind -> number and level_quartiles: least, 25%, median, 75%, greatest.
        """
        return {
            **super().describe(),
            "kind": "damaged",
            "corpus": self._corpus.describe(),
            **self._summary,
        }

    def _passages(self, skipped: collections.Counter) -> Iterator[Document]:
        options, fractions, seed = self._options, self.fractions, self._options["seed"]
        counts, non_ascii = collections.Counter(), collections.Counter()
        levels: dict[str, list[float]] = collections.defaultdict(list)
        for part, k, passage in _distinct(self._cut(skipped), fractions, skipped):
            counts[part] += 1
            non_ascii[part] += not passage.text.isascii()
            name = (seed, passage.key, k)
            if part == "train" and unit_hash("damage", *name) < options["fraction"]:
                outcome = damage_passage(
                    passage.text,
                    options["kinds"],
                    name,
                    options["passage_bytes"],
                    options["max_strength"],
                )
                if outcome is None:
                    skipped["left clean: no kind of damage applies"] += 1
                else:
                    text, kind, level = outcome
                    levels[kind].append(level)
                    passage = dataclasses.replace(passage, text=text, damage=kind, level=level)
            # The weights of a mixture go by the names of its corpora; otherwise this is the corpus.
            yield passage if self.weights else dataclasses.replace(passage, corpus="")
        self._summary = {
            "passages": {part: counts[part] for part in PARTS},
            "non_ascii": {part: non_ascii[part] for part in PARTS},
            "damage": {kind: _quartiles(levels[kind]) for kind in options["kinds"]},
        }

    def _cut(self, skipped: collections.Counter) -> Iterator[tuple[int, Document]]:
        options = self._options
        for document in merge_duplicates(self._corpus.documents()):
            text = document.text
            if unit_hash("typeset", options["seed"], document.key) < options["typeset"]:
                text = typeset_text(text)
            for k, passage in enumerate(cut_passages(text, options["passage_bytes"])):
                if len(passage.encode("utf-8")) < options["min_passage_bytes"]:
                    skipped["passage shorter than min_passage_bytes"] += 1
                    continue
                yield (
                    k,
                    dataclasses.replace(
                        document, id=f"{document.id}/{k}", text=passage, level=0.0, damage="clean"
                    ),
                )


def _distinct(
    passages: Iterator[tuple[int, Document]],
    fractions: Mapping[str, float],
    skipped: collections.Counter,
) -> Iterator[tuple[str, int, Document]]:
    """Yields (part, k, passage) of passages that differ, in order, with summed counts."""
    listed = []
    best: dict[str, tuple[int, str, int]] = {}
    total: collections.Counter[str] = collections.Counter()
    for k, passage in passages:
        content = content_key(_straight(passage.text))
        # The last two make the choice among copies in a part independent of the corpus' order.
        rank = (PROTECTION.index(part_of(passage.split_key, fractions)), passage.key, k)
        best[content] = min(rank, best.get(content, rank))
        total[content] += passage.count
        listed.append((content, rank, passage))
    for content, rank, passage in listed:
        if rank == best[content]:
            yield PROTECTION[rank[0]], rank[2], dataclasses.replace(passage, count=total[content])
        elif rank[0] == best[content][0]:
            skipped["passage repeated within its part (merged)"] += 1
        else:
            skipped["passage repeated in a more protected part"] += 1


def damage_passage(
    text: str, kinds: Sequence[str], name: tuple, max_bytes: int, max_strength: float = 1.0
) -> tuple[str, str, float] | None:
    """Damages a passage in a way that depends on its name alone.

    Damage that makes text longer than `max_bytes` is done to the start of the passage instead, so
    that the level holds for the text as it is returned.

    Returns:
      (damaged text, kind, level realised), or None if no kind can change the text.
    """
    rng = _generator("kind", *name)
    order = rng.permutation(kinds).tolist()
    if "mojibake" in order and not text.isascii():
        order.remove("mojibake")
        order.insert(0 if rng.random() < 0.5 else len(order), "mojibake")
    strength = max_strength * (1 - rng.random())  # in (0, max_strength]
    for kind in order:
        start = text
        while start:
            outcome = KINDS[kind](start, strength, _generator(kind, *name))
            if outcome is None:
                break
            damaged, level = outcome
            size = len(damaged.encode("utf-8"))
            if size <= max_bytes:
                return damaged, kind, level
            start = _shortened(start, max_bytes / size)
    return None


def _shortened(text: str, share: float) -> str:
    """Returns the start of the text: about a share of its bytes, at least one byte less."""
    size = len(text.encode("utf-8"))
    room = min(size - 1, int(share * size))
    return cut_passages(text, room)[0] if room >= 4 else ""


def _generator(*name: object) -> np.random.Generator:
    return np.random.default_rng(int(unit_hash(*name) * 2**53))


def _quartiles(levels: list[float]) -> dict[str, Any]:
    if not levels:
        return {"number": 0, "level_quartiles": None}
    quartiles = np.quantile(levels, [0, 0.25, 0.5, 0.75, 1]).round(4).tolist()
    return {"number": len(levels), "level_quartiles": quartiles}


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


# Opening quotes follow white space or an opening bracket; all others close or are apostrophes.
_OPENING = r"(?:(?<=[\s(\[{\u2014\u2013-])|^)"
_TYPESET = (
    (re.compile(_OPENING + '"', re.M), "\u201c"),
    (re.compile('"'), "\u201d"),
    (re.compile(_OPENING + "'", re.M), "\u2018"),
    (re.compile("'"), "\u2019"),
    (re.compile(r"\.\.\.(?!\.)"), "\u2026"),
    (re.compile(r"(?<!-)---(?!-)"), "\u2014"),
    (re.compile(r"(?<!-)--(?!-)"), "\u2013"),
)
_STRAIGHT = str.maketrans(
    {"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "\u2026": "...",
     "\u2014": "---", "\u2013": "--"}
)  # fmt: skip


def typeset_text(text: str) -> str:
    """Returns the text with the quotes, dashes and ellipses of published prose."""
    for pattern, character in _TYPESET:
        text = pattern.sub(character, text)
    return text


def _straight(text: str) -> str:
    """Undoes `typeset_text`, so that passages are compared as they were typed."""
    return text.translate(_STRAIGHT)
