#!/usr/bin/env python3
"""Makes a corpus of any size: sentences of text at hand, recombined by a seed into documents.

    tools/make_corpus.py --output made --megabytes 1000
    tools/make_corpus.py --output made --megabytes 1000 --input text/*.jsonl --source_field domain

Writes JSON Lines files made/part-00000.jsonl, ... with `id`, `text` and `source`, and prints one
JSON line. Without --input the text at hand is the embedded corpus (docstrings of Python and of
packages). A made document takes source and length from a document drawn at random, and is filled up
with runs of one to four sentences that follow each other somewhere in that source: the words, the
layout, the proportions of the sources and the lengths are natural, the sense is not. It is for
measuring what size costs, not for learning.

--copies of the documents are an earlier one again, --near_copies one with a sentence added: exact
duplicates and near ones, which may lie in any two files. A document is a pure function of the seed
and its number, so memory is that of the text at hand, whatever the size. The share of exact
duplicates that is printed is counted, by `content_key`: documents of whose content one came before,
among all of them up to a million, and beyond that among those whose key lies in a part of all keys.
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path
import re
import resource
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.corpora.embedded import embedded_corpus
from dr_keras.data.documents import content_key, utf8_size
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.system import whole_files

# A sentence with the white space after it, so that what is joined again has the layout it had; a
# line is one as well, and so are 2,000 characters in which neither ends.
_SENTENCE = re.compile(r"\S.{0,1998}?(?:[.!?]+\s+|\n\s*|\Z)|\S.{1,1999}", re.DOTALL)
_LONGEST_RUN = 4
_HELD_KEYS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Source:
    """Sentences of one source: the text that they make up, and where each begins and ends."""

    text: str
    starts: np.ndarray


class Recombined:
    """Documents made of the sentences of a corpus: a pure function of (seed, number)."""

    def __init__(self, corpus: Corpus, seed: int, copies: float, near_copies: float):
        for name, share in {"copies": copies, "near_copies": near_copies}.items():
            if not 0 <= share < 1:
                raise ConfigurationError(f"--{name} is a share in [0, 1), not {share:g}")
        if copies + near_copies >= 1:
            raise ConfigurationError("--copies and --near_copies leave no document of its own")
        self._seed, self._copies, self._near = seed, copies, copies + near_copies
        texts: dict[str, list[str]] = {}
        sizes: dict[str, list[int]] = {}
        owners, lengths = [], []
        for document in corpus.documents():
            found = _SENTENCE.findall(document.text)
            if not found[-1][-1].isspace():
                found[-1] += "\n"
            texts.setdefault(document.source, []).append("".join(found))
            sizes.setdefault(document.source, []).extend(map(len, found))
            owners.append(document.source)
            lengths.append(len(document.text))
        self.documents_at_hand = len(owners)
        self._owners, self._lengths = owners, lengths
        self._sources = {
            name: Source("".join(found), np.cumsum([0, *sizes[name]]))
            for name, found in texts.items()
        }

    def document(self, number: int) -> tuple[str, str]:
        """Text and source of the document with this number, from 0."""
        random = np.random.default_rng([self._seed, number])
        kind = random.random()
        if number and kind < self._near:
            text, name = self.document(int(random.integers(number)))
            if kind >= self._copies:
                text = f"{text} {self._run(name, random, 1)}".strip()
            return text, name
        row = int(random.integers(len(self._owners)))
        name, room = self._owners[row], self._lengths[row]
        runs: list[str] = []
        while room > 0:
            runs.append(self._run(name, random, int(random.integers(1, _LONGEST_RUN + 1))))
            room -= len(runs[-1])
        return "".join(runs).strip(), name

    def _run(self, name: str, random: np.random.Generator, sentences: int) -> str:
        text, starts = self._sources[name].text, self._sources[name].starts
        first = int(random.integers(len(starts) - 1))
        return text[starts[first] : starts[min(first + sentences, len(starts) - 1)]]


class Duplicates:
    """Counts documents whose content came before, in bounded memory.

    Keys are kept in a slice of all keys only, which is halved when they become too many: copies of
    one content lie in it together or not at all, so the share in it is that of the whole.
    """

    def __init__(self, held: int = _HELD_KEYS):
        self._held, self._slice = held, 1
        self._counts: dict[int, int] = {}

    def add(self, text: str) -> None:
        key = int(content_key(text)[:16], 16)
        if key % self._slice:
            return
        self._counts[key] = self._counts.get(key, 0) + 1
        while len(self._counts) > self._held:
            self._slice *= 2
            self._counts = {k: n for k, n in self._counts.items() if not k % self._slice}

    @property
    def share(self) -> float:
        """Of all documents, those of which one came before."""
        counted = sum(self._counts.values())
        return 1 - len(self._counts) / counted if counted else 0.0


def write_corpus(made: Recombined, folder: Path, text_bytes: int, file_bytes: int) -> dict:
    """Writes documents until their texts have `text_bytes`; returns what was written."""
    duplicates, number, texts, files, size = Duplicates(), 0, 0, 0, 0
    while texts < text_bytes:
        written = 0
        with (
            whole_files.replacing(folder / f"part-{files:05d}.jsonl") as temporary,
            open(temporary, "w", encoding="utf-8") as file,
        ):
            while texts < text_bytes and written < file_bytes:
                text, source = made.document(number)
                record = {"id": f"made/{number}", "text": text, "source": source}
                line = json.dumps(record, ensure_ascii=False) + "\n"
                file.write(line)
                duplicates.add(text)
                written += utf8_size(line)
                texts += utf8_size(text)
                number += 1
        files, size = files + 1, size + written
    return {
        "documents": number,
        "text_bytes": texts,
        "files": files,
        "file_bytes": size,
        "share_of_exact_duplicates": round(duplicates.share, 5),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--megabytes", type=float, default=100.0, help="of text, 10**6 bytes each")
    parser.add_argument("--file_megabytes", type=float, default=64.0, help="of a file, about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", type=float, default=0.02)
    parser.add_argument("--near_copies", type=float, default=0.02)
    parser.add_argument("--input", nargs="*", default=[], help="JSON Lines files, folders, globs")
    parser.add_argument("--text_field", default="text")
    parser.add_argument("--source_field", default="source")
    arguments = parser.parse_args(argv)
    begin = time.monotonic()
    if arguments.output.exists() and any(arguments.output.iterdir()):
        sys.exit(f"{arguments.output} is not empty: name a folder that is not there yet.")
    try:
        corpus = (
            jsonl_corpus(
                arguments.input,
                text_field=arguments.text_field,
                id_field=None,
                source_field=arguments.source_field,
                name="at hand",
            )
            if arguments.input
            else embedded_corpus()
        )
        made = Recombined(corpus, arguments.seed, arguments.copies, arguments.near_copies)
        found = write_corpus(
            made,
            arguments.output,
            int(arguments.megabytes * 1e6),
            int(arguments.file_megabytes * 1e6),
        )
    except (ConfigurationError, DataError, OSError) as error:
        sys.exit(str(error))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    facts = {
        "seed": arguments.seed,
        "documents_at_hand": made.documents_at_hand,
        "seconds": round(time.monotonic() - begin, 1),
        "peak_megabytes": round(peak),
    }
    print(json.dumps(found | facts))


if __name__ == "__main__":
    main()
