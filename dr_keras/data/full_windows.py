"""Windows without padding, so that batches of as many windows hold as many tokens.

Ways of choosing data differ in the lengths of what they choose. Trained on padded windows, models
of as many steps then see different numbers of tokens, and what differs is no longer the choice
alone.
"""

import dataclasses

import numpy as np

from dr_keras.data.columns import by_rows, concatenated, taken
from dr_keras.data.examples import ExampleSet, objects
from dr_keras.data.tokenizers import PAD_ID

_ROWS = 1 << 14  # looked at at once


def full_windows(examples: ExampleSet) -> ExampleSet:
    """The same text in windows that are all full.

    A full window stays as it is. Padded ones, which are the ends of documents or short documents,
    are joined within each corpus, in their order, with the set's `end_id` after each that does not
    end with it; the whole is cut into windows, the last of which goes back to be full and repeats
    what the one before it ends with. What is less than a window in all is repeated until it is one.
    So no window joins texts without a mark between them, and none is cut off in the middle of a
    document but by its own edge.

    Args:
      examples: text windows. Sets that have other features than `tokens`, or none, are returned as
        they are, and so are sets whose windows are all full.

    Returns:
      A set with the same corpora and weights and without labels. A joined window has the place, the
      source, the corpus and the id of the window that its first token is of, with "+<k>" after the
      id where k > 0 tokens of that window come before it.
    """
    if not has_padding(examples):
        return examples
    tokens = examples.features["tokens"]
    is_short = by_rows(_is_short, tokens)
    full = np.flatnonzero(~is_short)
    short = np.flatnonzero(is_short)
    corpora = examples.corpora[short]
    parts, ids = [taken(tokens, full)], [taken(examples.ids, full)]
    owners, offsets = [full], [np.zeros(len(full), int)]
    for corpus in dict.fromkeys(corpora.tolist()):
        rows = short[corpora == corpus]
        windows, first, begin = _joined(tokens[rows], examples.end_id)
        named = zip(examples.ids[rows[first]].tolist(), begin.tolist())
        parts.append(windows)
        ids.append(objects(f"{id}+{offset}" if offset else id for id, offset in named))
        owners.append(rows[first])
        offsets.append(begin)
    owner, offset = np.concatenate(owners), np.concatenate(offsets)
    order = np.lexsort([offset, owner])
    owner, offset = owner[order], offset[order]
    return dataclasses.replace(
        examples,
        features={"tokens": taken(concatenated(parts), order)},
        ids=taken(concatenated(ids), order),
        sources=taken(examples.sources, owner),
        corpora=taken(examples.corpora, owner),
        labels={},
    )


def has_padding(examples: ExampleSet) -> bool:
    """Whether `full_windows` would make other windows of a set."""
    if set(examples.features) != {"tokens"}:
        return False
    tokens = examples.features["tokens"]
    return any(
        (tokens[start : start + _ROWS] == PAD_ID).any() for start in range(0, len(tokens), _ROWS)
    )


def _is_short(tokens: np.ndarray) -> np.ndarray:
    return (tokens == PAD_ID).any(axis=1)


def _joined(tokens: np.ndarray, end_id: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Full windows [M, S] of padded ones [N, S], where each begins: its row [M] and place [M]."""
    length = tokens.shape[1]
    tokens = tokens.copy()
    if end_id is not None:
        sizes = np.count_nonzero(tokens, axis=1)
        open_ = np.flatnonzero(tokens[np.arange(len(tokens)), sizes - 1] != end_id)
        tokens[open_, sizes[open_]] = end_id
    ends = np.cumsum(np.count_nonzero(tokens, axis=1))
    flat = tokens[tokens != PAD_ID]
    if len(flat) < length:
        flat = np.resize(flat, length)
    starts = np.arange(-(-len(flat) // length)) * length
    starts[-1] = len(flat) - length
    first = np.searchsorted(ends, starts, side="right")
    offsets = starts - np.concatenate([[0], ends])[first]
    return flat[starts[:, None] + np.arange(length)], first, offsets
