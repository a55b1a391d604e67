"""Which tokens of conversations are responses: what models of them learn to predict."""

from collections.abc import Sequence
import logging

import numpy as np

from dr_keras.data.documents import Document
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import DataError

_logger = logging.getLogger(__name__)


def response_masks(
    documents: Sequence[Document], encoded: Sequence[np.ndarray], tokenizer: Tokenizer
) -> list[np.ndarray]:
    """For each document 1 where a token is of a response, else 0: int32 [its tokens].

    Texts are encoded whole, as a rater is given them later. So a token may reach from a prompt into
    a response: it counts as the response's. All tokens of a document without turns are 1.

    Args:
      documents: with `turns`, or without.
      encoded: the token ids of each text.
      tokenizer: by which.
    """
    masks = [np.ones(len(ids), np.int32) for ids in encoded]
    for document, ids, mask in zip(documents, encoded, masks):
        if document.turns is None:
            continue
        edges = _edges(document, ids, tokenizer)
        mask[:] = 0
        for start, end in zip(edges[1::2], edges[2::2]):
            mask[start:end] = 1
    return masks


def _edges(document: Document, ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Tokens before each turn, and all: int64 [turns + 1].

    Those before a place in the text are those that the text up to there has as well.
    """
    ends = np.cumsum(document.turns)
    before = tokenizer.encode([document.text[:end] for end in ends[:-1].tolist()])
    found = [0, *(_in_common(prefix, ids) for prefix in before), len(ids)]
    return np.maximum.accumulate(found)


def _in_common(one: np.ndarray, other: np.ndarray) -> int:
    """How many tokens at the beginning are the same."""
    length = min(len(one), len(other))
    differ = np.flatnonzero(one[:length] != other[:length])
    return int(differ[0]) if len(differ) else length


def that_fit(
    documents: Sequence[Document],
    masks: Sequence[np.ndarray],
    sequence_length: int,
    on_misfit: str,
    name: str,
) -> list[int]:
    """The places of documents whose prompts leave room for responses in windows of this length.

    Args:
      documents, masks: see `response_masks`.
      sequence_length: S. A prompt of S tokens, its marks included, would fill a window, and its
        response stand in another one.
      on_misfit: "stop" or "skip".
      name: of the set, for messages.

    Raises:
      DataError: a document does not fit, or has a response without a token.
    """
    fit, misfits = [], []
    for place, (document, mask) in enumerate(zip(documents, masks)):
        longest = _longest_prompt(mask) if document.turns else 0
        if longest >= sequence_length or (document.turns and not mask.any()):
            misfits.append((place, longest if mask.any() else 0))
        else:
            fit.append(place)
    if misfits and on_misfit == "stop":
        place, longest = misfits[0]
        document = documents[place]
        most = max(longest for _, longest in misfits)
        what = f"a prompt of {longest} tokens, and a window holds {sequence_length}"
        remedy = f"raise the sequence length (above {most} all have room)"
        if not longest:
            what, remedy = "a response in which the tokenizer finds no token", "mend it"
        raise DataError(
            f"The set '{name}': the conversation '{document.id}' (source '{document.source}', it"
            f" begins {document.text[:60]!r}) has {what}; {len(misfits)} of {len(documents)}"
            f" documents do not fit: {remedy}, or leave them out with text_data.on_misfit = 'skip'."
        )
    if misfits:
        _logger.info(
            "%s: %d of %d documents left out, whose prompts leave no room for a response in a"
            " window or whose responses have no token", name, len(misfits), len(documents),
        )  # fmt: skip
    return fit


def _longest_prompt(mask: np.ndarray) -> int:
    """The longest run of zeros that a one follows."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], mask])))
    runs = edges[1::2] - edges[: len(edges) // 2 * 2 : 2]
    return int(runs.max(initial=0))
