#!/usr/bin/env python3
"""Prints how a rater rates the text of this Python installation, by what it is.

    tools/rate_installation.py explaining_prose

Sources are the documentation topics, the docstrings of the standard library, NumPy and Keras, and
the functions of the standard library without theirs; up to --documents of each, drawn with seed 0.
"below topics" is the share of pairs, a topic and another document, in which the topic is rated
higher (0.5: neither). A line ends with the ids that are rated lowest and highest.
"""

import argparse
import collections
from collections.abc import Sequence
from pathlib import Path
import random
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TOPICS = "topics"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line a source, with its extremes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rater", help="a name that ships, or a path")
    parser.add_argument("--documents", type=int, default=500, metavar="N")
    arguments = parser.parse_args(argv)
    import numpy as np

    import dr_keras
    from dr_keras.data.corpora.embedded import embedded_code, embedded_corpus

    rater = dr_keras.load_rater(arguments.rater)
    by_source = collections.defaultdict(list)
    for corpus in (embedded_corpus(), embedded_code()):
        for document in corpus.documents():
            name = "code" if corpus.name == "code" else document.source
            by_source[name].append(document)
    draw, found = random.Random(0), {}
    for name, documents in by_source.items():
        documents = draw.sample(documents, min(arguments.documents, len(documents)))
        rated = np.asarray(rater([document.text for document in documents])["percentile"])
        order = np.argsort(rated, kind="stable")
        found[name] = rated, [documents[k].id for k in (order[0], order[-1])]
    print(f"{'source':<8}{'documents':>10}{'quartiles of the percentile':>30}{'below topics':>14}")
    for name, (rated, ends) in found.items():
        quartiles = "  ".join(f"{q:.2f}" for q in np.quantile(rated, [0.25, 0.5, 0.75]))
        pairs = np.sign(np.subtract.outer(found[TOPICS][0], rated)) / 2 + 0.5
        below = "" if name == TOPICS else f"{pairs.mean():.3f}"
        print(f"{name:<8}{len(rated):>10}{quartiles:>30}{below:>14}  {ends[0]} ... {ends[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
