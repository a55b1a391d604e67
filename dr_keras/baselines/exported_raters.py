"""Raters that are exported already, as a scorer: one, or several whose scores are averaged.

As `Baselines.more_scorers = {'student': @exported_raters()}` they are an arm; as
`fitted_rater.teacher = @exported_raters()` the teacher of a rater that costs less.
"""

from collections.abc import Sequence
import dataclasses
import functools
import os

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.scores import Scores, require_windows
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.data.windows import tokenizer_of
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.serving.loaded_text import LoadedTextRater
from dr_keras.serving.loading import find_version, load_rater
from dr_keras.serving.windows import score_by_length
from dr_keras.training.flops import scoring_flops
import gin

PERCENTILE, SCORE = KINDS = ("percentile", "score")

_ROWS = 256  # windows in a call of a rater
_AT_ONCE = 1 << 14  # windows in memory, where they are read on demand
_OF_TEACHER = "text_data.tokenizer = @rater_tokenizer(), text_data.sequence_length ="


@gin.configurable("exported_raters")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportedRaters:
    """Scores windows by exported raters of text.

    Args:
      raters: paths of exported raters, or names of those that come with dr_keras; several, such as
        late checkpoints or seeds of one run, are averaged.
      by: what is averaged: "percentile", each under its rater's own reference distribution, so that
        all count alike whatever their scale; or "score".

    Raises:
      ConfigurationError: there is no rater, one is no rater of text, or they read differently.
      ArtefactError: one cannot be loaded.
    """

    raters: Sequence[str] = gin.REQUIRED
    by: str = PERCENTILE

    def __post_init__(self):
        if self.by not in KINDS:
            raise ConfigurationError(
                f"exported_raters.by is {self.by!r}: choose one of {', '.join(KINDS)}."
            )

    @functools.cached_property
    def loaded(self) -> list[LoadedTextRater]:
        """The raters, which read the same windows."""
        return text_raters(self.raters)

    @property
    def __name__(self) -> str:
        """How people and stored scores call it: by what was loaded, not by where it lies."""
        return f"{self.by} of " + " and ".join(one.fingerprint[:12] for one in self.loaded)

    def __call__(
        self, candidates: Candidates, outer: Candidates | None = None, *, seed: int = 0
    ) -> Scores:
        """The mean of what the raters say of each candidate; of a document that of its windows.

        Args:
          candidates: windows of tokens, cut by the raters' own tokenizer.
          outer, seed: not read.

        Returns:
          Scores. `forward_flops` are those of all raters; what making them cost is not known here,
          and counts nothing. Facts "raters" (path, fingerprint, parameters) and "by".

        Raises:
          DataError: the candidates are other windows than the raters read.
        """
        require_windows(candidates, "exported_raters")
        examples = candidates.examples
        tokens = _tokens(examples, self.loaded[0])
        values = np.empty(len(examples), np.float64)
        for start in range(0, len(values), _AT_ONCE):
            rows = np.asarray(tokens[start : start + _AT_ONCE])
            found = [_scores(rater, rows, self.by) for rater in self.loaded]
            values[start : start + len(rows)] = np.mean(found, axis=0)
        window = {"tokens": ((int(tokens.shape[1]),), np.int32)}
        forward, facts = 0.0, {"raters": [_described(one) for one in self.loaded], "by": self.by}
        try:
            forward = float(sum(scoring_flops(rater, window) for rater in self.loaded))
        except ConfigurationError as error:
            facts["reason"] = str(error)
        return Scores(candidates.token_means(values), forward_flops=forward, facts=facts)


def text_raters(raters: Sequence[str]) -> list[LoadedTextRater]:
    """Exported raters of text that read the same windows; errors as of `ExportedRaters`."""
    if isinstance(raters, str) or not raters:
        raise ConfigurationError(
            f"exported_raters.raters is {raters!r}: give a list of exported raters, such as"
            " ['runs/mine/export']; on the command line --rater, once for each."
        )
    found = [_loaded(os.path.abspath(find_version(os.fspath(path)))) for path in raters]
    for one in found:
        if not isinstance(one, LoadedTextRater):
            raise ConfigurationError(
                f"{one.path} is a rater of {one.metadata['kind']}, and this takes raters of text:"
                " name one that score-corpus takes."
            )
    first = found[0]
    for one in found[1:]:
        for name in ("tokenizer", "sequence_length"):
            if one.metadata[name] != first.metadata[name]:
                raise ConfigurationError(
                    f"{first.path} has the {name} {_in_words(first.metadata[name])}, and"
                    f" {one.path} {_in_words(one.metadata[name])}: raters are averaged window by"
                    " window, so take those of one tokenizer and length, such as seeds of one run."
                )
    return found


@functools.lru_cache(maxsize=8)  # versions do not change
def _loaded(path: str):
    return load_rater(path)


@gin.configurable
def rater_tokenizer(raters: Sequence[str] = gin.REQUIRED) -> Tokenizer:
    """The tokenizer of exported raters of text, of which there is one."""
    return text_raters(raters)[0].tokenizer


@gin.configurable
def rater_sequence_length(raters: Sequence[str] = gin.REQUIRED) -> int:
    """The most tokens in a window of exported raters of text."""
    return text_raters(raters)[0].sequence_length


@gin.configurable
def rater_vocabulary_size(raters: Sequence[str] = gin.REQUIRED) -> int:
    """Number of token ids of exported raters of text."""
    return rater_tokenizer(raters).vocabulary_size


def _tokens(examples, rater: LoadedTextRater):
    """The windows, refused where they are not of the rater's tokens or longer than it reads."""
    tokens, tokenizer = examples.features.get("tokens"), tokenizer_of(examples)
    if tokens is None:
        raise DataError(
            f"The set '{examples.name}' has no tokens, and {rater.path} reads windows of text."
        )
    known = rater.metadata["tokenizer"]
    if tokenizer is not None and tokenizer.config() != known:
        raise DataError(
            f"The windows of '{examples.name}' are cut by the tokenizer"
            f" {_in_words(tokenizer.config())}, and {rater.path} reads {_in_words(known)}: its ids"
            f" would mean something else. Bind {_OF_TEACHER} @rater_sequence_length(), as"
            " runs/distill.gin does."
        )
    longest, width = rater.sequence_length, tokens.shape[1]
    if width > longest or (width < longest and not rater.metadata["variable_length"]):
        raise DataError(
            f"The windows of '{examples.name}' have {width} tokens, and {rater.path} reads"
            f" {longest}: bind {_OF_TEACHER} @rater_sequence_length(), or that number."
        )
    return tokens


def _scores(rater: LoadedTextRater, rows: np.ndarray, by: str) -> np.ndarray:
    widths = None if rater.metadata["variable_length"] else (rows.shape[1],)
    return score_by_length(lambda some: rater.score_tokens(some)[by], rows, _ROWS, widths)


def _described(rater: LoadedTextRater) -> dict:
    return {
        "path": rater.path,
        "fingerprint": rater.fingerprint,
        "parameters": rater.metadata["parameters"],
    }


def _in_words(value) -> str:
    """A tokenizer's config or a length, short."""
    if not isinstance(value, dict):
        return str(value)
    files = [part["file"] for part in value.values() if isinstance(part, dict)]
    return " ".join([value["kind"], *files])
