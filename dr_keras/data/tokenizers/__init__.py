"""Tokenizers: bytes (the default), WordPiece, SentencePiece, and how vocabularies are learned.

To add one: a class that has what `Tokenizer` lists, a gin-configurable function that makes it, and
a line in `tokenizer_from_config`.
"""

from dr_keras.data.tokenizers.base import PAD_ID, Tokenizer, byte_tokenizer, find_asset
from dr_keras.data.tokenizers.subword import sentencepiece_tokenizer, wordpiece_tokenizer
from dr_keras.errors import ArtefactError

__all__ = [
    "PAD_ID",
    "Tokenizer",
    "byte_tokenizer",
    "sentencepiece_tokenizer",
    "tokenizer_from_config",
    "wordpiece_tokenizer",
]


def tokenizer_from_config(config: dict, assets_dir: str | None = None) -> Tokenizer:
    """The tokenizer that `config()` described.

    Args:
      config: what `Tokenizer.config()` returned, perhaps by way of JSON.
      assets_dir: where the tokenizer's files lie, under their base names.

    Raises:
      ArtefactError: unknown kind, or a file that is missing or holds something else.
    """
    options = dict(config)
    kind = options.pop("kind", None)
    if kind == "byte":
        return byte_tokenizer()
    makers = {
        "wordpiece": (wordpiece_tokenizer, "vocabulary"),
        "sentencepiece": (sentencepiece_tokenizer, "proto"),
    }
    if kind not in makers:
        raise ArtefactError(
            f"Unknown tokenizer kind {kind!r} in {config}: this version of dr_keras knows byte,"
            " wordpiece and sentencepiece."
        )
    make, file = makers[kind]
    options[file] = find_asset(options[file], assets_dir)
    return make(**options)
