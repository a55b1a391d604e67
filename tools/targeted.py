#!/usr/bin/env python3
"""Runs experiments/targeted.gin for four targets, absent from the corpus or with a little of it.

    tools/targeted.py --data DATA --base_dir runs/targeted
    tools/targeted.py --data DATA --base_dir runs/targeted --targets code --present 0.01 \
        --gin_param "evidence.core_arms = ('unfiltered', 'rater', 'random')"

DATA has the corpora as JSON Lines with the fields `text` and `domain`: text/<domain>.jsonl, and in
natural/ web pages (`kind` raw or clean, `page` joins both) and human conversations. A target's own
source is no part of the corpus; with --present, so large a share of the corpus is. About 16 MB of
the whole make the corpus, chosen by a hash of the documents.

Each study is a folder <base_dir>/<target>-<share>, resumed by the same command; what follows
--gin_param goes to all of them. The wins, ties and losses over what is done are printed at the end:
tools/scoreboard.py prints them again.
"""

import argparse
from collections.abc import Iterator, Sequence
import dataclasses
import os
from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).resolve().parent.parent
CORPUS_BYTES = 16.5e6
WEB_PAGES = "natural/web_dragnet_2.jsonl"  # raw: menus, comments and footers among the text


@dataclasses.dataclass(frozen=True)
class Target:
    """Text that models shall be good at.

    Attributes:
      files: what it is made of.
      left_out: files that are of the same source, and no part of the corpus.
      kind: of the records that count; None for all.
    """

    files: Sequence[str]
    left_out: Sequence[str] = ()
    kind: str | None = None


TARGETS = {
    "medical": Target(["text/pubmed_abstracts.jsonl"]),
    "code": Target(["text/python_code.jsonl"]),
    "conversations": Target(
        [
            "natural/chat_oasst_human.jsonl",
            "natural/chat_chitchat_human.jsonl",
            "natural/chat_topical_rated.jsonl",
        ]
    ),
    "web": Target(["natural/web_dragnet_1.jsonl"], kind="clean"),
}


def bindings(data: Path, target: Target, present: float) -> Iterator[str]:
    """The gin bindings of one study.

    Args:
      data: the folder of the corpora.
      target: of the study.
      present: share of the corpus that is of the target's own source.
    """
    own = {data / name for name in (*target.files, *target.left_out)}
    domains = sorted(path for path in (data / "text").glob("*.jsonl") if path not in own)
    size = sum(path.stat().st_size for path in [*domains, data / WEB_PAGES])
    files = [os.fspath(path) for path in domains]
    yield f"CORPUS_FILES = {files}"
    yield f"TARGET_FILES = {[os.fspath(data / name) for name in target.files]}"
    if target.kind:
        yield "target/jsonl_corpus.group_field = 'page'"
        yield f"target/jsonl_corpus.only = {{'kind': {target.kind!r}}}"
    yield f"web/jsonl_corpus.path = '{data / WEB_PAGES}'"
    yield "web/jsonl_corpus.only = {'kind': 'raw'}"
    yield "web/jsonl_corpus.name = 'web_raw'"
    yield "web/jsonl_corpus.source_field = None"
    yield "web/jsonl_corpus.source = 'web_raw'"
    yield "pool/sampled_corpus.corpus = @pool/mixture_corpus()"
    yield "pool/mixture_corpus.corpora = [@domains/jsonl_corpus(), @web/jsonl_corpus()]"
    yield f"pool/sampled_corpus.share = {min(CORPUS_BYTES / size, 1.0):.4f}"
    if not present:
        yield "CORPUS = @pool/sampled_corpus()"
        return
    owned = sum((data / name).stat().st_size for name in target.files)
    share = min(present * CORPUS_BYTES / owned, 0.5)
    for scope in ("own", "rest"):
        yield f"{scope}/sampled_corpus.corpus = @target/jsonl_corpus()"
        yield f"{scope}/sampled_corpus.share = {share:.4f}"
    yield "own/sampled_corpus.name = 'own'"
    yield "rest/sampled_corpus.rest = True"
    yield "CORPUS = @mixture_corpus()"
    yield "mixture_corpus.corpora = [@pool/sampled_corpus(), @own/sampled_corpus()]"
    yield "TARGET = @rest/sampled_corpus()"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the studies one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--base_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--present", nargs="+", type=float, default=[0.0], metavar="SHARE")
    parser.add_argument("--gin_param", action="append", default=[], metavar="BINDING")
    parser.add_argument("--workers", type=int, metavar="N")
    arguments = parser.parse_args(argv)
    folders = []
    for present in arguments.present:
        for name in arguments.targets:
            folder = arguments.base_dir / f"{name}-{100 * present:g}"
            given = [*bindings(arguments.data, TARGETS[name], present), *arguments.gin_param]
            print(f"== {folder}", flush=True)
            command = [
                *(sys.executable, "-m", "dr_keras", "evaluate"),
                *("--gin_file", "experiments/targeted.gin", "--base_dir", os.fspath(folder)),
                *(part for binding in given for part in ("--gin_param", binding)),
                *(() if arguments.workers is None else ("--workers", str(arguments.workers))),
            ]
            status = subprocess.call(command, cwd=ROOT)
            if status:
                return status
            folders.append(f"{folder.name}={folder}")
    return subprocess.call([sys.executable, ROOT / "tools" / "scoreboard.py", *folders])


if __name__ == "__main__":
    sys.exit(main())
