"""Scores of a prepared corpus: a column beside its train part.

<folder>/scores/<name>.npy     float32 [rows of train], NaN where there is none
<folder>/scores/<name>.json    whose they are and of what; its presence means done
<folder>/scores/<name>.partial what an unfinished scoring has so far
"""

from collections.abc import Callable
import json
import os

import numpy as np

from dr_keras.data.array_files import ArrayFile
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.system import schema, whole_files

SCORES = "scores"
FORMAT = "dr_keras scores of a prepared corpus"
_FACTS = schema.record(
    {
        "format": schema.one_of(FORMAT),
        "rows": schema.whole(1),
        "part": schema.SHA256,
        "rater": schema.or_null(schema.TEXT),
        "bytes": schema.whole(1),
    }
)


def column_path(folder: str | os.PathLike, name: str) -> str:
    """The file of the scores of that name.

    Raises:
      ConfigurationError: the name cannot be that of a file.
    """
    if not name or name != os.path.basename(name) or name.startswith("."):
        raise ConfigurationError(
            f"{name!r} is no name for scores of a prepared corpus: give a word, such as 'rater'; it"
            f" becomes a file in {os.path.join(folder, SCORES)}."
        )
    return os.path.join(folder, SCORES, f"{name}.npy")


def write_column(
    path: str,
    rows: int,
    part: str,
    rater: str | None,
    score: Callable[[int, int], np.ndarray],
    step: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Scores some rows after the other and writes them; goes on where an earlier call stopped.

    Args:
      path: of the column, from `column_path`.
      rows: that there are.
      part: fingerprint of the train part.
      rater: fingerprint of who scores.
      score: (first row, row after the last) -> scores [n].
      step: rows scored at once.
      progress: called with (rows done, rows in all).

    Returns:
      The facts, as written.
    """
    partial = path.removesuffix(".npy") + ".partial"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    header = json.dumps({"part": part, "rater": rater, "rows": rows, "step": step}) + "\n"
    with whole_files.writing(partial), open(partial, "a+b") as file:
        file.seek(0)
        if file.readline() != header.encode():  # of another rater or corpus, or nothing yet
            file.truncate(0)
            file.write(header.encode())
        start = len(header.encode())
        file.seek(0, os.SEEK_END)
        done = min((file.tell() - start) // 4 // step * step, rows)
        file.truncate(start + 4 * done)
        while done < rows:
            stop = min(done + step, rows)
            file.write(np.asarray(score(done, stop), np.float32).tobytes())
            file.flush()
            done = stop
            if progress is not None:
                progress(done, rows)
    if os.path.exists(_facts_path(path)):  # of the scores that are replaced now
        os.remove(_facts_path(path))
    with whole_files.replacing(path) as temporary, open(temporary, "wb") as file:
        about = {"descr": "<f4", "fortran_order": False, "shape": (rows,)}
        np.lib.format.write_array_header_1_0(file, about)
        with open(partial, "rb") as scored:
            scored.seek(start)
            while block := scored.read(1 << 22):
                file.write(block)
    facts = {
        "format": FORMAT,
        "rows": rows,
        "part": part,
        "rater": rater,
        "bytes": os.stat(path).st_size,
    }
    whole_files.write_text(_facts_path(path), json.dumps(facts, indent=1) + "\n")
    os.remove(partial)
    return facts


def read_column(path: str, part: str | None = None) -> ArrayFile:
    """The scores in a file that `write_column` wrote, float32 [rows], read where asked for.

    Args:
      path: of the `.npy` file.
      part: fingerprint of the examples that they must be of; None takes any.

    Raises:
      DataError: they are unfinished, damaged, or of other examples.
    """
    facts_path = _facts_path(path)
    try:
        with open(facts_path, "rb") as file:
            facts = schema.strict_json(file.read())
        schema.check(facts, _FACTS)
    except FileNotFoundError:
        raise DataError(
            f"{path} has no {os.path.basename(facts_path)} beside it: the scoring did not finish;"
            " the same dr-keras score-examples command goes on."
        ) from None
    except ValueError as error:
        raise DataError(f"{facts_path} is damaged ({error}): score the corpus again.") from error
    size = os.stat(path).st_size if os.path.isfile(path) else 0
    if size != facts["bytes"]:
        raise DataError(
            f"{path} has {size:,} bytes, and {facts['bytes']:,} were written: score the corpus"
            " again."
        )
    if part is not None and facts["part"] != part:
        raise DataError(
            f"{path} is of another corpus (train part {facts['part'][:12]}, here {part[:12]}): name"
            " the scores of this one."
        )
    return ArrayFile(path, (facts["rows"],), np.float32, facts["part"])


def _facts_path(path: str) -> str:
    return path.removesuffix(".npy") + ".json"
