"""Learning a WordPiece or SentencePiece vocabulary from a corpus."""

from collections.abc import Iterable, Iterator, Mapping
import heapq
import re

import numpy as np
import tensorflow as tf

from dr_keras.data.corpora.base import Corpus, check_at_least, check_choice
from dr_keras.data.documents import utf8, utf8_size
from dr_keras.data.splits import PARTS, part_of, split_fractions, unit_hash
from dr_keras.data.tokenizers.subword import (
    SubwordTokenizer,
    sentencepiece_tokenizer,
    wordpiece_tokenizer,
)
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.system import system_errors, whole_files
import gin

KINDS = ("wordpiece", "sentencepiece")

# SentencePiece skips lines of more than 4192 bytes; a character has at most 4.
_LINE_CHARACTERS = 1000

_TEXTS_TO_DESCRIBE = 1000

_WORDPIECE_RESERVED = ["[PAD]", "[UNK]", "[SEP]"]


@gin.configurable
def learn_vocabulary(
    corpus: Corpus = gin.REQUIRED,
    output: str = gin.REQUIRED,
    kind: str = "sentencepiece",
    size: int = 8192,
    lowercase: bool = False,
    strip_accents: bool = False,
    model_type: str = "unigram",
    part: str | None = "train",
    fractions: Mapping[str, float] | None = None,
    max_bytes: int = 64 << 20,
    overwrite: bool = False,
) -> tuple[SubwordTokenizer, dict[str, float]]:
    """Learns a vocabulary and writes it to `output`.

    Args:
      corpus: where the text comes from.
      output: file to write: for WordPiece a text file with a token a line, for SentencePiece a
        model; appears only when it is complete.
      kind: "wordpiece" or "sentencepiece".
      size: tokens in the vocabulary; WordPiece may find fewer.
      lowercase: lower-case the text. A WordPiece tokenizer must be made with the same setting.
      strip_accents: WordPiece only, likewise.
      model_type: SentencePiece only: "unigram" or "bpe".
      part: learn from this part of the corpus, so that held-out text stays unseen; None for all.
      fractions: share of each part; None for `split_fractions()`.
      max_bytes: at most so much text; of a larger corpus, the same documents on every call, chosen
        by hash and so from all over it.
      overwrite: replace an existing file.

    Returns:
      The tokenizer made of the file, and how it fits (a sample of) the text it was learned from:
      see `describe_vocabulary`.

    Raises:
      ConfigurationError: a setting out of range, or `output` exists.
      DataError: no text, or text that `size` does not suit.
    """
    _check(output, kind, size, model_type, part, max_bytes, overwrite)
    if part is not None and fractions is None:
        fractions = split_fractions()
    texts = _sample(corpus, part, fractions, max_bytes)
    if not texts:
        raise DataError(
            f"The corpus '{corpus.name}' has no text in its part {part!r} to learn from: add"
            " documents, or set learn_vocabulary.part to None."
        )
    if kind == "wordpiece":
        content = _learn_wordpiece(texts, size, lowercase, strip_accents, corpus.name)
    else:
        content = _learn_sentencepiece(texts, size, lowercase, model_type, corpus.name)
    _write(output, content)
    if kind == "wordpiece":
        tokenizer = wordpiece_tokenizer(output, lowercase=lowercase, strip_accents=strip_accents)
    else:
        tokenizer = sentencepiece_tokenizer(output)
    return tokenizer, describe_vocabulary(tokenizer, texts[:_TEXTS_TO_DESCRIBE])


def describe_vocabulary(tokenizer: SubwordTokenizer, texts: list[str]) -> dict[str, float]:
    """How well a vocabulary fits some texts.

    Returns:
      `bytes_per_token`, and `unknown_share`: share of the tokens that stand for what the vocabulary
      cannot spell.
    """
    ids = np.concatenate([np.zeros(0, np.int32), *tokenizer.encode(texts)])
    size = sum(utf8_size(text) for text in texts)
    return {
        "bytes_per_token": size / max(len(ids), 1),
        "unknown_share": float((ids == tokenizer.unknown_id).mean()) if len(ids) else 0.0,
    }


def _check(output, kind, size, model_type, part, max_bytes, overwrite) -> None:
    for argument, value, choices in (
        ("kind", kind, KINDS),
        ("model_type", model_type, ("unigram", "bpe")),
        ("part", part, (*PARTS, None)),
    ):
        check_choice(f"learn_vocabulary.{argument}", value, choices)
    check_at_least("learn_vocabulary.size", size, 16)
    check_at_least("learn_vocabulary.max_bytes", max_bytes)
    if tf.io.gfile.isdir(output):
        raise ConfigurationError(f"{output} is a directory: name a file in it.")
    if tf.io.gfile.exists(output) and not overwrite:
        raise ConfigurationError(
            f"{output} exists, and runs may depend on it: name another file, or set"
            " learn_vocabulary.overwrite = True."
        )


def _sample(
    corpus: Corpus, part: str | None, fractions: Mapping[str, float] | None, max_bytes: int
) -> list[str]:
    """Texts of the documents of lowest hash that fill `max_bytes`, each content once.

    Neither the order of the corpus nor how often it repeats a document makes a difference, and
    memory holds `max_bytes` and one document. The last text is cut to fit.
    """
    kept: list[tuple[float, str, str]] = []  # a heap with the highest hash on top
    contents: set[tuple[str, str]] = set()
    total = 0
    for document in corpus.documents():
        content = (document.key, document.text)
        if content in contents or (part and part_of(document.split_key, fractions) != part):
            continue
        heapq.heappush(kept, (-unit_hash("vocabulary", document.key), *content))
        contents.add(content)
        total += utf8_size(document.text)
        while total - (highest := len(utf8(kept[0][2]))) >= max_bytes:
            contents.discard(heapq.heappop(kept)[1:])
            total -= highest
    texts = [text for _, _, text in sorted(kept, reverse=True)]
    if total > max_bytes:
        last = utf8(texts[-1])
        texts[-1] = last[: len(last) - (total - max_bytes)].decode("utf-8", "ignore")
    return [text for text in texts if text.strip()]


def _learn_wordpiece(
    texts: list[str], size: int, lowercase: bool, strip_accents: bool, name: str
) -> bytes:
    import keras_hub  # a slow import that bytes do without

    tokens = keras_hub.tokenizers.compute_word_piece_vocabulary(
        _dataset(texts),
        size,
        lowercase=lowercase,
        strip_accents=strip_accents,
        reserved_tokens=list(_WORDPIECE_RESERVED),
    )
    # The learner cuts a list that is too long; characters come first in it.
    if len(tokens) == size and all(len(token.removeprefix("##")) == 1 for token in tokens[3:]):
        raise DataError(
            f"The corpus '{name}' has too many different characters for a WordPiece vocabulary of"
            f" {size}: raise learn_vocabulary.size, or learn a SentencePiece vocabulary."
        )
    return "".join(f"{token}\n" for token in tokens).encode()


def _learn_sentencepiece(
    texts: list[str], size: int, lowercase: bool, model_type: str, name: str
) -> bytes:
    import keras_hub  # a slow import that bytes do without
    import sentencepiece

    if hasattr(sentencepiece, "set_min_log_level"):
        sentencepiece.set_min_log_level(2)  # its account of the settings runs over pages
    try:
        return keras_hub.tokenizers.compute_sentence_piece_proto(
            _dataset(_lines(texts)), size, model_type=model_type, lowercase=lowercase
        )
    except RuntimeError as error:
        # What follows the failed check, "INTERNAL: file(line) [check] ", is written for people.
        reason = re.sub(r"^.*?\] ", "", str(error))
        raise DataError(
            f"SentencePiece cannot learn {size} tokens from the corpus '{name}': {reason.strip()}"
            " Change learn_vocabulary.size, or add documents."
        ) from error


def _lines(texts: list[str]) -> Iterator[str]:
    """The lines of the texts, long ones cut, where possible at a space."""
    for text in texts:
        for line in text.splitlines():
            while len(line) > _LINE_CHARACTERS:
                cut = line.rfind(" ", 1, _LINE_CHARACTERS)
                cut = _LINE_CHARACTERS if cut < 0 else cut
                yield line[:cut]
                line = line[cut:]
            if line.strip():
                yield line


def _dataset(texts: Iterable[str]) -> tf.data.Dataset:
    values = [utf8(text) for text in texts]
    return tf.data.Dataset.from_generator(
        lambda: values, output_signature=tf.TensorSpec([], tf.string)
    )


def _write(path: str, content: bytes) -> None:
    try:
        whole_files.write_bytes(path, content)
    except (OSError, tf.errors.OpError) as error:
        said = system_errors.explained(error) or str(error)
        raise ConfigurationError(f"The vocabulary cannot be written: {said}") from error
