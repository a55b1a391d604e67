"""A rater of text: what is exported. `serving.loaded_text` has what a loaded one takes.

Its signatures:

    serving_default    text string [B]                       -> score, percentile
    serve_tf_examples  examples string [B]: tf.train.Example -> score, percentile
    serve_tokens       tokens int32 [B, S'], padding_mask bool, S' <= S
                                                             -> score, percentile
    serve_scores       tokens int32 [B, S']                  -> score
    keep_probability   text string [B], discard_fraction float64 [], batch_size int32 []
                                                             -> score, percentile, keep_probability
    text_windows       text string [B]                       -> tokens int32 [N, S], document [N]

and, where the rater scores tokens or carries a reference model,

    token_scores       text string [B]   -> tokens int32 [N, S], document [N], token_scores [N, S]
    serve_token_scores tokens, padding_mask                  -> token_scores float32 [B, S']
    reference_loss     text string [B]                       -> score, percentile, reference_loss

Scores, percentiles and probabilities are float32 [B], B >= 0. Texts longer than S tokens are scored
window by window and get the mean of their windows' scores, weighed by tokens (`serving.windows`);
the percentile of a text is taken under the distribution of documents, that of a window of tokens
under the distribution of windows. Any bytes are text. An empty text, or a row of nothing but
padding, has the lowest score of the reference distribution and percentile 0. The score of a window
whose tokens have scores is their mean; padding has 0. A reference model's losses of windows become
those of texts as scores do.

Where the mask is False (or the id 0) is padding; it comes after the tokens. The mask broadcasts,
and by default everything counts. `serve_tokens` and `serve_scores` are made of core operations
only, and so is all of a byte rater. `serve_scores` is what converters to other formats are given
(`serving.portable`): they know no operation that a percentile needs.
"""

from collections.abc import Callable
import os

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import ConfigurationError
from dr_keras.models.model_inputs import model_inputs
from dr_keras.models.rater_scores import (
    ReferenceLoss,
    check_can_score,
    example_scores,
    real_tokens,
    state_read,
)
from dr_keras.serving import folder, windows
from dr_keras.serving.signatures import RaterKind, References, Signature, outputs

# What a server is warmed up with.
_WARMUP_TEXT = b"A sentence by which a server gets warm. "
_TEXT = tf.TensorSpec([None], tf.string, name="text")
_MASK = tf.TensorSpec([None, None], tf.bool, name="padding_mask")


class TextKind(RaterKind):
    """A rater of text; `RaterKind` says what the parts are.

    Args:
      rater: {"tokens": int32 [B, S]} -> scores [B] or, by token, [B, S], S perhaps open; beside the
        tokens it may read "reference_loss".
      tokenizer: the one it was meta-trained with.
      sequence_length: S, the most tokens in a window.
      example_feature: the feature of a tf.train.Example that holds the text.
      chunk: windows scored at once inside a graph; bounds its memory.
      reference: of a rater that reads "reference_loss": a language model of windows of S tokens.

    Raises:
      ConfigurationError: rater, tokenizer and sequence length do not fit together, or the rater
        reads what only meta-training knows.
    """

    kind = "text"

    def __init__(
        self,
        rater: keras.Model,
        tokenizer: Tokenizer,
        sequence_length: int,
        example_feature: str = "text",
        chunk: int = 256,
        reference: ReferenceLoss | None = None,
    ):
        check_can_score(rater, (), reference is not None)
        self._state = state_read(rater)
        width = _check_fit(rater, self._state, tokenizer, sequence_length)
        if not isinstance(example_feature, str) or not example_feature:
            raise ConfigurationError(
                f"example_feature is {example_feature!r}: name the feature of a tf.train.Example"
                " that holds the text."
            )
        if chunk < 1:
            raise ConfigurationError(f"chunk is {chunk}: score at least 1 window at once.")
        super().__init__(rater, reference if self._state else None)
        if self.reference:
            known = (tokenizer, sequence_length, "reference model")
            width = _check_fit(self.reference.model, (), *known) or width
        self.requires = ["tensorflow_text"] if tokenizer.needs_tensorflow_text else []
        self.trackables = list(tokenizer.trackables)
        self.assets = {
            os.path.join(folder.TOKENIZER_FOLDER, os.path.basename(path)): path
            for path in tokenizer.assets
        }
        self.tokens = tf.TensorSpec([None, width], tf.int32, name="tokens")
        self.per_token = len(rater.output.shape) == 2 and rater.output.shape[1] != 1
        # A function of its own, so that the graph holds the network once and not once a signature.
        self.given = tf.function(self._given, input_signature=[self.tokens], autograph=False)
        self._tokenizer = tokenizer
        self.sequence_length = int(sequence_length)
        self._any_width = width is None
        self._feature = example_feature
        self.chunk = chunk

    def facts(self) -> dict:
        token = {"per_token": True} if self.per_token else {}
        state = {"features": list(self._state)} if self._state else {}
        return (
            token
            | state
            | {
                "tokenizer": self._tokenizer.config(),
                "sequence_length": self.sequence_length,
                "variable_length": self._any_width,
                "example_feature": self._feature,
            }
        )

    def windows(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Windows int32 [N, S] of texts, string [B], and the text that each is from, int32 [N]."""
        return windows.text_windows(self._tokenizer, text, self.sequence_length)

    def served(self, references: References) -> Signature:
        @tf.function(input_signature=[_TEXT], autograph=False)
        def serve_text(text):
            scores, empty = self._of_texts(self.score, text)
            return outputs(scores, references.documents, empty)

        # short and long, so that one and several windows are met
        repeated = _WARMUP_TEXT * (1 + 2 * self.sequence_length // len(_WARMUP_TEXT))
        texts = np.array([_WARMUP_TEXT, repeated], object)
        return Signature(lambda text: serve_text(text), [_TEXT], {"text": texts})

    def parse(self, examples: tf.Tensor) -> list[tf.Tensor]:
        features = {self._feature: tf.io.FixedLenFeature([], tf.string)}
        return [tf.io.parse_example(examples, features)[self._feature]]

    def example(self) -> tf.train.Example:
        example = tf.train.Example()
        example.features.feature[self._feature].bytes_list.value.append(_WARMUP_TEXT)
        return example

    def score(self, tokens: tf.Tensor) -> tf.Tensor:
        """Scores float32 [B] of windows int32 [B, S']."""
        return example_scores(self.given(tokens), {"tokens": tokens})

    def token_scores(self, tokens: tf.Tensor) -> tf.Tensor:
        """Scores float32 [B, S'] of the tokens of windows, 0 of padding."""
        given = self.given(tokens)
        return given * tf.cast(real_tokens({"tokens": tokens}), given.dtype)

    def reference_losses(self, *values: tf.Tensor) -> tf.Tensor:
        assert self.reference is not None
        reference = self.reference

        def losses(tokens):
            return tf.cast(reference({"tokens": tokens}), tf.float32)

        return self._of_texts(losses, *values)[0]

    def _of_texts(self, score: Callable, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Means over the windows of texts, and which texts are empty: [B] each."""
        tokens, owner = self.windows(text)
        values = windows.score_in_chunks(score, tokens, self.chunk, cut_padding=self._any_width)
        return windows.document_scores(values, tokens, owner, tf.shape(text)[0])

    def _given(self, tokens: tf.Tensor) -> tf.Tensor:
        batch = {"tokens": tokens}
        read = self.reference.joined(self.rater, batch) if self.reference else batch
        scores = self.rater(model_inputs(self.rater, read), training=False)
        return tf.cast(scores, tf.float32)


@TextKind.signature("serve_tokens")
def _serve_tokens(rater: TextKind, served: Signature, references: References) -> Signature:
    def serve_tokens(tokens, padding_mask=tf.constant([[True]])):
        tokens = tf.where(padding_mask, tokens, 0)
        return outputs(rater.score(tokens), references.units, windows.is_empty(tokens))

    tokens = np.ones([2, rater.sequence_length], np.int32)
    warmup = {"tokens": tokens, "padding_mask": np.ones_like(tokens, bool)}
    return Signature(serve_tokens, [rater.tokens, _MASK], warmup, core=True)


@TextKind.signature("serve_scores")
def _serve_scores(rater: TextKind, served: Signature, references: References) -> Signature:
    def serve_scores(tokens):
        lowest = references.units.quantiles[0]
        return {"score": tf.where(windows.is_empty(tokens), lowest, rater.score(tokens))}

    return Signature(serve_scores, [rater.tokens], core=True)


@TextKind.signature("text_windows")
def _text_windows(rater: TextKind, served: Signature, references: References) -> Signature:
    return Signature(lambda text: dict(zip(("tokens", "document"), rater.windows(text))), [_TEXT])


@TextKind.signature("token_scores")
def _token_scores(rater: TextKind, served: Signature, references: References) -> Signature | None:
    def token_scores(text):
        tokens, document = rater.windows(text)
        scores = windows.score_in_chunks(
            rater.token_scores, tokens, rater.chunk, shape=(rater.sequence_length,)
        )
        return {"tokens": tokens, "document": document, "token_scores": scores}

    return Signature(token_scores, [_TEXT]) if rater.per_token else None


@TextKind.signature("serve_token_scores")
def _serve_token_scores(
    rater: TextKind, served: Signature, references: References
) -> Signature | None:
    def serve_token_scores(tokens, padding_mask=tf.constant([[True]])):
        return {"token_scores": rater.token_scores(tf.where(padding_mask, tokens, 0))}

    if not rater.per_token:
        return None
    return Signature(serve_token_scores, [rater.tokens, _MASK], core=True)


def _check_fit(
    model: keras.Model,
    others: tuple[str, ...],
    tokenizer: Tokenizer,
    sequence_length: int,
    called: str = "rater",
) -> int | None:
    """The width of the windows that a model takes, None for any; `others` are read beside them."""
    read = [tensor for tensor in model.inputs if tensor.name not in others]
    if len(read) != 1 or len(read[0].shape) != 2:
        raise ConfigurationError(
            f"An exported text {called} takes {{'tokens': int32 [B, S]}} and nothing else; this one"
            f" takes {[tensor.name for tensor in read]}."
        )
    width = read[0].shape[1]
    if width not in (None, sequence_length):
        raise ConfigurationError(
            f"The {called} takes windows of {width} tokens, but sequence_length is"
            f" {sequence_length}: export it with the length it was built for."
        )
    for layer in model.layers:
        positions = getattr(layer, "sequence_length", None)  # of a position embedding
        if positions is not None and positions < sequence_length:
            raise ConfigurationError(
                f"The {called}'s layer '{layer.name}' knows {positions} positions, but"
                f" sequence_length is {sequence_length}: export it with the length it was built"
                " for."
            )
        reads_tokens = isinstance(layer, keras.layers.Embedding) and layer.input is read[0]
        if reads_tokens and layer.input_dim < tokenizer.vocabulary_size:
            raise ConfigurationError(
                f"The {called}'s layer '{layer.name}' knows {layer.input_dim} token ids, but the"
                f" {tokenizer.name} tokenizer has {tokenizer.vocabulary_size}: use the tokenizer"
                " that the rater was meta-trained with."
            )
    return width
