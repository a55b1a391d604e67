"""Documents cut into windows of the sequence length, with ids that point back."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import functools
import logging

import numpy as np

from dr_keras.data.corpora.base import check_choice
from dr_keras.data.documents import Document
from dr_keras.data.examples import ExampleSet, objects
from dr_keras.data.responses import response_masks, that_fit
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
    responses: bool | None = None,
    on_misfit: str = "stop",
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
      responses: give the set the feature `responses`, where conversations have 1 at the tokens of
        responses and 0 elsewhere, and other documents 1; None: where a document is a conversation.
        Windows of a conversation without any token of a response to predict are left out.
      on_misfit: of conversations, "stop" where a prompt leaves no room in a window or a response
        has no token, or "skip" those.

    Returns:
      A set with `tokens` int32 [N, S], with `responses` bool [N, S], and the labels `level` float32
      [N] and `damage` [N], with packing also `documents` int64 [N]; and those of the documents,
      object [N], None where one lacks it.

    Raises:
      ConfigurationError: sequence length or minimum out of range.
      DataError: two documents share an id, or a conversation does not fit.
    """
    check_windows(sequence_length, minimum_tokens)
    check_choice("text_data.on_misfit", on_misfit, ("stop", "skip"))
    documents = list(documents)
    _require_distinct_ids(documents, name)
    if responses is None:
        responses = any(document.turns is not None for document in documents)
    encoded = []
    for first in range(0, len(documents), _DOCUMENTS_A_BATCH):
        batch = documents[first : first + _DOCUMENTS_A_BATCH]
        encoded.extend(tokenizer.encode([document.text for document in batch]))
    masks: list[np.ndarray] = []
    if responses:
        masks = response_masks(documents, encoded, tokenizer)
        fit = that_fit(documents, masks, sequence_length, on_misfit, name)
        documents, encoded, masks = ([each[k] for k in fit] for each in (documents, encoded, masks))

    def windows_of(rows: list[np.ndarray], end: int) -> Windows:
        if packing:
            return _pack(documents, rows, end, sequence_length, minimum_tokens)
        levels, kinds = levels_of(documents), [document.damage for document in documents]
        return cut(rows, levels, kinds, sequence_length, minimum_tokens)

    found, features = windows_of(encoded, tokenizer.end_id), {}
    if responses:
        asked = windows_of(masks, 1).tokens > 0  # that a document ends is learned as well
        spoken = np.array([document.turns is not None for document in documents], bool)
        kept = np.flatnonzero(asked[:, 1:].any(axis=1) | ~spoken[found.owners])
        found, features = found.take(kept), {"responses": asked[kept]}
    tokens, owners = found.tokens, found.owners
    left_out = sum(map(len, encoded)) - int((tokens != PAD_ID).sum()) + packing * len(documents)
    _logger.info(
        "%s: %d windows from %d documents; %d tokens left out, in windows below minimum_tokens%s",
        name, len(tokens), len(documents), left_out,
        " or without a response to learn" if responses else "",
    )  # fmt: skip
    return ExampleSet(
        features={"tokens": tokens, **features},
        ids=found.ids([document.id for document in documents]),
        sources=objects(d.source for d in documents)[owners],
        corpora=objects(d.corpus for d in documents)[owners],
        labels=found.labels() | _own_labels(documents, owners),
        weights=dict(weights) if weights is not None else None,
        render=functools.partial(render_tokens, tokenizer),
        end_id=tokenizer.end_id,
        name=name,
    )


def _own_labels(documents: Sequence[Document], owners: np.ndarray) -> dict[str, np.ndarray]:
    """The labels that corpora brought, of every window: that of the document it belongs to."""
    of_each = [dict(document.labels) for document in documents]
    names = dict.fromkeys(name for labels in of_each for name in labels)
    return {name: objects(labels.get(name) for labels in of_each)[owners] for name in names}


def render_tokens(tokenizer: Tokenizer, row: Mapping[str, np.ndarray]) -> str:
    """The text of one window."""
    return tokenizer.decode(row["tokens"])


def tokenizer_of(examples: ExampleSet) -> Tokenizer | None:
    """What made the windows of `window_documents`; None of other examples."""
    render = examples.render
    if isinstance(render, functools.partial) and render.func is render_tokens:
        return render.args[0]
    return None


def check_windows(sequence_length: int, minimum_tokens: int) -> None:
    """Raises ConfigurationError where there can be no such windows."""
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


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows in their order, and what is known about them.

    Attributes:
      tokens: int32 [N, S].
      owners: int64 [N], the place of the document that each window belongs to, among those given.
      numbers: int64 [N], the place of each window among those of its document.
      level: float32 [N].
      damage: object [N].
      documents: int64 [N], how many documents each holds a token of; None without packing.
    """

    tokens: np.ndarray
    owners: np.ndarray
    numbers: np.ndarray
    level: np.ndarray
    damage: np.ndarray
    documents: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "Windows":
        """Those of these rows."""
        fields = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Windows(*(None if each is None else each[rows] for each in fields))

    def ids(self, of_documents: Sequence[str]) -> np.ndarray:
        """The id of each window, object [N], from those of the documents."""
        owners = self.owners.tolist()
        return objects(f"{of_documents[d]}#{k}" for d, k in zip(owners, self.numbers.tolist()))

    def labels(self) -> dict[str, np.ndarray]:
        """The labels of an `ExampleSet`."""
        packed = {} if self.documents is None else {"documents": self.documents}
        return {"level": self.level, "damage": self.damage, **packed}


def windows_in(sizes: np.ndarray, length: int, minimum: int) -> np.ndarray:
    """How many windows are cut of so many tokens each: int64, of the shape of `sizes`."""
    return sizes // length + (sizes % length >= minimum)


def cut(
    encoded: Sequence[np.ndarray],
    levels: np.ndarray,
    kinds: Sequence[str | None],
    length: int,
    minimum: int,
    first: int = 0,
) -> Windows:
    """Windows of one document each.

    Args:
      encoded: token ids of each document; of the first perhaps what is left after `first` windows.
      levels: float32 [number of documents].
      kinds: of damage.
      length: S.
      minimum: a last window with fewer tokens is left out.
      first: number of the first window of the first document.
    """
    counts = windows_in(np.array([len(ids) for ids in encoded], np.int64), length, minimum)
    tokens = np.full([int(counts.sum()), length], PAD_ID, np.int32)
    flat, begin = tokens.reshape(-1), 0
    for ids, count in zip(encoded, counts.tolist()):
        ids = ids[: count * length]
        flat[begin : begin + len(ids)] = ids
        begin += count * length
    owners = np.repeat(np.arange(len(encoded)), counts)
    numbers = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    numbers += first * (owners == 0)
    return Windows(tokens, owners, numbers, levels[owners], objects(kinds)[owners])


def pack(
    flat: np.ndarray,
    sizes: np.ndarray,
    levels: np.ndarray,
    kinds: Sequence[str | None],
    length: int,
    minimum: int,
    skipped: int = 0,
) -> Windows:
    """Windows of documents joined to one stream of tokens, from the beginning of a window on.

    Args:
      flat: the tokens, int [n]; the last window of a stream may be short.
      sizes: int64, tokens of each document with the end after it, whole, of those in `flat`.
      levels, kinds, length, minimum: see `cut`.
      skipped: tokens of the first document that stand before `flat`.
    """
    count = int(windows_in(np.int64(len(flat)), length, minimum))
    flat = flat[: count * length]
    tokens = np.full([count, length], PAD_ID, np.int32)
    tokens.reshape(-1)[: len(flat)] = flat
    # Which document each token belongs to: from the first to the last token of each window.
    ends = np.cumsum(sizes) - skipped
    starts = np.arange(count) * length
    first = np.searchsorted(ends, starts, side="right")
    last = np.searchsorted(ends, np.minimum(starts + length, len(flat)) - 1, side="right")
    per_token = np.full(count * length, 0, np.float32)
    here = np.diff(np.minimum(ends, len(flat)), prepend=0)
    per_token[: len(flat)] = np.repeat(levels, here)
    real = np.minimum(len(flat) - starts, length)
    level = per_token.reshape(count, length).sum(axis=1) / real
    damage = []
    for begin, stop in zip(first.tolist(), last.tolist()):
        found = set(kinds[begin : stop + 1])
        damage.append(found.pop() if len(found) == 1 else "mixed")
    numbers = np.arange(count) + ((sizes - ends) // length)[first]  # after the first that begins
    return Windows(
        tokens, first, numbers, level.astype(np.float32), objects(damage), last - first + 1
    )


def _pack(
    documents: Sequence[Document],
    encoded: Sequence[np.ndarray],
    end_id: int,
    length: int,
    minimum: int,
) -> Windows:
    """Like `cut`, for documents joined corpus by corpus."""
    groups: dict[str, list[int]] = {}
    for index, document in enumerate(documents):
        groups.setdefault(document.corpus, []).append(index)
    levels, kinds = levels_of(documents), objects(document.damage for document in documents)
    end, none = np.array([end_id], np.int32), np.zeros(0, np.int64)
    parts = [pack(none, none, levels[:0], [], length, minimum)]
    for each in groups.values():
        members = np.array(each)
        flat = np.concatenate([piece for index in each for piece in (encoded[index], end)])
        sizes = np.array([len(encoded[index]) + 1 for index in each], np.int64)
        found = pack(flat, sizes, levels[members], kinds[members].tolist(), length, minimum)
        parts.append(dataclasses.replace(found, owners=members[found.owners]))
    columns = (
        [getattr(part, field.name) for part in parts] for field in dataclasses.fields(Windows)
    )
    return Windows(*map(np.concatenate, columns))


def levels_of(documents: Sequence[Document]) -> np.ndarray:
    """Their levels, float32 [N], NaN where unknown."""
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
