"""Local files that are whole or not there: written under another name, then renamed."""

import os
import pathlib
import uuid

UNFINISHED = "unfinished-"


def write_text(path: str | os.PathLike, text: str, errors: str = "strict") -> None:
    """Writes UTF-8 text to `path`, in place of what was there, and makes its folder.

    Args:
      path: of the file; it has its name only once it is whole.
      text: the content.
      errors: as for `str.encode`; "replace" for text that may hold lone surrogates.
    """
    write_bytes(path, text.encode("utf-8", errors))


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes `content` to `path`, in place of what was there, and makes its folder."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes that share a folder, on several machines too, must not write into each other's file.
    temporary = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex[:12]}-{path.name}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Removes what killed processes left of files in `folder`, where nobody else writes now."""
    for path in pathlib.Path(folder).glob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)
