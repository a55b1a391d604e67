"""Files of an exported rater for other runtimes: written, held against the SavedModel, described.

Beside a version's SavedModel, or in a folder of their own, come

    rater.<suffix>, rater-int8.<suffix>              a file for each format (`serving.portable`)
    rater.<suffix>.json, rater-int8.<suffix>.json    what it takes, and how it compares

The JSON has what a user of the file needs and is not in it: tokenizer, length of windows, the
quantiles that percentiles come from. So the two can be taken elsewhere.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import importlib.metadata
import json
import os
import pathlib

import numpy as np
import tensorflow as tf

from dr_keras.config.gin_files import packaged_folder
from dr_keras.data.corpora.embedded import embedded_corpus
from dr_keras.data.documents import Document
from dr_keras.data.formats.reading import sha256
from dr_keras.errors import ArtefactError, ConfigurationError, DataError
from dr_keras.serving.loaded_text import LoadedTextRater
from dr_keras.serving.loading import LoadedRater
from dr_keras.serving.portable import (
    SCORE,
    TOKENS,
    OperationsLacking,
    PortableFormat,
    ServeScores,
    find_formats,
    serve_scores,
)
from dr_keras.system import locks
from dr_keras.system.progress import hidden_errors
from dr_keras.system.whole_files import is_remote, replacing, write_text
from dr_keras.training.metrics import spearman

# What a float32 file may differ where scores are about 1: far more than another order of summation
# makes, and far less than a rank shows.
TOLERANCE = 1e-4
# Windows that files are compared on, of so many times as many; and those of a call.
WINDOWS, _TIMES, _ROWS = 512, 8, 32
_LONGEST = 300
_TEXTS = 64
# Of the rater's metadata, what the file's users need.
_FACTS = ("fingerprint", "sequence_length", "tokenizer", "reference", "document_reference")


@dataclasses.dataclass(frozen=True)
class Converted:
    """A file that was written.

    Attributes:
      path: of it.
      record: what the JSON beside it holds.
    """

    path: str
    record: dict

    def __str__(self) -> str:
        check = self.record["check"]
        rank = check["rank_correlation"]
        return (
            f"{self.path}: {self.record['bytes']:,} bytes; on {check['windows']} windows largest"
            f" difference {check['largest_difference']:.1e} from the SavedModel's scores, rank"
            f" correlation {'undefined' if rank is None else f'{rank:.6f}'}"
        )


def convert_rater(
    rater: LoadedRater,
    formats: Sequence[str],
    directory: str | os.PathLike | None = None,
    int8: bool = False,
    batch: int | None = None,
    documents: Iterable[Document] | None = None,
) -> list[Converted]:
    """Writes files of other formats, in place of those that were there.

    Args:
      rater: exported, of text, loaded.
      formats: names, of `serving.portable.FORMATS`.
      directory: for the files; None: that of the rater's version.
      int8: whether each comes a second time, with weights of 8 bits.
      batch: B, windows in each call; None: any number.
      documents: on whose windows files are compared with the SavedModel; None: the prose of the
        Python installation.

    Returns:
      One for each file.

    Raises:
      ArtefactError: the rater cannot be converted; it says why. What was there stays.
      ConfigurationError: there is no such format, its libraries are missing, B is no number of
        windows, or the directory is remote.
      DataError: there is not a document.
    """
    made = find_formats(formats)
    if directory is None:
        shipped = pathlib.Path(str(packaged_folder("savedmodels"))).resolve()
        if shipped in pathlib.Path(rater.path).resolve().parents:
            raise ArtefactError(
                f"{rater.path} comes with dr_keras, where nothing of yours should lie: say where"
                " its files go (--output_dir)."
            )
        directory = rater.path
    if is_remote(os.fspath(directory)):
        raise ConfigurationError(
            f"{directory} is no local folder, and converters write to no other: name one for the"
            " files (--output_dir), and copy them."
        )
    scores = serve_scores(rater, batch)
    assert isinstance(rater, LoadedTextRater)  # of all others there are no ServeScores
    tokens = sample_windows(
        rater, embedded_corpus().documents() if documents is None else documents
    )
    expected = in_batches(lambda some: rater.score_tokens(some)["score"], tokens)
    found = []
    with locks.alone(directory, "a conversion", ArtefactError):
        for small in [False, True] if int8 else [False]:
            for one in made:
                path = os.path.join(directory, f"rater{'-int8' if small else ''}{one.suffix}")
                check = _write(one, scores, path, small, tokens, expected)
                record = {
                    "format": one.name,
                    "int8": small,
                    "bytes": os.path.getsize(path),
                    "sha256": sha256(path),
                    "input": {
                        "name": TOKENS,
                        "dtype": "int32",
                        "shape": scores.spec.shape.as_list(),
                    },
                    "output": {"name": SCORE, "dtype": "float32", "shape": [batch]},
                    "check": check,
                    "versions": _versions(one),
                    **{name: rater.metadata[name] for name in _FACTS},
                }
                write_text(f"{path}.json", json.dumps(record, indent=1))
                found.append(Converted(path, record))
    return found


def sample_windows(rater: LoadedTextRater, documents: Iterable[Document]) -> np.ndarray:
    """WINDOWS windows of the first documents, int32 [N, S], spread over `_TIMES` as many.

    Raises:
      DataError: there is not a document.
    """
    parts: list[np.ndarray] = []
    texts: list[str] = []
    iterator = iter(documents)
    while sum(map(len, parts)) < WINDOWS * _TIMES:
        texts = [document.text for document, _ in zip(iterator, range(_TEXTS))]
        if not texts:
            break
        encoded = tf.constant([text.encode("utf-8", "replace") for text in texts])
        parts.append(rater.signatures["text_windows"](text=encoded)["tokens"].numpy())
    if not parts:
        raise DataError(
            "There is no document on whose windows a converted file could be held against the"
            " SavedModel: give a corpus that has some (--text)."
        )
    windows = np.concatenate(parts)[: WINDOWS * _TIMES]
    return windows[np.unique(np.linspace(0, len(windows) - 1, WINDOWS).astype(int))]


def in_batches(score, tokens: np.ndarray, rows: int = _ROWS) -> np.ndarray:
    """Scores float32 [N] of windows int32 [N, S], `rows` a call, the last one padded."""
    filled = np.pad(tokens, [[0, -len(tokens) % rows], [0, 0]])
    calls = filled.reshape(-1, rows, tokens.shape[1])
    return np.concatenate([score(some) for some in calls])[: len(tokens)]


def _write(
    one: PortableFormat,
    scores: ServeScores,
    path: str,
    int8: bool,
    tokens: np.ndarray,
    expected: np.ndarray,
) -> dict:
    """Puts a file at `path` and gives how it compares; none is there after an ArtefactError."""
    with replacing(path) as temporary:
        try:
            with hidden_errors():
                one.write(scores, temporary, int8)
                found = in_batches(one.load(temporary), tokens, scores.spec.shape[0] or _ROWS)
        except (ArtefactError, OSError):
            raise
        except Exception as error:  # of the converter's or the runtime's own classes
            raise ArtefactError(
                f"This rater cannot be converted to {one.name}: {_reason(error)} Use its"
                " SavedModel, another format, or a student that can be (dr-keras distill)."
            ) from error
        difference = float(np.max(np.abs(found - expected)))
        limit = TOLERANCE * max(1.0, float(np.max(np.abs(expected))))
        if not np.all(np.isfinite(found)) or (not int8 and difference > limit):
            raise ArtefactError(
                f"The {one.name} file of this rater scores otherwise than its SavedModel: by up to"
                f" {difference:.2g} on {len(tokens)} windows. It was not kept; use the SavedModel."
            )
    rank = spearman(found, expected)
    return {
        "windows": len(tokens),
        "largest_difference": difference,
        "rank_correlation": None if np.isnan(rank) else rank,
    }


def _reason(error: Exception) -> str:
    """What a converter says: the operations that it lacks, or the first line of pages."""
    if isinstance(error, OperationsLacking):
        return f"it has {', '.join(error.args)}, for which that has no operation."
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return first[:_LONGEST].rstrip(".") + "."


def _versions(one: PortableFormat) -> dict[str, str]:
    packages = ["tensorflow", *one.libraries.values()]
    return {package: importlib.metadata.version(package) for package in packages}
