"""The command `dr-keras <verb>`, which is also `python -m dr_keras <verb>`.

A verb is a file of `dr_keras.commands` of that name, whose `main` is a `Verb`. Nothing here imports
TensorFlow, so that a list of verbs and a mistyped one are answered at once.
"""

from collections.abc import Sequence
import difflib
import importlib
import pkgutil
import sys

from dr_keras import commands
from dr_keras.commands import common
from dr_keras.errors import ConfigurationError


def _files() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(commands.__path__)]


def _verb_of(file: str) -> common.Verb | None:
    """The verb in a file of `dr_keras.commands`; None where it holds none."""
    main = getattr(importlib.import_module(f"{commands.__name__}.{file}"), "main", None)
    return main if isinstance(main, common.Verb) else None


def verbs() -> dict[str, common.Verb]:
    """All verbs by their names."""
    return {verb.name: verb for verb in map(_verb_of, _files()) if verb is not None}


def text_of_help(known: dict[str, common.Verb]) -> str:
    """The verbs by what they are for, with a line each."""
    lines = ["usage: dr-keras <verb> ...", "", "dr-keras <verb> --help lists what a verb takes."]
    width = max(map(len, known))
    for task in common.Task:
        lines += ["", f"{task.value}:"]
        for verb in known.values():
            if verb.task == task:
                lines.append(f"  {verb.name:<{width}}  {verb.text.splitlines()[0]}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the verb that `argv` begins with, by default that of the process; its exit status."""
    name, *rest = (sys.argv[1:] if argv is None else list(argv)) or [""]
    file = name.replace("-", "_")  # no other is imported, so that a defect in it harms nobody else
    verb = _verb_of(file) if file in _files() else None
    if verb is not None:
        return verb(rest)

    def answer(argv: Sequence[str] | None) -> int:
        known = verbs()
        if name in ("-h", "--help", "help"):
            print(text_of_help(known))
            return 0
        near = difflib.get_close_matches(name.replace("_", "-"), known, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        what = f"{name!r} is no verb of dr-keras." if name else "dr-keras needs a verb."
        raise ConfigurationError(f"{what}{meant} `dr-keras --help` lists them.")

    return common.run(answer, [name, *rest])


if __name__ == "__main__":
    sys.exit(main())
