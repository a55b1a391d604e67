"""How many bytes of text a token stands for: what makes losses of two tokenizers comparable.

A loss in nats per token is larger where a token stands for more text. Bits per byte,

    nats per token / (ln 2 * bytes per token),

are not: they are what a perfect compressor by this model would need for a byte of the text.
"""

import numpy as np

from dr_keras.data.examples import ExampleSet
from dr_keras.data.tokenizers.base import ByteTokenizer
from dr_keras.data.windows import tokenizer_of
from dr_keras.training.target_counts import total_targets


def bytes_per_target(examples: ExampleSet) -> float | None:
    """UTF-8 bytes that a target of next-token prediction stands for, on average.

    A window's first token is no target, so its bytes do not count, nor do those of prompts. Exactly
    1 where tokens are bytes. Elsewhere the windows are decoded: what a tokenizer does not keep,
    such as case, does not count, and the end of a document counts as a line break.

    Args:
      examples: windows of text, `window_documents`'.

    Returns:
      None where the examples are no such windows, or hold nothing to predict.
    """
    tokenizer = tokenizer_of(examples)
    targets = 0 if tokenizer is None else total_targets(examples)
    if tokenizer is None or not targets:
        return None
    if isinstance(tokenizer, ByteTokenizer):
        return 1.0
    tokens = examples.features["tokens"]

    def size(ids: np.ndarray) -> int:
        return len(tokenizer.decode(ids).encode("utf-8", "replace"))

    if (responses := examples.features.get("responses")) is not None:
        asked = responses[:] & (np.arange(tokens.shape[1]) > 0)
        return sum(size(row[of]) for row, of in zip(tokens, asked)) / targets
    firsts, numbers = np.unique(tokens[:, 0], return_counts=True)
    first = sum(size(firsts[k : k + 1]) * int(n) for k, n in enumerate(numbers))
    return (sum(map(size, tokens)) - first) / targets
