"""The target: text that says what the rater is for, held out to guide it and for the verdict.

A user brings a corpus to choose from and, as a target, text of the kind that models should be good
at. The target is split into the outer, validation and test parts; training text stays the
corpus, without what the target holds.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math

import numpy as np

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


@dataclasses.dataclass(frozen=True)
class TargetPlan:
    """How a target is held out, decided by `plan_target` from counts.

    Attributes:
      share: what is held out, in (0, 1]: the units whose `held_unit` lies below it.
      fractions: of it, that each held-out part gets; 0 for train.
      name: of the target, other than that of the corpus.
      notes: what was left out, and what a small target risks, a sentence each.
    """

    share: float
    fractions: dict[str, float]
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
    check_share(share)
    whole = merge_duplicates(target.documents())
    keys = [document.split_key for document in whole]
    at = np.array([held_unit(key) for key in keys], float)
    _, first = np.unique(np.array(keys, object), return_index=True)
    taken = {part: _taken(own[part], whole, at) for part in ("train", "test")}
    sizes, train_sizes = _sizes(whole), _sizes(own["train"])
    fractions = fractions_of_target()

    def count(share: float) -> Counter:
        return count_taken(share, train_sizes, *taken["train"]) + count_held(
            share, keys, sizes, at, at[first], fractions
        )

    plan = plan_target(count, share, corpus.name, target.name, fractions)
    documents: dict[str, list[Document]] = {part: [] for part in HELD_OUT}
    for document, key, unit in zip(whole, keys, at.tolist()):
        if unit < plan.share:
            documents[part_of(key, plan.fractions)].append(document)
    train, own_test = (
        [d for d, unit in zip(own[part], np.minimum(*ats).tolist()) if unit >= plan.share]
        for part, ats in taken.items()
    )
    return Targeted(documents | {"train": train}, own_test, plan.name, plan.notes)


def check_share(share: float | None) -> None:
    """Raises ConfigurationError unless it may be held out of a target."""
    if share is not None and not 0 < share <= 1:
        raise ConfigurationError(f"text_data.target_share is {share}: it must lie in (0, 1].")


def held_unit(split_key: str) -> float:
    """A number in [0, 1): a target holds out what lies below its share; a larger one adds some."""
    return unit_hash("target", split_key)


def fractions_of_target() -> dict[bool, dict[str, float]]:
    """Whether a target is tiny -> the share of it that each part gets, 0 for train.

    Where the shares that are bound do not go with the others of one of the two, that one is absent.
    """
    found = {}
    for tiny in (False, True):
        try:
            found[tiny] = dict.fromkeys(PARTS, 0.0) | target_fractions(tiny=tiny)
        except ConfigurationError:
            if tiny and not found:
                raise
    return found


def candidate_shares(share: float | None) -> tuple[float, ...]:
    """The shares of a target that `plan_target` may ask about: what is given, else all and 0.3."""
    return (1.0, _PART_OF_TARGET) if share is None else (share,)


def count_taken(
    share: float,
    sizes: np.ndarray,
    by_key: np.ndarray,
    by_group: np.ndarray,
    *by_others: np.ndarray,
) -> Counter:
    """What a target that is held out by a share takes of training documents. Counts add up.

    Args:
      share: in (0, 1].
      sizes: int64 [n], UTF-8 bytes of each document.
      by_key, by_group, by_others: float [n], the share of the target above which a document is left
        out, because its content is held out then, its group, or what is nearly the same; inf for
        never.

    Returns:
      documents and bytes of "train" and of what is "taken", documents that are so by content, and
      by group alone.
    """
    same, grouped, *others = (at < share for at in (by_key, by_group, *by_others))
    taken = np.any([same, grouped, *others], axis=0)
    return Counter(
        {
            "train": len(sizes),
            "train bytes": int(sizes.sum()),
            "taken": int(taken.sum()),
            "taken bytes": int(sizes[taken].sum()),
            "taken by content": int(same.sum()),
            "taken by group": int((grouped & ~same).sum()),
        }
    )


def count_held(
    share: float,
    split_keys: Sequence[str],
    sizes: np.ndarray,
    at: np.ndarray,
    units: np.ndarray,
    fractions: Mapping[bool, Mapping[str, float]],
) -> Counter:
    """What is held out of documents of a target, by a share. Counts add up.

    Args:
      share: in (0, 1].
      split_keys: `Document.split_key` of each document.
      sizes: int64 [n], UTF-8 bytes of each.
      at: float [n], `held_unit` of each.
      units: float [m], `held_unit` of each document without a group, and of each group.
      fractions: see `fractions_of_target`.

    Returns:
      documents, bytes and units that are "held"; documents and bytes of each part for a target that
      is tiny or not, under (tiny, part) written as "True outer".
    """
    held = np.flatnonzero(at < share)
    found = Counter(
        {
            "held": len(held),
            "held bytes": int(sizes[held].sum()),
            "held units": int((units < share).sum()),
        }
    )
    for tiny, shares in fractions.items():
        for row in held.tolist():
            part = f"{tiny} {part_of(split_keys[row], shares)}"
            found[part] += 1
            found[f"{part} bytes"] += int(sizes[row])
    return found


def plan_target(
    count: Callable[[float], Mapping[str, int]],
    share: float | None,
    corpus: str,
    target: str,
    fractions: Mapping[bool, Mapping[str, float]],
) -> TargetPlan:
    """Decides how a target is held out, from counts, and says what follows from it.

    Args:
      count: one of `candidate_shares` -> the sum of `count_taken` and `count_held` over everything.
      share: see `split_target`.
      corpus, target: their names.
      fractions: see `fractions_of_target`.

    Raises:
      ConfigurationError: the fractions do not add up for a target of this size.
      DataError: a held-out part or the training part would be empty.
    """
    name, notes = target if target != corpus else f"{target} (target)", []
    counts = count(candidate_shares(share)[0])
    if share is None and counts["taken bytes"] > _MOST_OF_TRAIN * counts["train bytes"]:
        percent = 100 * counts["taken bytes"] / counts["train bytes"]
        share = _PART_OF_TARGET
        counts = count(share)
        notes.append(
            f"{percent:.0f}% of the training text of {corpus} is in the"
            f" target {name}, or is of its groups: {100 * share:.0f}% of the target is held out,"
            " the rest stays what it is in the corpus (text_data.target_share changes that)."
        )
    tiny = counts["held units"] < _FEW_DOCUMENTS or counts["held bytes"] < _FEW_BYTES
    if tiny not in fractions:
        target_fractions(tiny=tiny)  # says what is wrong with it
    notes += _notes_of_parts(counts, name, tiny, fractions[tiny])
    if left_out := counts["taken"]:
        grouped = counts["taken by group"]
        near = left_out - counts["taken by content"] - grouped
        how = f", {grouped:,} of them for their group alone" if grouped else ""
        how += f", {near:,} as near-duplicates" if near else ""
        notes.append(
            f"{left_out:,} of {counts['train']:,} training documents of {corpus} are left out:"
            f" the target {name} has them{how}."
        )
    if left_out == counts["train"]:
        raise DataError(
            f"The target '{name}' has every training document of '{corpus}', or its group:"
            " there is nothing left to choose from. Hold out less of the target"
            " (text_data.target_share), or name another corpus."
        )
    return TargetPlan(1.0 if share is None else share, dict(fractions[tiny]), name, tuple(notes))


def _notes_of_parts(
    counts: Mapping[str, int], name: str, tiny: bool, fractions: Mapping[str, float]
) -> list[str]:
    """A sentence about a target that is small, and about each of its parts that is."""
    documents = {part: counts[f"{tiny} {part}"] for part in HELD_OUT}
    if not all(documents.values()):
        found = ", ".join(f"{part} {count:,}" for part, count in documents.items())
        raise DataError(
            f"The target '{name}' has too few documents to be split by document or group: {found}."
            " Bring more (a text file is one document, or one a paragraph with"
            " text_corpus.split_on_blank_lines = True), or change target_fractions."
        )
    notes = []
    units, size = counts["held units"], counts["held bytes"]
    if tiny:
        given = ", ".join(f"{100 * fractions[part]:.0f}% to {part}" for part in HELD_OUT)
        unit = "documents" if units == counts["held"] else "groups"
        notes.append(
            f"The target {name} is tiny, {units:,} {unit} with {size / 1e3:,.0f} kB: {given}."
        )
    shaky = [
        f"{part} ({count:,} documents, {there / 1e3:,.1f} kB): {_RISKS[part]}"
        for part, count in documents.items()
        if (there := counts[f"{tiny} {part} bytes"]) < _SHAKY_BYTES
    ]
    if shaky:
        least = f"{_SHAKY_BYTES / 1e3:.0f} kB"
        notes.append(f"Parts of the target {name} below {least} are shaky. {'; '.join(shaky)}.")
    return notes


def _taken(
    documents: list[Document], whole: list[Document], at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The share of a target above which it takes each document, by content and by group."""
    known: tuple[dict[str, float], dict[str, float]] = {}, {}
    for document, unit in zip(whole, at.tolist()):
        for shares, key in zip(known, (document.key, document.split_key)):
            shares[key] = min(unit, shares.get(key, math.inf))
    by_key = [known[0].get(document.key, math.inf) for document in documents]
    by_group = [known[1].get(document.split_key, math.inf) for document in documents]
    return np.array(by_key, float), np.array(by_group, float)


def _sizes(documents: list[Document]) -> np.ndarray:
    return np.array([utf8_size(document.text) for document in documents], np.int64)
