"""What an arm keeps, as a file of a bit for every example: nothing is copied to say it.

kept    uint8 [ceil(rows / 8)], `np.packbits` of the mask
rows    of the example set
train   its fingerprint
"""

import os
import zipfile

import numpy as np

from dr_keras.baselines.selection import Selection
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import DataError
from dr_keras.system import whole_files


def write_kept(path: str | os.PathLike, selection: Selection) -> None:
    """Writes which rows of the example set a selection keeps; an `.npz` file."""
    examples = selection.candidates.examples
    kept = np.zeros(len(examples), bool)
    kept[selection.rows] = True
    arrays = {
        "kept": np.packbits(kept),
        "rows": np.array(len(kept)),
        "train": np.array(examples.fingerprint),
    }
    whole_files.write_arrays(path, arrays, compressed=False)


def kept_examples(path: str | os.PathLike, examples: ExampleSet) -> ExampleSet:
    """The examples that a file of `write_kept` keeps, without weights.

    Args:
      path: of the file.
      examples: the set that was chosen from, such as the train part of a prepared corpus.

    Raises:
      DataError: the file is damaged, or of other examples.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            kept, rows, train = stored["kept"], int(stored["rows"]), str(stored["train"])
    except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no file of kept rows, or damaged ({error}).") from error
    if rows != len(examples) or train != examples.fingerprint:
        raise DataError(
            f"{path} is about {rows:,} examples with the fingerprint {train[:12]}, not about these"
            f" {len(examples):,} ({examples.fingerprint[:12]}): name the corpus it was made for."
        )
    chosen = np.flatnonzero(np.unpackbits(kept, count=rows))
    return examples.take(chosen, f"{examples.name}, kept")
