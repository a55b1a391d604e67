#!/usr/bin/env python3
"""Losses, and wins, ties and losses, of several finished studies, as Markdown tables.

    tools/scoreboard.py abstracts=runs/abstracts code=runs/code > scoreboard.md

Each argument is the folder of a study or its results.json, with a name before "="; without one the
study is called after its target, or after its folder.
"""

import argparse
import pathlib
import sys

from dr_keras.errors import ConfigurationError, DrKerasError
from dr_keras.studies.results import Results
from dr_keras.studies.scoreboard import Scoreboard


def named(argument: str) -> tuple[str, Results]:
    """Name of a study and its results."""
    name, _, path = argument.rpartition("=")
    found = pathlib.Path(path)
    if found.is_dir():
        found = found / "results.json"
    results = Results.load(found)
    return name or results.corpus.target or found.resolve().parent.name, results


def main(argv: list[str] | None = None) -> int:
    """Prints the tables; 2 where a study cannot be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", metavar="[NAME=]FOLDER")
    parser.add_argument("--digits", type=int, default=3, help="of differences")
    arguments = parser.parse_args(argv)
    studies: dict[str, Results] = {}
    try:
        for argument in arguments.studies:
            name, results = named(argument)
            if name in studies:
                raise ConfigurationError(
                    f"two studies are called {name!r}: name them, as in first={argument}."
                )
            studies[name] = results
    except DrKerasError as error:
        print(f"scoreboard: {error}", file=sys.stderr)
        return 2
    print(Scoreboard.of(studies).markdown(arguments.digits), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
