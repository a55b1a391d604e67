"""What scoring and filtering of files share on the command line."""

import argparse
from collections.abc import Sequence

from dr_keras.errors import ConfigurationError

_SOURCES_SHOWN = 20


def add_corpus_and_rater(parser: argparse.ArgumentParser) -> None:
    """Flags: what to read, by which rater, and who does it."""
    parser.add_argument(
        "--input",
        metavar="PATH",
        nargs="+",
        help="files, globs or folders of JSONL, Parquet, TFRecord or text files",
    )
    parser.add_argument(
        "--rater", metavar="DIR", help="exported rater: <run>/export, or one version in it"
    )
    add_trust(parser)
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes on this machine (1 if not given)"
    )
    parser.add_argument(
        "--threads_per_worker",
        type=int,
        metavar="N",
        help="threads of TensorFlow in each of them (by default the cores, shared evenly)",
    )
    parser.add_argument(
        "--runner",
        metavar="NAME",
        help="run on Apache Beam: DirectRunner, DataflowRunner, FlinkRunner, SparkRunner, ...;"
        " flags that are not listed here are passed on to Beam",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="throw away what an unfinished run left behind"
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The flag by which a user says that a rater may do anything on this machine."""
    parser.add_argument(
        "--trust_rater",
        action="store_true",
        help="load it even where its graph can open files or run programs; for raters whose maker"
        " you know",
    )


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str]]:
    """The arguments, and the flags that are for Beam."""
    arguments, others = parser.parse_known_args(argv)
    if others and arguments.runner is None:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    return parser.parse_args([], arguments), others


def given(arguments: argparse.Namespace, *names: str) -> dict:
    """The arguments that were given on the command line; gin decides about the others."""
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def job_settings(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> dict:
    """The arguments of `score_corpus` and `filter_corpus` that the shared flags give."""
    from dr_keras.serving.loading import load_rater

    settings = {
        "runner": _runner(arguments, beam_flags),
        "fresh": arguments.fresh,
        "progress": ShardProgress(),
    }
    if arguments.input:
        settings["corpus"] = arguments.input
    if arguments.rater:
        settings["rater"] = load_rater(arguments.rater, trusted=arguments.trust_rater)
    return settings


def require(settings: dict, command: str, flags: dict[str, str]) -> None:
    """Raises ConfigurationError where neither a flag nor gin gives an argument.

    Args:
      settings: the arguments that flags gave.
      command: the configurable.
      flags: argument -> the flag that gives it.
    """
    import gin

    bound = gin.get_bindings(command)
    for name, flag in flags.items():
        if name not in settings and name not in bound:
            raise ConfigurationError(
                f"{command} needs {flag}, or the gin binding {command}.{name}."
            )


def _runner(arguments: argparse.Namespace, beam_flags: Sequence[str]):
    from dr_keras.corpus_jobs import runners

    if arguments.runner is not None:
        from dr_keras.corpus_jobs.beam.runner import beam_runner

        if arguments.workers is not None or arguments.threads_per_worker is not None:
            raise ConfigurationError(
                "--workers and --threads_per_worker are about processes of this machine; with"
                " --runner, Beam's own flags say how many workers there are."
            )
        return beam_runner([f"--runner={arguments.runner}", *beam_flags])
    if arguments.workers is None and arguments.threads_per_worker is None:
        return runners.in_process
    workers = 1 if arguments.workers is None else arguments.workers
    return runners.in_processes(workers, arguments.threads_per_worker)


class ShardProgress:
    """Shows the bytes done, the rate and the time left of each phase."""

    def __init__(self):
        self._lines = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        from dr_keras.system.progress import Progress

        total_kb = max(1, round(total / 1000))
        if phase not in self._lines:
            self._lines[phase] = Progress(phase, total_kb, "kB", interval=5.0)
        line = self._lines[phase]
        if line is not None:
            line.update(min(total_kb, round(done / 1000)))
            if done >= total:
                line.close()
                self._lines[phase] = None


def print_sources(by_source: dict[str, dict], line) -> None:
    """Prints `line(name, facts)` for the largest sources."""
    largest = sorted(by_source, key=lambda name: -by_source[name]["documents"])[:_SOURCES_SHOWN]
    for name in by_source:
        if name in largest:
            print(f"  {line(name, by_source[name])}")
    if len(by_source) > len(largest):
        print(f"  and {len(by_source) - len(largest)} more sources: see the manifest")


def print_errors(errors: dict[str, int], path: str) -> None:
    if errors:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in errors.items())
        print(f"{sum(errors.values())} records could not be read ({reasons}): see {path}")
