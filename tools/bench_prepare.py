#!/usr/bin/env python3
"""Measures corpora larger than memory: preparing them, and training on them.

    tools/bench_prepare.py --folder bench --megabytes 10 100 1000
    tools/bench_prepare.py --folder bench --megabytes 1000 --cases memory access

One JSON line a case. Corpora of these sizes (of text) are made below --folder by
tools/make_corpus.py, from --input where it is given; they and what is prepared of them are kept
there and used again by a later call, so that cases may be run one by one. Every case is a process
of its own, the commands that a user types or what they call. Windows of 128 bytes, padded. Cases:

  prepare    dr-keras prepare of the largest corpus with one worker and with two, by turns,
             --repeats each: seconds of the clock, CPU seconds and MB of text a CPU second (all
             processes), the largest resident memory of any of them; a last line with the ratio of
             the medians
  parts      of the largest corpus: contents that lie in two parts (by `content_key` of the texts
             as they were read), and documents that are in none, beside those that the manifest
             says were left out
  killed     prepare of the second largest, killed at three points and started again: whether every
             file is what it is without that
  access     of the largest: seconds from imports to the first batches, with the files cold (dropped
             from the page cache) and warm; windows a second by random access, in batches of 32
  memory     of each corpus: --steps meta-steps of gin/experiments/quickstart_input.gin, with its
             meta-evaluations and its judgement; peak resident memory (VmHWM; also until training
             began, until the first and until the last meta-step), seconds before training,
             meta-steps a second (median), the windows these consume, and the share of time they
             waited for data, where the logs have it; a last line with the growth of the peak from
             one size to the next, and how much faster `access` is than what meta-steps consume
  resumed    the same run on the second largest, killed after half of the meta-steps and started
             again: whether all files of the run are what they are without that

Two workers need two cores that nobody else uses; seconds of the clock mean little on a busy
machine.
"""

import argparse
import atexit
import ctypes
import hashlib
import json
import os
from pathlib import Path
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

EXPERIMENT = "experiments/quickstart_input.gin"
CASES = ("prepare", "parts", "killed", "access", "memory", "resumed")
_ACCESS_SECONDS = 5.0
_OF_THE_CLOCK = re.compile(rb'"(seconds|data_wait_share)": [0-9.e-]+')
_SET_CHILD_SUBREAPER = 36
_KILLED_AT = (0.2, 0.5, 0.8)  # of the time that one preparation takes


def environment() -> dict[str, str]:
    """Of started processes: this checkout's code, a thread each where arrays are computed."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def start(command: list[str]) -> subprocess.Popen:
    """A process group of its own, so that it can be killed with its workers."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if "--case" in command else None,
        text=True,
        start_new_session=True,
    )
    atexit.register(lambda: process.returncode is None and kill(process))
    return process


def finished(process: subprocess.Popen) -> tuple[str, list[resource.struct_rusage]]:
    """What it printed, and what it and all that it started used, a process group of its own."""
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(process.args)} ended with status {process.returncode}: {said}")
    every = [used]
    while True:  # the server of its workers ends after it, and is this process's then
        try:
            every.append(os.wait4(-process.pid, 0)[2])
        except ChildProcessError:
            return said, every


def adopt() -> None:
    """Has this process wait for those whose parents have ended (Linux)."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def case(name: str, **settings) -> dict:
    """The facts of a case that runs in a process of its own."""
    said, _ = finished(start([__file__, "--case", name, json.dumps(settings)]))
    return json.loads(said.splitlines()[-1])


def kill(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def say(name: str, **facts) -> None:
    print(json.dumps({"case": name, **facts}), flush=True)


def contents(folder: Path, but: tuple[str, ...] = ()) -> dict[str, str]:
    """File -> SHA-256 of all files in a folder but those whose names begin so.

    What JSON says of the clock is left out.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(but):
            content = path.read_bytes()
            if path.suffix in (".json", ".jsonl"):
                content = _OF_THE_CLOCK.sub(b"", content)
            found[name] = hashlib.sha256(content).hexdigest()
    return found


class Corpora:
    """Corpora of given sizes and what is prepared of them, made where they are asked for."""

    def __init__(self, folder: Path, given: list[str]):
        self._folder, self._given = folder, given

    def raw(self, megabytes: float) -> Path:
        path = self._folder / f"corpus-{megabytes:g}"
        if not path.exists():
            unfinished = self._folder / f"unfinished-corpus-{megabytes:g}"
            shutil.rmtree(unfinished, ignore_errors=True)
            command = [ROOT / "tools/make_corpus.py", "--output", unfinished]
            command += ["--megabytes", megabytes, *self._given]
            say("corpus", megabytes=megabytes, **json.loads(finished(start(command))[0]))
            unfinished.rename(path)
        return path

    def prepared(self, megabytes: float) -> Path:
        path = self._folder / f"prepared-{megabytes:g}"
        if not (path / "manifest.json").exists():
            finished(self.preparing(megabytes, path, workers=2))
        return path

    def preparing(self, megabytes: float, output: Path, workers: int) -> subprocess.Popen:
        command = ["-m", "dr_keras", "prepare", "--input", self.raw(megabytes)]
        command += ["--output_dir", output, "--workers", workers]
        return start(command)


def prepare(corpora: Corpora, folder: Path, megabytes: float, repeats: int) -> None:
    seconds: dict[int, list[float]] = {1: [], 2: []}
    fingerprints = set()
    for repeat in range(repeats):
        for workers in (1, 2) if repeat % 2 == 0 else (2, 1):
            output = folder / f"timed-{workers}"
            shutil.rmtree(output, ignore_errors=True)
            corpora.raw(megabytes)
            begin = time.monotonic()
            _, used = finished(corpora.preparing(megabytes, output, workers))
            seconds[workers].append(time.monotonic() - begin)
            manifest = json.loads((output / "manifest.json").read_text())
            fingerprints.add(manifest["parts"]["train"]["fingerprint"])
            cpu = sum(each.ru_utime + each.ru_stime for each in used)
            say(
                "prepare",
                megabytes=megabytes,
                workers=workers,
                seconds=round(seconds[workers][-1], 1),
                cpu_seconds=round(cpu, 1),
                megabytes_a_cpu_second=round(megabytes / cpu, 2),
                largest_process_megabytes=round(max(each.ru_maxrss for each in used) / 1024),
                counts=manifest["counts"],
                bytes_written=sum(
                    file.stat().st_size for file in output.rglob("*") if file.is_file()
                ),
            )
            shutil.rmtree(output)
    one, two = (statistics.median(seconds[workers]) for workers in (1, 2))
    say("one worker to two", ratio=round(one / two, 2), same_bytes=len(fingerprints) == 1)


def killed(corpora: Corpora, folder: Path, megabytes: float) -> None:
    whole, again = folder / "whole", folder / "killed"
    for path in (whole, again):
        shutil.rmtree(path, ignore_errors=True)
    corpora.raw(megabytes)
    begin = time.monotonic()
    finished(corpora.preparing(megabytes, whole, workers=2))
    took = time.monotonic() - begin
    kills = 0
    for share in _KILLED_AT:
        process = corpora.preparing(megabytes, again, workers=2)
        time.sleep(share * took)
        if process.poll() is None:
            kill(process)
            kills += 1
        if (again / "manifest.json").exists():
            break
    done = (again / "manifest.json").exists()
    finished(corpora.preparing(megabytes, again, workers=1))
    first, second = contents(whole), contents(again)
    different = sorted(name for name in first | second if first.get(name) != second.get(name))
    say(
        "prepare, killed and started again",
        megabytes=megabytes,
        seconds_without=round(took, 1),
        kills=kills,
        done_before_the_last_start=done,
        files=len(first),
        different=different,
    )
    for path in (whole, again):
        shutil.rmtree(path)


def parts(corpus: str, prepared: str) -> dict:
    """Contents in two parts, and documents in none, by eight bytes of their hashes."""
    import pyarrow.compute
    import pyarrow.parquet

    from dr_keras.data.formats.jsonl import jsonl_corpus

    def short(text: str) -> int:
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    manifest = json.loads((Path(prepared) / "manifest.json").read_text())
    names = list(manifest["parts"])
    ids, where = [], []
    for number, part in enumerate(names):
        for shard in manifest["parts"][part]["shards"]:
            file = Path(prepared) / shard["rows_file"]["file"]
            column = pyarrow.parquet.read_table(file, columns=["id"])["id"]
            first = column.filter(pyarrow.compute.ends_with(column, "#0"))
            ids.append(np.array([short(id[:-2]) for id in first.to_pylist()], np.uint64))
            where.append(np.full(len(ids[-1]), number, np.int8))
    known, part_of = np.concatenate(ids), np.concatenate(where)
    order = np.argsort(known, kind="stable")
    known, part_of = known[order], part_of[order]
    keys, found = [], []
    for document in jsonl_corpus(corpus).documents():
        keys.append(int(document.content_key[:16], 16))
        found.append(short(document.id))
    keys, found = np.array(keys, np.uint64), np.array(found, np.uint64)
    places = np.minimum(np.searchsorted(known, found), len(known) - 1)
    is_there = known[places] == found
    pairs = np.unique(
        np.stack([keys[is_there], part_of[places[is_there]].astype(np.uint64)]), axis=1
    )
    contents_there, parts_of_each = np.unique(pairs[0], return_counts=True)
    return {
        "documents_read": len(keys),
        "documents_in_parts": len(known),
        "ids_in_two_places": int(len(known) - len(np.unique(known))),
        "contents": len(np.unique(keys)),
        "contents_in_parts": len(contents_there),
        "contents_in_two_parts": int(np.sum(parts_of_each > 1)),
        "documents_in_no_part": int(np.sum(~is_there)),
        "manifest": manifest["counts"],
        "documents_of_parts": {part: manifest["parts"][part]["documents"] for part in names},
    }


def drop_from_cache(folder: str) -> None:
    """Clean pages leave the page cache, as after a restart."""
    os.sync()
    for path in filter(Path.is_file, Path(folder).rglob("*")):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def access(prepared: str) -> dict:
    """First batches cold and warm, and random batches for some seconds."""
    from dr_keras.data import prepared as reading
    from dr_keras.data import streams

    def first() -> tuple[float, streams.BatchStream]:
        begin = time.monotonic()
        data = reading.prepared_data(prepared)
        stream = streams.BatchStream(data.train, 32, seed=0)
        stream.batch(0)
        streams.BatchStream(data.outer, 32, seed=0).batch(0)
        return time.monotonic() - begin, stream

    drop_from_cache(prepared)
    cold, _ = first()
    warm, stream = first()
    for path in sorted(
        Path(prepared).rglob("*.npy")
    ):  # into the page cache, as of a run that lasts
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass
    begin, wall, batches = time.process_time(), time.monotonic(), 0
    while time.process_time() - begin < _ACCESS_SECONDS:
        stream.batch(batches)
        batches += 1
    used = time.process_time() - begin
    return {
        "windows": len(stream.examples),
        "first_batches_seconds_cold": round(cold, 3),
        "first_batches_seconds_warm": round(warm, 3),
        "windows_a_cpu_second": round(32 * batches / used),
        "windows_a_second": round(32 * batches / (time.monotonic() - wall)),
        "peak_megabytes": peak_megabytes(),
    }


def peak_megabytes() -> int:
    """VmHWM of this process: resident memory at most, pages of mapped files included."""
    text = Path("/proc/self/status").read_text()
    return round(int(text.partition("VmHWM:")[2].split()[0]) / 1024)


def meta_training(prepared: str, base_dir: str, steps: int, bindings: list[str]) -> dict:
    """What `dr-keras meta-train --input <prepared>` does, with a clock at each meta-step."""
    begin = time.monotonic()
    from dr_keras.config import configuration
    from dr_keras.meta.callbacks import TrainerCallback, read_metrics
    from dr_keras.runs.meta_training import meta_train
    import gin

    imported, imports = time.monotonic(), peak_megabytes()
    bindings = [f"META_STEPS = {steps}", *bindings]
    of_data = ["DATA = @prepared_data", f"prepared_data.path = {prepared!r}"]
    configuration.parse([EXPERIMENT], [*of_data, *bindings])

    class Clock(TrainerCallback):
        def __init__(self):
            super().__init__()
            self.times: list[float] = []
            self.begin = self.consumed = 0.0
            self.peaks = {"imports": imports}

        def on_train_begin(self, logs=None):
            self.begin = time.monotonic()
            self.peaks["until training"] = peak_megabytes()

        def on_train_batch_end(self, batch, logs=None):
            rows = self.trainer.last_record.rows
            outer = gin.query_parameter("MetaTrainer.outer_batch_size")
            self.consumed = rows.size + rows.shape[0] * outer
            self.times.append(time.monotonic())
            self.peaks.setdefault("until the first meta-step", peak_megabytes())

        def on_train_end(self, logs=None):
            self.peaks["until the last meta-step"] = peak_megabytes()

    clock = Clock()
    meta_train(base_dir, callbacks=[clock])
    between = statistics.median(np.diff(clock.times).tolist() or [float("nan")])
    waited = [record.get("data_wait_share") for record in read_metrics(base_dir, "epoch")]
    return {
        "configuration": [EXPERIMENT, *bindings],
        "meta_steps": steps,
        "peak_megabytes": peak_megabytes(),
        "peak_megabytes_at": clock.peaks,
        "imports_seconds": round(imported - begin, 1),
        "seconds_before_training": round(clock.begin - imported, 2),
        "meta_steps_a_second": round(1 / between, 3),
        "windows_a_meta_step": clock.consumed,
        "windows_a_second": round(clock.consumed / between),
        "data_wait_share": [share for share in waited if share is not None],
        "seconds": round(time.monotonic() - begin, 1),
    }


def memory(corpora: Corpora, folder: Path, sizes: list[float], settings: dict) -> list[dict]:
    found = []
    for megabytes in sizes:
        base_dir = folder / f"run-{megabytes:g}"
        shutil.rmtree(base_dir, ignore_errors=True)
        prepared = str(corpora.prepared(megabytes))
        facts = case("meta_training", prepared=prepared, base_dir=str(base_dir), **settings)
        say("memory", megabytes=megabytes, **facts)
        found.append({"megabytes": megabytes, **facts})
    peaks = [facts["peak_megabytes"] for facts in found]
    growth = [round(after / before - 1, 4) for before, after in zip(peaks, peaks[1:])]
    if growth:
        say("growth of the peak", megabytes=sizes, growth=growth)
    return found


def resumed(corpora: Corpora, folder: Path, megabytes: float, settings: dict) -> None:
    steps, prepared = settings["steps"], str(corpora.prepared(megabytes))
    runs = folder / "resumed-alone", folder / "resumed-killed"
    for run in runs:
        shutil.rmtree(run, ignore_errors=True)
    case("meta_training", prepared=prepared, base_dir=str(runs[0]), **settings)
    settings = {"prepared": prepared, "base_dir": str(runs[1]), **settings}
    process = start([__file__, "--case", "meta_training", json.dumps(settings)])
    metrics, done = runs[1] / "metrics.jsonl", 0
    while done <= steps // 2 and process.poll() is None:
        time.sleep(0.2)
        done = metrics.read_text().count('"kind": "step"') if metrics.exists() else 0
    is_killed = process.poll() is None
    kill(process)
    case("meta_training", **settings)
    # TensorBoard's files have times in them, the operative configuration is written at each start.
    first, second = (contents(run, ("summaries/", "operative_config-")) for run in runs)
    say(
        "meta-training, killed and started again",
        megabytes=megabytes,
        meta_steps=steps,
        killed_after=done if is_killed else None,
        files=len(first),
        different=sorted(name for name in first | second if first.get(name) != second.get(name)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where corpora are made and kept")
    parser.add_argument("--megabytes", type=float, nargs="+", default=[10.0, 100.0, 1000.0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--steps", type=int, default=200, help="meta-steps of a run")
    parser.add_argument("--gin_param", action="append", default=[], help="of the meta-training")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--input", nargs="*", default=[], help="text at hand of make_corpus.py")
    parser.add_argument("--source_field", default="source", help="likewise")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    adopt()
    if arguments.case:
        run = {"parts": parts, "access": access, "meta_training": meta_training}
        print(json.dumps(run[arguments.case[0]](**json.loads(arguments.case[1]))))
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if arguments.folder is None:
        parser.error("--folder is needed")
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    given = ["--source_field", arguments.source_field]
    given += ["--input", *map(os.path.abspath, arguments.input)] if arguments.input else []
    corpora = Corpora(folder, given)
    sizes = sorted(arguments.megabytes)
    largest, second = sizes[-1], sizes[-2:][0]
    settings = {"steps": arguments.steps, "bindings": arguments.gin_param}
    reads = consumes = None
    if "prepare" in arguments.cases:
        prepare(corpora, folder, largest, arguments.repeats)
    if "parts" in arguments.cases:
        paths = {"corpus": str(corpora.raw(largest)), "prepared": str(corpora.prepared(largest))}
        say("parts", megabytes=largest, **case("parts", **paths))
    if "killed" in arguments.cases:
        killed(corpora, folder, second)
    if "access" in arguments.cases:
        facts = case("access", prepared=str(corpora.prepared(largest)))
        say("access", megabytes=largest, **facts)
        reads = facts["windows_a_second"]
    if "memory" in arguments.cases:
        consumes = memory(corpora, folder, sizes, settings)[-1]["windows_a_second"]
    if reads and consumes:
        say("random access to what meta-steps consume", ratio=round(reads / consumes, 1))
    if "resumed" in arguments.cases:
        resumed(corpora, folder, second, settings)


if __name__ == "__main__":
    main()
