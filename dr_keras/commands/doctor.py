"""Is this machine fit for dr_keras? What is wrong, and how to put it right.

Versions, which TensorFlow is imported, devices, XLA, the TPU's library, tensorflow-text, memory,
disk, threads, and whether the rater that ships loads and scores. Nothing is changed. Exit status: 0
without a problem (warnings are none), 1 with one.
"""

from collections.abc import Sequence
import dataclasses
import json
import shutil
import sys
import textwrap

from dr_keras.commands import common
from dr_keras.commands.doctor_checks import machine, probe
from dr_keras.commands.doctor_checks.findings import PROBLEM, WARNING, Finding, findings

EXIT_PROBLEM = 1
_ABOUT = 18  # columns for what a line is about


@common.verb("doctor", common.Task.MACHINE, __doc__, base_dir=False, gin=False, tensorflow=False)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Prints the findings; 1 where one is a problem."""
    parser.add_argument("--json", action="store_true", help="facts and findings as JSON")
    arguments = parser.parse_args(argv)
    if sys.stderr.isatty():
        print("looking (about 20 seconds) ...", end="\r", file=sys.stderr, flush=True)
    facts = machine.gather()
    try:
        facts["probe"] = probe.ask()
    except OSError as error:
        facts["probe"] = {"steps": {}, "ended": str(error), "during": None, "log": ""}
    found = findings(facts)
    if arguments.json:
        content = {"findings": [dataclasses.asdict(one) for one in found], "facts": facts}
        print(json.dumps(content, indent=1))
    else:
        print(text(found, min(110, max(60, shutil.get_terminal_size((100, 24)).columns))))
    return EXIT_PROBLEM if any(one.level == PROBLEM for one in found) else 0


def text(found: Sequence[Finding], width: int = 100) -> str:
    """The findings as lines of at most `width` characters, fixes below, and what it comes to."""
    lines = []
    for one in found:
        head = f"{one.level:<8} {one.about:<{_ABOUT}} "
        indent = " " * len(f"{'':<8} {'':<{_ABOUT}} ")
        lines += _wrapped(one.text, head, indent, width)
        if one.fix:
            lines += _wrapped(one.fix, f"{indent}fix: ", f"{indent}     ", width)
    counts = [sum(one.level == level for one in found) for level in (PROBLEM, WARNING)]
    names = [
        f"{count} {name}{'s' * (count != 1)}"
        for count, name in zip(counts, (PROBLEM, WARNING))
        if count
    ]
    lines += ["", " and ".join(names) if names else "all is well"]
    return "\n".join(lines)


def _wrapped(words: str, head: str, indent: str, width: int) -> list[str]:
    # commands and paths are to be copied: they are not cut
    return textwrap.wrap(
        words, width, initial_indent=head, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]  # fmt: skip
