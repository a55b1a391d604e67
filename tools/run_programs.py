#!/usr/bin/env python3
"""Runs what `dr-keras precompile --save DIR` wrote, on any device that JAX knows.

    tools/run_programs.py DIR --out lines.jsonl
    tools/run_programs.py DIR --precision tf32 --peak_tflops 495 --steps 10

Needs nothing but JAX, NumPy, the folder, and compare_runs.py beside it: carry these to the machine.
It meta-trains the population for the meta-steps that DIR has batches for, scores examples with the
rater that came of it, and trains a model of evaluation for as many steps. Every step and every
figure is a line of JSON in --out; a summary is printed. With several precisions each runs in a
process of its own (so that peak memory is its own), and the last lines say how far losses are apart
and how alike the scores rank examples: those of each precision's own rater, and those of the first
one's rater in all of them. --reference FILE compares with the lines of another run or machine, too;
give it the rater that was saved there (--rater) for the second of these.
"""

import argparse
import gzip
import json
from pathlib import Path
import statistics
import subprocess
import sys
import time

import compare_runs
import numpy as np

FORMAT = 1
_SCORED = 256  # examples, where batches are drawn
_PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "tpu": "tpu"}


def read_manifest(folder: Path, made_by: str = "dr-keras precompile --save") -> dict:
    """The folder's manifest; SystemExit where there is none that this program reads."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(
            f"{folder} has no readable manifest.json ({error}): make it with {made_by} {folder}."
        )
    if manifest.get("format") != FORMAT:
        sys.exit(
            f"{folder} has format {manifest.get('format')}, this program reads {FORMAT}: take"
            " the tools of the dr_keras that made it, or make it again."
        )
    return manifest


class Compiled:
    """A program of the folder, compiled for the device.

    Args:
      folder: of the manifest.
      description: of the program, in the manifest.
      precision: that has a file.
      device: of JAX.
    """

    def __init__(self, folder: Path, description: dict, precision: str, device):
        # No public interface of JAX takes a program; these are what its own compiler goes through.
        from jax._src.compiler import get_compile_options
        from jax._src.interpreters.mlir import make_ir_context
        from jax._src.lib import xla_client
        from jax._src.lib.mlir import ir
        from jax.extend import mlir

        started = time.perf_counter()
        hlo = gzip.decompress((folder / description["files"][precision]).read_bytes())
        with make_ir_context():
            module = ir.Module.parse(mlir.hlo_to_stablehlo(hlo))
            self._executable = device.client.compile_and_load(
                module,
                executable_devices=xla_client.DeviceList((device,)),
                compile_options=get_compile_options(1, 1),
            )
        self.arguments = [name for name, _, _ in description["arguments"]]
        self.results = [name for name, _, _ in description["results"]]
        self.flops = description["flops"]
        self.estimated = description["estimated_temp_bytes"][precision]
        self.seconds = time.perf_counter() - started

    def __call__(self, *stores: dict) -> dict:
        """Name -> result, of arguments found in the first of the stores that has them.

        An argument whose place a result takes is gone afterwards, and the result is put into the
        store where it was.
        """
        places = [next(s for s in stores if name in s) for name in self.arguments]
        given = [place[name] for name, place in zip(self.arguments, places)]
        one = [lambda arrays: arrays[0]] * len(self.results)  # of one device
        found = self._executable.execute_sharded(given).consume_with_handlers(one)
        results = dict(zip(self.results, found))
        for name, place in zip(self.arguments, places):
            if name in results:
                place[name] = results[name]
        return results

    def bytes(self) -> dict:
        """What the compiler says of memory."""
        stats = self._executable.get_compiled_memory_stats()
        return {
            "argument_bytes": stats.argument_size_in_bytes,
            "output_bytes": stats.output_size_in_bytes,
            "alias_bytes": stats.alias_size_in_bytes,
            "temp_bytes": stats.temp_size_in_bytes,
            "estimated_temp_bytes": self.estimated,
        }

    def text(self) -> str:
        """The optimised program."""
        return "\n".join(module.to_string() for module in self._executable.hlo_modules())


class Values:
    """Initial values, of the folder's file or drawn."""

    def __init__(self, folder: Path, manifest: dict, device):
        self._manifest, self._device = manifest, device
        path = folder / "values.npz"
        self._kept = np.load(path) if path.exists() else {}
        self._described = {
            name: (tuple(shape), dtype)
            for program in manifest["programs"].values()
            for name, shape, dtype in program["arguments"]
        }

    def store(self, *roles: str, prefix: str = "", seed: int = 0) -> dict:
        """Name -> array on the device, of all arguments of these roles; zeros where nothing else
        is known."""
        import jax

        found = {}
        for number, (name, (shape, dtype)) in enumerate(sorted(self._described.items())):
            if not name.startswith(tuple(f"{role}/" for role in roles)) and name not in roles:
                continue
            how = self._manifest["initial"].get(name, {"constant": 0})
            if "file" in how:
                value = self._kept[prefix + name]
            elif "constant" in how:
                value = np.full(shape, how["constant"], dtype)
            else:
                generator = np.random.default_rng([seed, number])
                value = generator.standard_normal(shape, np.float32)
                value = (value * how["deviation"] + how["mean"]).astype(dtype)
            found[name] = jax.device_put(value, self._device)
        return found


class Windows:
    """Batches, of the folder's file, of the user's, or drawn.

    A kind of batch is "inner" (of all updates of a meta-step), "outer/<held-out set>", "train_step"
    or "score".
    """

    def __init__(self, folder: Path, manifest: dict, file: Path | None):
        self._vocabulary = manifest["windows"].get("drawn")
        self._kept = {} if self._vocabulary or file else dict(np.load(folder / "windows.npz"))
        self._features: dict[str, dict] = {}  # kind -> feature -> (shape, dtype)
        updates = manifest["settings"]["updates_per_step"]
        for program, described in manifest["programs"].items():
            for name, shape, dtype in described["arguments"]:
                *start, feature = name.removeprefix("batches/").split("/")
                if not name.startswith("batches/") or program == "advance":
                    continue
                kind = "/".join(start).replace("held_out/", "outer/") or program
                shape = [updates, *shape[1:]] if kind == "inner" else shape
                self._features.setdefault(kind, {})[feature] = (tuple(shape), dtype)
        self._own = None
        if file is not None:
            rows = np.load(file)
            self._own = rows[rows.files[0]] if hasattr(rows, "files") else rows

    @property
    def held_out(self) -> list[str]:
        """Kinds of the held-out sets."""
        return [kind for kind in self._features if kind.startswith("outer/")]

    def batch(self, kind: str, step: int, member: int = 0) -> dict[str, np.ndarray]:
        """Feature -> rows of that meta-step (or training step) and member."""
        if not self._kept:
            return self._drawn(kind, step, member)
        found = {name: self._kept[f"{kind}/{name}"][step] for name in self._features[kind]}
        return found if kind == "train_step" else {n: rows[member] for n, rows in found.items()}

    def scored(self) -> list[dict[str, np.ndarray]]:
        """Batches of the rater's size to be scored."""
        features = self._features["score"]
        size = next(iter(features.values()))[0][0]
        if not self._kept:
            return [self._drawn("score", step, 0) for step in range(max(_SCORED // size, 1))]
        rows = {name: self._kept[f"score/{name}"] for name in features}
        count = len(next(iter(rows.values()))) // size
        return [
            {name: values[n * size : (n + 1) * size] for name, values in rows.items()}
            for n in range(count)
        ]

    def _drawn(self, kind: str, step: int, member: int) -> dict[str, np.ndarray]:
        generator = np.random.default_rng([sum(map(ord, kind)), step, member])
        found = {}
        for name, (shape, dtype) in self._features[kind].items():
            if self._own is not None:
                value = self._own[generator.integers(len(self._own), size=shape[:-1])]
            else:
                # Logarithms of ranks are uniform: frequencies fall as words' do. 0 is padding.
                exponents = generator.random(shape, np.float32)
                value = np.minimum(self._vocabulary**exponents, self._vocabulary - 1)
            found[name] = value.astype(dtype)
        return found


class Run:
    """One precision of a folder on one device."""

    def __init__(self, options, manifest: dict, precision: str, device, emit):
        self.options, self.manifest, self.precision = options, manifest, precision
        self.device, self.emit = device, emit
        self.values = Values(options.folder, manifest, device)
        self.windows = Windows(options.folder, manifest, options.windows)
        self.settings = manifest["settings"]

    def compiled(self, name: str) -> Compiled | None:
        """A program, or None where the folder lacks it or --program names others."""
        around = name in ("collect", "rater_update", "advance") and self.wanted("meta_step")
        description = self.manifest["programs"].get(name)
        if description is None or not (around or self.wanted(name)):
            return None
        program = Compiled(self.options.folder, description, self.precision, self.device)
        if self.options.keep_hlo:
            self.options.keep_hlo.mkdir(parents=True, exist_ok=True)
            path = self.options.keep_hlo / f"{name}.{self.precision}.txt.gz"
            path.write_bytes(gzip.compress(program.text().encode(), 6))
        return program

    def wanted(self, name: str) -> bool:
        """Whether --program allows it."""
        return not self.options.program or name in self.options.program

    def put(self, batch: dict, role: str = "") -> dict:
        """A batch on the device under its arguments' names."""
        import jax

        start = role and role + "/"
        return {start + name: jax.device_put(v, self.device) for name, v in batch.items()}

    def meta_train(self, rater: dict) -> None:
        """The population's meta-steps, as `PopulationStep` and `MetaTrainer.fit` make them."""
        step_of = self.compiled("meta_step")
        if step_of is None:
            return
        advance = self.compiled("advance")
        collect, update = self.compiled("collect"), self.compiled("rater_update")
        length, population = self.settings["unroll_length"], self.settings["population"]
        updates = self.settings["updates_per_step"]
        begins = {(s, m): generation for s, m, generation in self.manifest["beginnings"]}
        shared = self.values.store("sum", "meta_step")
        members = [self.values.store("outer_adam") for _ in range(population)]
        seconds = []
        for step in range(self.options.steps):
            batches = []
            for index, member in enumerate(members):
                if (step, index) in begins:
                    generation = begins[step, index]
                    member |= self.values.store(
                        "member", prefix=f"{index}.{generation}/", seed=1 + index + 97 * generation
                    )
                inner = self.windows.batch("inner", step, index)
                unrolled = {name: value[:length] for name, value in inner.items()}
                batch = self.put(unrolled, "batches/inner")
                for kind in self.windows.held_out:
                    held_out = self.windows.batch(kind, step, index)
                    batch |= self.put(held_out, kind.replace("outer/", "batches/held_out/"))
                key = np.array(self.manifest["keys"][step][index], np.int32)
                batch |= self.put({"key": key})
                further = [
                    self.put({name: value[n] for name, value in inner.items()}, "batches")
                    for n in range(length, updates)
                ]
                batches.append((batch, further))
            self.wait(rater, shared, *members, *(batch for batch, _ in batches))
            started, reports = time.perf_counter(), []
            for member, (batch, further) in zip(members, batches):
                found = step_of(rater, member, batch)
                collect(shared, member, found)
                report = {n: v for n, v in found.items() if n.startswith("report/")}
                del found
                for number, one in enumerate(further):
                    more = advance(rater, member, one)
                    report[f"advanced/{number}"] = more["advanced/finite"]
                reports.append(report)
            update(rater, shared)
            reports = [{n: np.asarray(v) for n, v in report.items()} for report in reports]
            self.wait(rater)
            seconds.append(time.perf_counter() - started)
            self.report(step, seconds[-1], reports)
        self.summarise("meta_step", step_of, seconds, population)

    def report(self, step: int, seconds: float, reports: list[dict]) -> None:
        """One line a meta-step; ends the program where something is not finite."""
        line = {"kind": "meta_step", "meta_step": step + 1, "seconds": seconds}
        for name in reports[0]:
            values = [report[name].tolist() for report in reports]
            line[name.removeprefix("report/")] = values
        self.emit(line)
        finite = [bool(v) for n, vs in line.items() if n == "finite" or "/" in n for v in vs]
        if not all(finite):
            sys.exit(f"Meta-step {step + 1}: a loss or meta-gradient is not finite; see --out.")

    def score(self, rater: dict, kind: str) -> None:
        """Scores of the folder's examples."""
        program = self.compiled("score")
        if program is None:
            return
        found, seconds = [], []
        for batch in self.windows.scored():
            batch = self.put(batch, "batches")
            self.wait(rater, batch)
            started = time.perf_counter()
            found.append(np.asarray(program(rater, batch)["scores"], np.float64))
            seconds.append(time.perf_counter() - started)
        self.emit({"kind": kind, "scores": np.concatenate(found).tolist()})
        if kind == "scores":
            self.summarise("score", program, seconds, 1)

    def train(self) -> None:
        """Plain training steps of a model of evaluation."""
        program = self.compiled("train_step")
        if program is None:
            return
        store, seconds = self.values.store("model", "optimizer", "schedule", "metrics"), []
        for step in range(self.options.steps):
            batch = self.put(self.windows.batch("train_step", step), "batches")
            self.wait(store, batch)
            started = time.perf_counter()
            found = program(store, batch)
            loss = float(np.asarray(found["logs/loss"]))
            self.wait(store)
            seconds.append(time.perf_counter() - started)
            self.emit({"kind": "train_step", "step": step + 1, "mean_loss": loss,
                       "seconds": seconds[-1]})  # fmt: skip
        self.summarise("train_step", program, seconds, 1)

    def wait(self, *stores: dict) -> None:
        """Until the device has done all that was asked."""
        import jax

        jax.block_until_ready(stores)

    def summarise(self, name: str, program: Compiled, seconds: list[float], times: int) -> None:
        """A line of figures; the first step warms up and does not count."""
        median = statistics.median(seconds[1:] or seconds)
        line = {"kind": "summary", "program": name, "steps": len(seconds), "members": times}
        line |= {"seconds": median, "slowest": max(seconds[1:] or seconds)}
        line |= {"compile_seconds": program.seconds, **program.bytes()}
        if program.flops:
            line["tflops"] = program.flops * times / median / 1e12
            peak = self.options.peak_tflops.get(self.precision)
            line["share_of_peak"] = line["tflops"] / peak if peak else None
        stats = self.device.memory_stats() or {}
        line["peak_bytes_in_use"] = stats.get("peak_bytes_in_use")
        self.emit(line)


def check_device(folder: Path, manifest: dict, device) -> None:
    """SystemExit where the folder was made for another kind of device."""
    if device.platform != _PLATFORMS[manifest["device"]]:
        sys.exit(
            f"{folder} was made for {manifest['device']}, and JAX runs on {device.platform} here"
            f" ({device.device_kind}): make it for this device, or choose another with"
            " JAX_PLATFORMS."
        )


def run_one(options, manifest: dict, precision: str) -> None:
    """Runs a folder in one precision and appends its lines to --out."""
    import jax

    jax.config.update("jax_enable_x64", True)  # Keras counts an optimizer's steps in int64
    device = jax.devices()[0]
    check_device(options.folder, manifest, device)
    with options.out.open("a", encoding="utf-8") as file:

        def emit(line: dict) -> None:
            own = {
                "precision": precision,
                "device": device.device_kind,
                "folder": str(options.folder),
            }
            file.write(json.dumps(own | line) + "\n")
            file.flush()

        try:
            run_all(Run(options, manifest, precision, device, emit))
        except RuntimeError as error:  # JAX's own are
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            reason = str(error).split("\n", 1)[0]
            emit({"kind": "out_of_memory", "reason": reason})
            print(f"{precision} stopped, what came before it is kept: {reason}", file=sys.stderr)


def run_all(run: Run) -> None:
    """Everything that the options ask for, in one precision."""
    import jax

    options, rater = run.options, run.values.store("rater")
    run.meta_train(rater)
    run.score(rater, "scores")
    if options.save_rater:
        np.savez(options.save_rater, **{n: np.asarray(v) for n, v in rater.items()})
    if options.rater:
        for name, value in np.load(options.rater).items():
            rater[name] = jax.device_put(value, run.device)
    if options.rater or options.save_rater:
        run.score(rater, "scores_of_one_rater")
    del rater
    run.train()


def peaks(text: str) -> dict[str, float]:
    """'495' or 'tf32=495,bfloat16=989' as precision -> TFLOP/s."""
    parts = [part.rpartition("=") for part in text.split(",")]
    names = ("float32", "tf32", "bfloat16")
    return {name: float(v) for n, _, v in parts for name in ([n] if n else names)}


def main() -> None:
    """Runs every precision, then prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("run_programs.jsonl"))
    parser.add_argument("--precision", action="append", help="may be repeated; default: all")
    parser.add_argument("--program", action="append", help="meta_step, score or train_step")
    parser.add_argument("--steps", type=int, help="default: what the folder has batches for")
    parser.add_argument("--peak_tflops", type=peaks, default={}, help="495 or tf32=495,float32=67")
    parser.add_argument("--windows", type=Path, help=".npy or .npz of token windows [N, S]")
    parser.add_argument("--reference", type=Path, help="lines of another run to compare with")
    parser.add_argument("--keep_hlo", type=Path, help="folder for the optimised programs")
    parser.add_argument("--save_rater", type=Path, help=".npz for the rater that was learned")
    parser.add_argument("--rater", type=Path, help="such a file: its rater scores, too")
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    manifest = read_manifest(options.folder)
    options.steps = options.steps or manifest["meta_steps"]
    if options.steps > manifest["meta_steps"]:
        sys.exit(f"--steps {options.steps}: {options.folder} has {manifest['meta_steps']}; make it"
                 " with a larger --meta_steps.")  # fmt: skip
    chosen = options.precision or manifest["precisions"]
    unknown = sorted(set(chosen) - set(manifest["precisions"]))
    if unknown:
        sys.exit(f"--precision {unknown[0]}: {options.folder} has"
                 f" {', '.join(manifest['precisions'])}.")  # fmt: skip
    before = len(compare_runs.read_lines(options.out)) if options.out.exists() else 0
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if len(chosen) == 1:
        run_one(options, manifest, chosen[0])
        if options.part:
            return  # of a larger call, which prints
    else:
        own = [a for a in sys.argv[1:] if a not in chosen and a != "--precision"]
        own += ["--part"]
        # The rater of the first precision is scored in all of them.
        rater = options.rater or options.save_rater or options.out.with_suffix(".rater.npz")
        for number, precision in enumerate(chosen):
            flag = "--rater" if number or options.rater else "--save_rater"
            command = [
                sys.executable,
                __file__,
                *own,
                f"--precision={precision}",
                f"{flag}={rater}",
            ]
            if subprocess.run(command).returncode:
                sys.exit(f"{precision} failed; the others before it are in {options.out}.")
    lines = compare_runs.read_lines(options.out)[before:]
    compare_runs.show(
        lines, compare_runs.read_lines(options.reference) if options.reference else []
    )


if __name__ == "__main__":
    main()
