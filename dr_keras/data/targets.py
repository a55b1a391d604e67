"""The target: text that says what the rater is for, held out to guide it and for the verdict.

A user brings a corpus to choose from and, as a target, text of the kind that models should be good
at. The target is split into the outer, validation and test parts; training text stays the
corpus, without what the target holds.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import Document, merge_duplicates, utf8_size
from dr_keras.data.splits import PARTS, part_of, unit_hash
from dr_keras.errors import ConfigurationError, DataError
import gin

HELD_OUT = ("outer", "validation", "test")

# Below either, a target is tiny, and more of it goes to the outer part.
_FEW_DOCUMENTS = 300
_FEW_BYTES = 300_000
# Of a held-out part, below which its figures are shaky (100 kB are 25 batches of 32 x 128 bytes).
_SHAKY_BYTES = 100_000
_SHARES = {"outer": 0.5, "validation": 0.2, "test": 0.3}
_SHARES_OF_TINY = {"outer": 0.7, "validation": 0.15, "test": 0.15}
# A target that would take more than this share of the training text is held out in part only.
_MOST_OF_TRAIN = 0.5
_PART_OF_TARGET = 0.3

_RISKS = {
    "outer": "a rater may learn it by heart",
    "validation": "checkpoints are chosen half by chance",
    "test": "its loss says as much about these few texts as about the arms",
}


@gin.configurable(denylist=["tiny"])
def target_fractions(
    outer: float | None = None,
    validation: float | None = None,
    test: float | None = None,
    tiny: bool = False,
) -> dict[str, float]:
    """Returns the share of a target that each held-out part gets.

    Args:
      outer, validation, test: the shares; None for 0.5, 0.2 and 0.3, and of a tiny target (fewer
        than 300 documents or groups, or less than 300 kB) for 0.7, 0.15 and 0.15, because the
        rater's only guide is the outer part.
      tiny: whether it is.

    Raises:
      ConfigurationError: a share is negative, or they do not add up to 1.
    """
    given = {"outer": outer, "validation": validation, "test": test}
    usual = _SHARES_OF_TINY if tiny else _SHARES
    shares = {part: usual[part] if share is None else share for part, share in given.items()}
    total = math.fsum(shares.values())
    if not all(share >= 0 for share in shares.values()) or not abs(total - 1) < 1e-6:
        described = ", ".join(f"{part} {share:g}" for part, share in shares.items())
        raise ConfigurationError(
            f"the shares of target_fractions must be at least 0 and add up to 1, not: {described}."
            " Give all three."
        )
    return shares


@dataclasses.dataclass(frozen=True)
class Targeted:
    """A corpus and its target, apart.

    Attributes:
      documents: "train" of the corpus, "outer", "validation" and "test" of the target.
      own_test: the test part of the corpus itself.
      name: of the target, other than that of the corpus.
      notes: what was left out, and what a small target risks, a sentence each.
    """

    documents: dict[str, list[Document]]
    own_test: list[Document]
    name: str
    notes: tuple[str, ...]


def split_target(
    own: Mapping[str, list[Document]], corpus: Corpus, target: Corpus, share: float | None = None
) -> Targeted:
    """Splits a target into held-out parts, and takes what they hold out of the corpus's own parts.

    A document of the corpus is taken out where the target has its content or its group.

    Args:
      own: part -> documents of the corpus, as `prepare.split_documents` gives them.
      corpus: they are of.
      target: any corpus; it may be one that the documents are from, too.
      share: of the target that is held out, whole groups by hash; None holds out all of it, or
        0.3 where all of it would take more than half of the training text away.

    Raises:
      ConfigurationError: the share or the fractions are out of their range.
      DataError: a part would be empty.
    """
    if share is not None and not 0 < share <= 1:
        raise ConfigurationError(f"text_data.target_share is {share}: it must lie in (0, 1].")
    whole = merge_duplicates(target.documents())
    name = target.name if target.name != corpus.name else f"{target.name} (target)"
    train, notes = own["train"], []
    taken = _bytes(_shared(train, whole))
    if share is None and taken > _MOST_OF_TRAIN * _bytes(train):
        share = _PART_OF_TARGET
        notes.append(
            f"{100 * taken / _bytes(train):.0f}% of the training text of {corpus.name} is in the"
            f" target {name}, or is of its groups: {100 * share:.0f}% of the target is held out,"
            " the rest stays what it is in the corpus (text_data.target_share changes that)."
        )
    held = whole if share is None else [d for d in whole if _is_held(d, share)]
    documents, thin = _split(held, name)
    notes += thin
    kept = {part: _without(own[part], held) for part in ("train", "test")}
    left_out = len(train) - len(kept["train"])
    if left_out:
        grouped = left_out - len(_shared(train, held, ("key",)))
        how = f", {grouped:,} of them for their group alone" if grouped else ""
        notes.append(
            f"{left_out:,} of {len(train):,} training documents of {corpus.name} are left out:"
            f" the target {name} has them{how}."
        )
    if not kept["train"]:
        raise DataError(
            f"The target '{name}' has every training document of '{corpus.name}', or its group:"
            " there is nothing left to choose from. Hold out less of the target"
            " (text_data.target_share), or name another corpus."
        )
    return Targeted(documents | {"train": kept["train"]}, kept["test"], name, tuple(notes))


def _split(held: list[Document], name: str) -> tuple[dict[str, list[Document]], list[str]]:
    """The held-out parts of a target, and a sentence about each that is small."""
    units, size = len({d.split_key for d in held}), _bytes(held)
    tiny = units < _FEW_DOCUMENTS or size < _FEW_BYTES
    shares = dict.fromkeys(PARTS, 0.0) | target_fractions(tiny=tiny)
    parts: dict[str, list[Document]] = {part: [] for part in HELD_OUT}
    for document in held:
        parts[part_of(document.split_key, shares)].append(document)
    counts = ", ".join(f"{part} {len(documents):,}" for part, documents in parts.items())
    empty = [part for part, documents in parts.items() if not documents]
    if empty:
        raise DataError(
            f"The target '{name}' has too few documents to be split by document or group: {counts}."
            " Bring more (a text file is one document, or one a paragraph with"
            " text_corpus.split_on_blank_lines = True), or change target_fractions."
        )
    notes = []
    if tiny:
        given = ", ".join(f"{100 * shares[part]:.0f}% to {part}" for part in HELD_OUT)
        unit = "documents" if units == len(held) else "groups"
        notes.append(
            f"The target {name} is tiny, {units:,} {unit} with {size / 1e3:,.0f} kB: {given}."
        )
    shaky = [
        f"{part} ({len(documents):,} documents, {there / 1e3:,.1f} kB): {_RISKS[part]}"
        for part, documents in parts.items()
        if (there := _bytes(documents)) < _SHAKY_BYTES
    ]
    if shaky:
        least = f"{_SHAKY_BYTES / 1e3:.0f} kB"
        notes.append(f"Parts of the target {name} below {least} are shaky. {'; '.join(shaky)}.")
    return parts, notes


def _is_held(document: Document, share: float) -> bool:
    """Whether a document is of the share of a target that is held out; a larger share adds some."""
    return unit_hash("target", document.split_key) < share


def _shared(
    documents: list[Document], held: list[Document], fields: Sequence[str] = ("key", "split_key")
) -> list[Document]:
    """The documents that another list has too, by content or by group."""
    known = {getattr(document, field) for document in held for field in fields}
    return [d for d in documents if any(getattr(d, field) in known for field in fields)]


def _without(documents: list[Document], held: list[Document]) -> list[Document]:
    shared = {document.id for document in _shared(documents, held)}
    return [document for document in documents if document.id not in shared]


def _bytes(documents: list[Document]) -> int:
    return sum(utf8_size(document.text) for document in documents)
