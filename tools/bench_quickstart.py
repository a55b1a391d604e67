#!/usr/bin/env python3
"""Measures the quick start with what makes it quick and without: seconds by stage, memory.

    tools/bench_quickstart.py --folder bench                        before, cold and warm, by turns
    tools/bench_quickstart.py --folder bench --runs cold warm --repeats 3
    tools/bench_quickstart.py --folder bench --checkout ../earlier  another checkout beside this one
    tools/bench_quickstart.py --folder bench --gin_param 'META_STEPS = 50'
    tools/bench_quickstart.py --folder bench --first_step           a minute: what is compiled once

One JSON line a run, then a table of medians. Runs, each a process of its own in a new base_dir:

  before    no programs are kept, and one process trains all models (--workers 0)
  off       no programs are kept
  cold      programs are kept in a folder that is empty
  warm      programs are kept where the run before this one kept them

Seconds of the clock mean little on a busy machine: `cpu_seconds` are those of all processes,
workers included (on Linux, where this one can wait for them), and `share_of_cores` is what they had
of the cores. `outside_stages` is imports, starting and reading gin. `losses`, the last of every
training, show whether they stayed the same. Comparisons are made though the judgement says not to
filter (--anyway).

--first_step measures the first meta-step alone, by one thread, in two processes with one folder of
programs: CPU seconds that it took, traced, compiled or loaded, and the largest resident memory.
"""

import argparse
import contextlib
import ctypes
import json
import os
from pathlib import Path
import resource
import shutil
import statistics
import subprocess
import sys
import time

ROOT = Path(__file__).resolve().parent.parent
RUNS = {
    "before": ["--program_cache", "off", "--workers", "0"],
    "off": ["--program_cache", "off"],
    "cold": ["--program_cache", "{programs}"],
    "warm": ["--program_cache", "{programs}"],
    "checkout": [],
}
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h


def cores() -> int:
    """Cores that this process may use."""
    of_linux = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if of_linux else os.cpu_count() or 1


def adopt_orphans() -> None:
    """Makes this process wait for a quick start's workers too: only then do their seconds count."""
    with contextlib.suppress(AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(_SUBREAPER, 1)


def wait_for_orphans() -> None:
    """Until no process of the quick start that ended is left."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def measure(name: str, checkout: Path, folder: Path, arguments: list[str]) -> dict:
    """One quick start; what it took.

    Args:
      name: of the run, see above.
      checkout: whose code runs.
      folder: where base_dir and programs lie.
      arguments: further ones of the command.
    """
    base_dir, programs = folder / f"run-{name}", folder / "programs"
    shutil.rmtree(base_dir, ignore_errors=True)
    if name == "cold":
        shutil.rmtree(programs, ignore_errors=True)
    own = [part.format(programs=programs) for part in RUNS[name]]
    command = [sys.executable, "-m", *_verb(checkout)]
    command += [*([] if name == "checkout" else ["--anyway"]), "--base_dir", str(base_dir)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    log = folder / f"{name}.log"
    with open(log, "w") as file:
        status = subprocess.call(
            [*command, *own, *arguments], env=environment, cwd=folder, stdout=file, stderr=file
        )
    wall = time.monotonic() - begin
    wait_for_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        raise SystemExit(f"{name}: the quick start ended with status {status}, see {log}")
    cpu = sum(after[:2]) - sum(before[:2])  # user and system
    return {
        "run": name,
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "share_of_cores": round(cpu / wall / cores(), 2),
        **details(base_dir, wall),
        "program_files": len(list(programs.glob("*/*.pb"))) if "{programs}" in RUNS[name] else 0,
    }


def _verb(checkout: Path) -> list[str]:
    """The quick start as a module; earlier checkouts have one for every command."""
    if (checkout / "dr_keras" / "__main__.py").exists():
        return ["dr_keras", "quickstart"]
    return ["dr_keras.commands.quickstart"]


def details(base_dir: Path, wall: float) -> dict:
    """What the files of a quick start say of its time, memory and outcome."""
    stages = {}
    for path in (base_dir / "stages").glob("*.json"):
        record = json.loads(path.read_text())
        if "result" in record:
            stages[path.stem] = record
    ordered = ("corpus", "meta_train", "export", "filter", "compare")
    seconds = {name: round(stages[name]["seconds"], 1) for name in ordered if name in stages}
    waits = []
    for line in (base_dir / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "data_wait_share" in record:
            waits.append(record["data_wait_share"])
    paths = sorted((base_dir / "cells").rglob("*.json"))
    records = {path.stem: json.loads(path.read_text())["record"] for path in paths}
    return {
        "stages": seconds,
        "outside_stages": round(wall - sum(seconds.values()), 1),
        "data_wait_share": round(statistics.mean(waits), 4) if waits else None,
        "trainings": [round(record["seconds"], 1) for record in records.values()],
        "peak_megabytes": max(r["peak_memory_bytes"] for r in stages.values()) // 1_000_000,
        "losses": {name: record["curve"][-1][1] for name, record in records.items()},
    }


def table(found: list[dict]) -> str:
    """Medians by run, and each one's share of the first."""
    names = list(dict.fromkeys(record["run"] for record in found))
    lines = [
        "| run | seconds | of the first | CPU seconds | of the first | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    first = None
    for name in names:
        of_run = [record for record in found if record["run"] == name]
        keys = ("seconds", "cpu_seconds", "peak_megabytes")
        wall, cpu, peak = (statistics.median(record[key] for record in of_run) for key in keys)
        first = first or (wall, cpu)
        shares = f"{wall / first[0]:.0%} | {cpu:.0f} | {cpu / first[1]:.0%}"
        lines.append(f"| {name} | {wall:.0f} | {shares} | {peak:.0f} |")
    return "\n".join(lines)


def first_step(programs: str) -> None:
    """Prints a line about the first meta-step of this process, which ends with it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"], os.environ["TF_NUM_INTRAOP_THREADS"] = "tensorflow", "1"
    sys.path.insert(0, str(ROOT))
    from dr_keras.system import program_cache, program_names

    used = program_cache.use(programs)
    import keras

    from dr_keras.config import configuration
    from dr_keras.meta.trainer import MetaTrainer
    from dr_keras.runs.experiment import experiment

    program_names.install()
    configuration.parse(["experiments/quickstart.gin"], [])
    setup = experiment()
    trainer = MetaTrainer(
        setup.rater, setup.inner_model, setup.per_example_loss, reference=setup.reference
    )

    class First(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.begin = time.process_time()

        def on_train_batch_end(self, batch, logs=None):
            taken = time.process_time() - self.begin
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000  # from kB
            line = {"first_step_cpu_seconds": round(taken, 1), "peak_megabytes": peak}
            files = Path(str(used.folder)).glob("*.pb")
            line["program_megabytes"] = round(sum(f.stat().st_size for f in files) / 1e6, 1)
            print(json.dumps(line | {"outer_loss": logs["outer_loss"]}), flush=True)
            os._exit(0)

    trainer.fit(setup.parts.train, setup.parts.outer_sets, 1, 1, [First()])


def main() -> int:
    """Runs what is asked for, by turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="runs and programs lie there")
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=["before", "cold", "warm"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--checkout", type=Path, help="its quick start is a run beside the others")
    parser.add_argument("--gin_param", action="append", default=[], metavar="BINDING")
    parser.add_argument("--first_step", action="store_true", help="that alone, twice")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # programs, of a started process
    given = parser.parse_args()
    if given.case:
        first_step(given.case)
    adopt_orphans()
    runs = [*(["checkout"] if given.checkout else []), *given.runs]
    if "checkout" in given.runs:
        parser.error("--runs checkout: name the folder, --checkout DIR")
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if given.first_step:
        programs = folder / "programs"
        shutil.rmtree(programs, ignore_errors=True)
        again = [sys.executable, __file__, "--folder", str(folder), "--case", str(programs)]
        return subprocess.call(again) or subprocess.call(again)
    more = [part for binding in given.gin_param for part in ("--gin_param", binding)]
    found = []
    for _ in range(given.repeats):
        for name in runs:
            checkout = given.checkout.absolute() if name == "checkout" else ROOT
            found.append(measure(name, checkout, folder, more))
            print(json.dumps(found[-1]), flush=True)
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
