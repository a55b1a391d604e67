"""The signatures of a rater of text; all outputs are dicts.

    serving_default    text string [B]                       -> score, percentile
    serve_tf_examples  examples string [B]: tf.train.Example -> score, percentile
    serve_tokens       tokens int32 [B, S'], padding_mask bool, S' <= S
                                                             -> score, percentile
    keep_probability   text string [B], discard_fraction float64 [], batch_size int32 []
                                                             -> score, percentile, keep_probability
    text_windows       text string [B]                       -> tokens int32 [N, S], document [N]

Scores, percentiles and probabilities are float32 [B], B >= 0. Texts longer than S tokens are scored
window by window and get the mean of their windows' scores, weighed by tokens (`serving.windows`);
the percentile of a text is taken under the distribution of documents, that of a window of tokens
under the distribution of windows. Any bytes are text. An empty text, or a row of nothing but
padding, has the lowest score of the reference distribution and percentile 0.

Where the mask is False (or the id 0) is padding; it comes after the tokens. The mask broadcasts,
and by default everything counts. `serve_tokens` is made of core operations only, and so is all of
a byte rater.
"""

import os

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import ConfigurationError
from dr_keras.serving import windows
from dr_keras.serving.artefact import Endpoint, References
from dr_keras.serving.metadata import TOKENIZER_FOLDER
from dr_keras.serving.signatures import KEEP_INPUTS, outputs, with_keep_probability

# What a server is warmed up with: short and long, so that one and several windows are met.
_WARMUP_TEXT = "A sentence by which a server gets warm. "


class TextKind:
    """A rater of text, for `artefact.write_artefact`, whose `RaterKind` says what the parts are.

    Args:
      rater: {"tokens": int32 [B, S]} -> scores [B], S perhaps open.
      tokenizer: the one it was meta-trained with.
      sequence_length: S, the most tokens in a window.
      example_feature: the feature of a tf.train.Example that holds the text.
      chunk: windows scored at once inside a graph; bounds its memory.

    Raises:
      ConfigurationError: rater, tokenizer and sequence length do not fit together.
    """

    kind = "text"
    core_signatures = ("serve_tokens",)

    def __init__(
        self,
        rater: keras.Model,
        tokenizer: Tokenizer,
        sequence_length: int,
        example_feature: str = "text",
        chunk: int = 256,
    ):
        _check_fit(rater, tokenizer, sequence_length)
        if not isinstance(example_feature, str) or not example_feature:
            raise ConfigurationError(
                f"example_feature is {example_feature!r}: name the feature of a tf.train.Example"
                " that holds the text."
            )
        if chunk < 1:
            raise ConfigurationError(f"chunk is {chunk}: score at least 1 window at once.")
        self.rater = rater
        self.requires = ["tensorflow_text"] if tokenizer.needs_tensorflow_text else []
        self.trackables = list(tokenizer.trackables)
        self.assets = {
            os.path.join(TOKENIZER_FOLDER, os.path.basename(path)): path
            for path in tokenizer.assets
        }
        self._tokenizer = tokenizer
        self._length = int(sequence_length)
        self._any_width = rater.inputs[0].shape[1] is None
        self._feature = example_feature
        self._chunk = chunk

    def facts(self) -> dict:
        return {
            "tokenizer": self._tokenizer.config(),
            "sequence_length": self._length,
            "variable_length": self._any_width,
            "example_feature": self._feature,
        }

    def endpoints(self, references: References) -> dict[str, Endpoint]:
        text = tf.TensorSpec([None], tf.string, name="text")
        width = None if self._any_width else self._length
        tokens = tf.TensorSpec([None, width], tf.int32, name="tokens")
        # Functions of their own, so that the graph holds the network once and not once a signature.
        score = tf.function(self._score, input_signature=[tokens], autograph=False)

        @tf.function(input_signature=[text], autograph=False)
        def serve_text(text):
            tokens, owner = windows.text_windows(self._tokenizer, text, self._length)
            scores = windows.score_in_chunks(
                score, tokens, self._chunk, cut_padding=self._any_width
            )
            scores, empty = windows.document_scores(scores, tokens, owner, tf.shape(text)[0])
            return outputs(scores, references.documents, empty)

        def serve_tf_examples(examples):
            features = {self._feature: tf.io.FixedLenFeature([], tf.string)}
            return serve_text(tf.io.parse_example(examples, features)[self._feature])

        def serve_tokens(tokens, padding_mask=tf.constant([[True]])):
            tokens = tf.where(padding_mask, tokens, 0)
            return outputs(score(tokens), references.units, windows.is_empty(tokens))

        def keep_probability(text, discard_fraction, batch_size):
            return with_keep_probability(serve_text(text), discard_fraction, batch_size)

        def text_windows(text):
            tokens, document = windows.text_windows(self._tokenizer, text, self._length)
            return {"tokens": tokens, "document": document}

        mask = tf.TensorSpec([None, None], tf.bool, name="padding_mask")
        examples = tf.TensorSpec([None], tf.string, name="examples")
        return {
            "serving_default": Endpoint(lambda text: serve_text(text), [text]),
            "serve_tf_examples": Endpoint(serve_tf_examples, [examples]),
            "serve_tokens": Endpoint(serve_tokens, [tokens, mask]),
            "keep_probability": Endpoint(keep_probability, [text, *KEEP_INPUTS]),
            "text_windows": Endpoint(text_windows, [text]),
        }

    def warmup_requests(self) -> list[tuple[str, dict[str, np.ndarray]]]:
        text = _WARMUP_TEXT.encode()
        texts = np.array([text, text * (1 + 2 * self._length // len(text))], object)
        example = tf.train.Example()
        example.features.feature[self._feature].bytes_list.value.append(text)
        tokens = np.ones([2, self._length], np.int32)
        return [
            ("serving_default", {"text": texts}),
            ("serve_tf_examples", {"examples": np.array([example.SerializeToString()], object)}),
            ("serve_tokens", {"tokens": tokens, "padding_mask": np.ones_like(tokens, bool)}),
            (
                "keep_probability",
                {"text": texts, "discard_fraction": np.float64(0.5), "batch_size": np.int32(64)},
            ),
        ]

    def _score(self, tokens: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.rater({"tokens": tokens}, training=False), tf.float32)


def _check_fit(rater: keras.Model, tokenizer: Tokenizer, sequence_length: int) -> None:
    if len(rater.inputs) != 1 or len(rater.inputs[0].shape) != 2:
        raise ConfigurationError(
            "An exported text rater takes {'tokens': int32 [B, S]} and nothing else; this one takes"
            f" {[tensor.name for tensor in rater.inputs]}."
        )
    width = rater.inputs[0].shape[1]
    if width not in (None, sequence_length):
        raise ConfigurationError(
            f"The rater takes windows of {width} tokens, but sequence_length is {sequence_length}:"
            " export it with the length it was built for."
        )
    for layer in rater.layers:
        positions = getattr(layer, "sequence_length", None)  # of a position embedding
        if positions is not None and positions < sequence_length:
            raise ConfigurationError(
                f"The rater's layer '{layer.name}' knows {positions} positions, but sequence_length"
                f" is {sequence_length}: export it with the length it was built for."
            )
        reads_tokens = isinstance(layer, keras.layers.Embedding) and layer.input is rater.inputs[0]
        if reads_tokens and layer.input_dim < tokenizer.vocabulary_size:
            raise ConfigurationError(
                f"The rater's layer '{layer.name}' knows {layer.input_dim} token ids, but the"
                f" {tokenizer.name} tokenizer has {tokenizer.vocabulary_size}: use the tokenizer"
                " that the rater was meta-trained with."
            )
