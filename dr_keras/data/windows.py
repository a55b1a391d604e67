"""Documents cut into windows of the sequence length, with ids that point back."""

from collections.abc import Iterable, Mapping, Sequence
import functools
import logging

import numpy as np

from dr_keras.data.documents import Document
from dr_keras.data.examples import ExampleSet, objects
from dr_keras.data.tokenizers import PAD_ID, Tokenizer
from dr_keras.errors import ConfigurationError, DataError

_DOCUMENTS_A_BATCH = 1024

_logger = logging.getLogger(__name__)


def window_documents(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    sequence_length: int,
    packing: bool = False,
    minimum_tokens: int = 2,
    name: str = "examples",
    weights: Mapping[str, float] | None = None,
) -> ExampleSet:
    """Cuts documents into windows of `sequence_length` tokens.

    Without packing, every window holds text of one document; the last is padded with 0. The k-th
    window of a document (from 0) has the id `<document id>#<k>` and its source, corpus, level and
    damage.

    With packing, the documents of each corpus are joined in their order, `tokenizer.end_id` after
    each, and the whole is cut; only the last window of a corpus is padded. A window belongs to the
    document of its first token: it has that document's source and the id `<document id>#<k>`, where
    k counts the windows that begin in the document. Its level is the mean over its tokens (NaN
    where a document's level is unknown), its damage the kind they share, or "mixed"; the label
    `documents` says how many documents it holds a token of.

    Args:
      documents: with distinct ids.
      tokenizer: turns text into ids.
      sequence_length: S, tokens in a window.
      packing: whether windows may span documents.
      minimum_tokens: windows with fewer real tokens are left out; by default those that have no
        next token to predict.
      name: name of the set, for messages.
      weights: share of each corpus in the batches, kept with the set.

    Returns:
      A set with `tokens` int32 [N, S] and the labels `level` float32 [N] and `damage` [N], with
      packing also `documents` int64 [N].

    Raises:
      ConfigurationError: sequence length or minimum out of range.
      DataError: two documents share an id.
    """
    if sequence_length < 2:
        raise ConfigurationError(
            f"sequence_length is {sequence_length}: it must be at least 2, or there is no next"
            " token to predict."
        )
    if not 1 <= minimum_tokens <= sequence_length:
        raise ConfigurationError(
            f"minimum_tokens is {minimum_tokens}: it must be in [1, sequence_length ="
            f" {sequence_length}]."
        )
    documents = list(documents)
    _require_distinct_ids(documents, name)
    encoded = []
    for first in range(0, len(documents), _DOCUMENTS_A_BATCH):
        batch = documents[first : first + _DOCUMENTS_A_BATCH]
        encoded.extend(tokenizer.encode([document.text for document in batch]))
    labels = {}
    if packing:
        tokens, owners, windows, level, damage, labels["documents"] = _pack(
            documents, encoded, tokenizer.end_id, sequence_length, minimum_tokens
        )
    else:
        tokens, owners, windows = _cut(encoded, sequence_length, minimum_tokens)
        level, damage = _levels(documents)[owners], objects(d.damage for d in documents)[owners]
    left_out = sum(map(len, encoded)) - int((tokens != PAD_ID).sum()) + packing * len(documents)
    _logger.info(
        "%s: %d windows from %d documents; %d tokens in windows below minimum_tokens left out",
        name, len(tokens), len(documents), left_out,
    )  # fmt: skip
    return ExampleSet(
        features={"tokens": tokens},
        ids=objects(f"{documents[d].id}#{k}" for d, k in zip(owners.tolist(), windows.tolist())),
        sources=objects(d.source for d in documents)[owners],
        corpora=objects(d.corpus for d in documents)[owners],
        labels={"level": level, "damage": damage, **labels},
        weights=dict(weights) if weights is not None else None,
        render=functools.partial(render_tokens, tokenizer),
        end_id=tokenizer.end_id,
        name=name,
    )


def render_tokens(tokenizer: Tokenizer, row: Mapping[str, np.ndarray]) -> str:
    """The text of one window."""
    return tokenizer.decode(row["tokens"])


def tokenizer_of(examples: ExampleSet) -> Tokenizer | None:
    """What made the windows of `window_documents`; None of other examples."""
    render = examples.render
    if isinstance(render, functools.partial) and render.func is render_tokens:
        return render.args[0]
    return None


def _cut(
    encoded: Sequence[np.ndarray], length: int, minimum: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens [N, S], the document each window comes from [N], and its number there [N]."""
    sizes = np.array([len(ids) for ids in encoded], np.int64)
    counts = sizes // length + (sizes % length >= minimum)
    tokens = np.full([int(counts.sum()), length], PAD_ID, np.int32)
    flat, first = tokens.reshape(-1), 0
    for ids, count in zip(encoded, counts.tolist()):
        ids = ids[: count * length]
        flat[first : first + len(ids)] = ids
        first += count * length
    owners = np.repeat(np.arange(len(encoded)), counts)
    return tokens, owners, _position_in_run(owners)


def _pack(
    documents: Sequence[Document],
    encoded: Sequence[np.ndarray],
    end_id: int,
    length: int,
    minimum: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Like `_cut`, for documents joined corpus by corpus; also each window's labels."""
    groups: dict[str, list[int]] = {}
    for index, document in enumerate(documents):
        groups.setdefault(document.corpus, []).append(index)
    levels, kinds = _levels(documents), [document.damage for document in documents]
    end = np.array([end_id], np.int32)
    none = np.zeros(0, np.int64)
    parts = [(np.zeros([0, length], np.int32), none, np.zeros(0, np.float32), none, [])]
    for members in groups.values():
        members = np.array(members)
        flat = np.concatenate([piece for index in members for piece in (encoded[index], end)])
        sizes = np.array([len(encoded[index]) + 1 for index in members], np.int64)
        count = len(flat) // length + (len(flat) % length >= minimum)
        flat = flat[: count * length]
        tokens = np.full([count, length], PAD_ID, np.int32)
        tokens.reshape(-1)[: len(flat)] = flat
        # Which member each token belongs to: from the first to the last token of each window.
        ends = np.cumsum(sizes)
        starts = np.arange(count) * length
        first = np.searchsorted(ends, starts, side="right")
        last = np.searchsorted(ends, np.minimum(starts + length, len(flat)) - 1, side="right")
        per_token = np.full(count * length, 0, np.float32)
        per_token[: len(flat)] = np.repeat(levels[members], sizes)[: len(flat)]
        real = np.minimum(len(flat) - starts, length)
        level = per_token.reshape(count, length).sum(axis=1) / real
        damage = []
        for begin, stop in zip(first.tolist(), last.tolist()):
            found = {kinds[index] for index in members[begin : stop + 1]}
            damage.append(found.pop() if len(found) == 1 else "mixed")
        held = last - first + 1
        parts.append((tokens, members[first], level.astype(np.float32), held, damage))
    tokens, owners, level, held = (np.concatenate(columns) for columns in list(zip(*parts))[:4])
    damage = objects(kind for part in parts for kind in part[4])
    return tokens, owners, _position_in_run(owners), level, damage, held


def _position_in_run(values: np.ndarray) -> np.ndarray:
    """Place of each element in its run of equal neighbours: [4, 4, 7, 7, 7] -> [0, 1, 0, 1, 2]."""
    places = np.arange(len(values))
    is_first = np.ones(len(values), bool)
    is_first[1:] = values[1:] != values[:-1]
    return places - np.maximum.accumulate(np.where(is_first, places, 0))


def _levels(documents: Sequence[Document]) -> np.ndarray:
    levels = [np.nan if document.level is None else document.level for document in documents]
    return np.array(levels, np.float32)


def _require_distinct_ids(documents: Sequence[Document], name: str) -> None:
    seen: dict[str, str] = {}
    for document in documents:
        if document.id in seen:
            raise DataError(
                f"The set '{name}' has two documents with the id '{document.id}' (sources"
                f" '{seen[document.id]}' and '{document.source}'): give every document an id of its"
                " own, or leave out the id field to have ids made from the content."
            )
        seen[document.id] = document.source
