"""What every verb of `dr-keras` shares: flags, quiet start-up, and errors as one plain line.

A verb is one file of this package: a function under `@verb`, called `main`, which
`dr_keras.__main__` finds there. The package imports this module before any verb, because TensorFlow
and Keras read their settings once, when they are first imported. A verb imports whatever needs
TensorFlow after it has parsed its arguments.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import enum
import errno
import io
import logging
import os
import re
import signal
import sys
import threading
import traceback
from typing import TextIO

from dr_keras.errors import ConfigurationError, DrKerasError, as_raised
from dr_keras.system import program_cache, program_names, system_errors
from dr_keras.system.progress import hidden_errors

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
STANDARD_OUTPUT = "standard output"

# On a machine without a GPU, TensorFlow reports at error level that it found no driver. What goes
# wrong in earnest arrives as a Python exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A user's ~/.keras/keras.json may name another backend; dr_keras runs on TensorFlow only.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

# gin appends such lines to whatever passes through a configurable function.
_GIN_CALL_NOTE = re.compile(r"\n\s*In call to configurable '[^\n]*")


class ArgumentParser(argparse.ArgumentParser):
    """A parser with the flags that verbs have in common.

    It starts TensorFlow, quietly, once the arguments are known to be good. So `--help` and a
    mistyped flag answer at once. Verbs import the rest of dr_keras after `parse_args`, and so after
    this.
    """

    def __init__(
        self, text: str, prog: str | None = None, *, base_dir=True, gin=True, tensorflow=True
    ):
        """See `Verb` for what is asked for; `prog` is how the command is called."""
        super().__init__(
            prog=prog, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self._starts_tensorflow = tensorflow
        if base_dir:
            self.add_argument(
                "--base_dir",
                required=True,
                metavar="DIR",
                help="run directory: checkpoints, summaries, metrics and exports lie below it",
            )
        if gin:
            self.add_argument(
                "--gin_file",
                dest="gin_files",
                action="append",
                default=[],
                metavar="FILE",
                help="gin file, by path or by its name among those of dr_keras "
                "(experiments/...); may be repeated, later ones win",
            )
            self.add_argument(
                "--gin_param",
                dest="gin_params",
                action="append",
                default=[],
                metavar="'NAME.ARGUMENT = VALUE'",
                help="one gin binding, applied after the files; may be repeated",
            )
        if tensorflow:
            self.add_argument("--program_cache", metavar="DIR", help=program_cache.HELP)

    def parse_args(self, args=None, namespace=None):
        arguments = super().parse_args(args, namespace)
        if not logging.root.handlers:  # else a library's first warning would put its form on all
            logging.root.addHandler(_PlainLog(logging.WARNING))
        if getattr(arguments, "base_dir", None):
            _require_folder(arguments.base_dir)
        if self._starts_tensorflow:
            _require_tensorflow_backend()
            kept = program_cache.use(arguments.program_cache)
            if kept.reason:
                print(f"Compiled programs are not kept: {kept.reason}.", file=sys.stderr)
            # Its libraries print some lines before they read any setting.
            with hidden_errors(shown_if_failed=True):
                import tensorflow  # noqa: F401
            program_names.install()
        return arguments


class _PlainLog(logging.Handler):
    """Warnings as lines on standard error, without the names of modules."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # nobody is left to read it
            print(record.getMessage(), file=sys.stderr, flush=True)


def _require_folder(path: str) -> None:
    """Raises OSError, before any work, if `path` is no folder and cannot be made."""
    if "://" in path:
        return
    there = os.path.abspath(path)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), there)
    if there != os.path.abspath(path) and not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), there)


class Task(enum.Enum):
    """What the verbs are for; `dr-keras --help` lists them by it, in this order."""

    WHOLE = "from raw text to evidence"
    LEARN = "learn a rater"
    FILTER = "score and filter"
    COMPARE = "train and compare"
    MACHINE = "look at a machine"


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb of `dr-keras`; calling it runs it and gives the exit status of the process.

    Attributes:
      name: As it is typed, in lower case with dashes.
      task: What it is for.
      text: The help text. Its first line is what the list of verbs says.
      function: `(parser, argv) -> status`, which adds its flags and parses them; None stands for 0.
      needs: False of what it does without: `base_dir`, a run directory (`args.base_dir`, required);
        `gin`, bindings (`args.gin_files` and `args.gin_params`, lists); `tensorflow`, and Keras
        on it.
    """

    name: str
    task: Task
    text: str
    function: Callable[[ArgumentParser, Sequence[str] | None], int | None]
    needs: Mapping[str, bool]

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        def main(argv: Sequence[str] | None) -> int | None:
            parser = ArgumentParser(self.text, f"dr-keras {self.name}", **self.needs)
            return self.function(parser, argv)

        return run(main, argv)


def verb(name: str, task: Task, text: str, **needs: bool) -> Callable[[Callable], Verb]:
    """Makes the function below it the verb `name`, which `Verb` describes."""

    def register(function: Callable) -> Verb:
        if function.__module__ == "__main__":  # python -m dr_keras.commands.<file>
            print(f"error: this is started as: python -m dr_keras {name}", file=sys.stderr)
            raise SystemExit(EXIT_USER_ERROR)
        return Verb(name, task, text, function, needs)

    return register


def corpus_bindings(
    scope: str, paths: Sequence[str], macro: str, *arguments: str, name: str | None = None
) -> list[str]:
    """Lines of gin that make files the corpus of a macro and of arguments, which all use it.

    Args:
      scope: of the bindings; what is bound there (`target/jsonl_corpus.text_field`) is for these
        files alone.
      paths: local ones become absolute, so that a run is the same from every folder.
      macro: such as "CORPUS".
      arguments: such as "text_data.corpus".
      name: of the corpus; None for what gin binds, else that of the first path.
    """
    whole = [path if "://" in path else os.path.abspath(path) for path in map(str, paths)]
    path = repr(whole[0] if len(whole) == 1 else whole)
    lines = [f"{macro} = @{scope}/files_corpus()", f"{scope}/files_corpus.path = {path}"]
    if name is not None:
        lines.append(f"{scope}/files_corpus.name = {name!r}")
    return lines + [f"{argument} = %{macro}" for argument in arguments]


def _input_bindings(arguments: argparse.Namespace) -> list[str]:
    """What --input says, as gin; a prepared corpus takes the place of the data as a whole."""
    path = getattr(arguments, "input", None)
    if path is None or not hasattr(arguments, "input_arguments"):
        return []
    from dr_keras.data.prepared_manifest import is_prepared  # needs TensorFlow

    if not is_prepared(path):
        taking = (*arguments.input_arguments, "text_data.corpus")
        return corpus_bindings("input", [path], "CORPUS", *taking)
    for flag, given in ("target", "targets"), ("group_field", "group_field"):
        if getattr(arguments, given, None):
            raise ConfigurationError(
                f"{path} is prepared already, its parts split: --{flag} would come too late."
                f" Prepare the corpus with it (dr-keras prepare --input ... --{flag} ...)."
            )
    place = path if "://" in path else os.path.abspath(path)
    return ["DATA = @prepared_data", f"prepared_data.path = {place!r}"]


def _target_bindings(arguments: argparse.Namespace) -> list[str]:
    """What --target and --group_field say, as gin."""
    lines = []
    if targets := getattr(arguments, "targets", None):
        from dr_keras.data.formats.listing import default_name  # needs TensorFlow

        if len(targets) > 1:
            print(
                f"{len(targets)} targets: one rater for all of them together. For a rater each,"
                " call once for each --target, with a --base_dir of its own.",
                file=sys.stderr,
            )
        name = " + ".join(map(default_name, targets))
        lines += corpus_bindings("target", targets, "TARGET", "text_data.target", name=name)
    if field := getattr(arguments, "group_field", None):
        from dr_keras.data.formats.base import FORMATS  # needs TensorFlow

        grouped = (format for format in FORMATS.values() if format.group_argument)
        lines += [f"{each.setting(each.group_argument)} = {field!r}" for each in grouped]
    return lines


def parse_gin(arguments: argparse.Namespace, default: str | os.PathLike | None = None) -> None:
    """Parses the gin files and bindings of `arguments`; without a file, the file `default`."""
    from dr_keras.config import configuration  # here, so that the doctor runs without gin

    lines = [*_input_bindings(arguments), *_target_bindings(arguments)]
    flags = {"workers": "Workers.count", "elsewhere": "Elsewhere.folder"}
    given = {binding: getattr(arguments, flag, None) for flag, binding in flags.items()}
    last = [f"{binding} = {value!r}" for binding, value in given.items() if value is not None]
    arguments.gin_params = [*lines, *arguments.gin_params, *last]
    files = arguments.gin_files or ([] if default is None else [os.fspath(default)])
    configuration.parse(files, arguments.gin_params)
    if getattr(arguments, "targets", None) and "@text_data" not in configuration.parsed_config():
        raise ConfigurationError(
            "--target splits text by @text_data, and nothing in this configuration names it: leave"
            " the flag out, or take the data from @text_data."
        )


def run(
    main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None
) -> int:
    """Runs `main(argv)` and returns the exit status of the process.

    Errors a user can act on, those of the operating system among them (`system_errors`), become
    `error: ...` on standard error and status 2, Ctrl-C becomes one line and status 130, SIGTERM
    leaves as an exception would, with status 143 (so that claims on shared work are given up and
    half-written files removed), and a reader that went away (`... | head`) is no error. Everything
    else is a defect and keeps its traceback. With DR_KERAS_TRACEBACK=1 all errors show theirs.
    """
    prepare_streams()
    try:
        _require_utf8(sys.argv[1:] if argv is None else argv)
        with _terminated_as_an_exception(), _flushed_output():
            return main(argv) or 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED
    except Exception as error:
        if _is_of_output(error):
            _give_up(sys.stdout)
            if isinstance(error, BrokenPipeError):
                return 0
        message = _for_the_user(error)
        if message is None:
            raise
        if os.environ.get("DR_KERAS_TRACEBACK"):
            traceback.print_exception(error)
        return _report(_GIN_CALL_NOTE.sub("", message))


def _for_the_user(error: Exception) -> str | None:
    """What to tell a user, who can act on it; None of a defect."""
    error = as_raised(error)
    if isinstance(error, DrKerasError):
        return str(error)
    if isinstance(error, RuntimeError | TypeError):
        # gin raises these for an argument that nobody set.
        missing = _missing_binding(str(error))
        if missing is not None:
            return missing
    return system_errors.explained(error)


@contextlib.contextmanager
def _flushed_output() -> Iterator[None]:
    """What is still to be printed goes out while its failure can be told, `--help` included."""
    try:
        yield
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


@contextlib.contextmanager
def _terminated_as_an_exception() -> Iterator[None]:
    """SIGTERM raises SystemExit, where nobody else has a use for it."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return

    def leave(number, frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _report(message: str) -> int:
    for stream, text in (sys.stdout, ""), (sys.stderr, f"error: {message}\n"):
        try:
            print(text, end="", file=stream, flush=True)
        except OSError:  # Nobody is left to hear of it.
            _give_up(stream)
    return EXIT_USER_ERROR


def _missing_binding(message: str) -> str | None:
    marked = re.search(
        r"Required bindings for `(?P<name>[^`]+)` not provided in config: \[(?P<arguments>.*)\]",
        message,
    )
    unmarked = re.search(
        r"No values supplied by Gin or caller for arguments: \[(?P<arguments>.*?)\][\s\S]*?"
        r"In call to configurable '(?P<name>[^']+)'",
        message,
    )
    found = marked or unmarked
    if found is None:
        return None
    name, arguments = found["name"], found["arguments"]
    first = arguments.split(",")[0].strip().strip("'\"")
    return (
        f"the configuration gives {name} no value for {arguments}. Bind it in a gin file or with "
        f"--gin_param '{name}.{first} = ...'."
    )


def _require_tensorflow_backend() -> None:
    backend = os.environ["KERAS_BACKEND"]
    if backend != "tensorflow":
        raise ConfigurationError(
            f"KERAS_BACKEND is set to {backend!r}, and dr_keras runs on TensorFlow only. "
            "Unset it, or set KERAS_BACKEND=tensorflow."
        )


def _require_utf8(argv: Sequence[str]) -> None:
    for argument in argv:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise ConfigurationError(
                f"{ascii(argument)} is not UTF-8, and TensorFlow opens no file by such a name:"
                " rename it, or make a link to it."
            ) from None


# --------------------------------------------------------------- standard output and standard error


class _Named(io.FileIO):
    """A descriptor whose errors name it; a plain one's say neither what failed nor where."""

    def __init__(self, descriptor: int, called: str):
        super().__init__(descriptor, "w", closefd=False)
        self._called = called

    def write(self, data, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = self._called
            raise


def prepare_streams() -> None:
    """Makes the standard streams fit for a command.

    What a terminal's encoding does not have (an arrow, a file name that is not UTF-8) is printed as
    an escape. What was closed (`>&-`) becomes /dev/null; otherwise the next file to be opened would
    get its number, and with it whatever a library prints.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            _open_null(descriptor)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    before, named = sys.stdout, _Named(1, STANDARD_OUTPUT)
    buffer = getattr(before, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # PYTHONUNBUFFERED leaves no buffer
    # neither a test's stream nor done before
    if isinstance(before, io.TextIOWrapper) and type(raw) is io.FileIO and raw.fileno() == 1:
        before.flush()
        sys.stdout = io.TextIOWrapper(
            named if raw is buffer else io.BufferedWriter(named),
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=before.line_buffering,
            write_through=before.write_through,
        )
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _is_of_output(error: BaseException) -> bool:
    """Whether it was standard output that could not be written to."""
    return getattr(system_errors.original(error), "filename", None) == STANDARD_OUTPUT


def _give_up(stream: TextIO) -> None:
    """A standard stream becomes /dev/null: Python flushes it at exit, which would fail again."""
    with contextlib.suppress(OSError, io.UnsupportedOperation):
        if stream.fileno() in (1, 2):
            _open_null(stream.fileno())


def _open_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
