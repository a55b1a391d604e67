#!/usr/bin/env python3
"""Time and memory of meta-gradients in this checkout against another one, turn by turn.

    git worktree add /tmp/parent COMMIT
    tools/bench_against.py /tmp/parent

Prints one JSON line for each estimator and T: the median over --pairs of the ratio of CPU seconds,
this checkout to the other, its quartiles, and the ratio of XLA's temporaries. Two processes, one of
each checkout, compile the same meta-gradients first and then take turns, in changing order, so that
what else the machine does falls on both. The cases are those of bench_meta_step.py, which both
checkouts must have.
"""

import argparse
import json
from pathlib import Path
import statistics
import subprocess
import sys

HERE = Path(__file__).resolve()


def serve(checkout: Path, options) -> None:
    """A worker: compiles all cases, then runs the one whose number it reads and answers seconds."""
    sys.path.insert(0, str(checkout / "tools"))
    sys.path.insert(0, str(checkout))
    import bench_meta_step as bench

    settings = bench.argparse.Namespace(
        model=options.model, recompute_blocks=False, chunked_logits=False, chunk=256,
        batch_size=options.batch_size, sequence=options.sequence, vocabulary=258, rater=["tenth"],
    )  # fmt: skip
    model, rater, loss, batches = bench.build(settings)
    cases = []
    for name, length in options.cases:
        estimator = bench.ESTIMATORS[name]()
        problem, eta, state = bench.prepared(
            vars(settings) | {"rater": "tenth"}, model, rater, loss
        )
        by_set = hasattr(problem, "weigh")  # before it, the outer batch had no name

        def meta_step(state, eta, inner, outer, estimator=estimator, problem=problem, by=by_set):
            outer = {"outer": outer} if by else outer
            loss, gradient, state, _ = estimator(
                problem, bench.InnerState(*state), eta, inner, outer
            )
            return loss, gradient, tuple(state)

        case = bench.Case(meta_step, (tuple(state), eta, batches(length), batches()))
        cases.append(case)
        print(json.dumps({"temp_bytes": case.temp_bytes}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"cpu": cases[int(line)].run()[0]}), flush=True)


class Worker:
    def __init__(self, checkout: Path, arguments: list[str]):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), str(checkout), "--serve", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout,
        )  # fmt: skip

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended: its message is above")
        return json.loads(line)

    def run(self, number: int) -> float:
        print(number, file=self.process.stdin, flush=True)
        return self.read()["cpu"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path, help="folder of the other checkout")
    parser.add_argument("--model", default="0.4m", help="as bench_meta_step.py has it")
    parser.add_argument(
        "--estimators", nargs="+", default=["nested_tape", "recompute", "mixed_mode"]
    )
    parser.add_argument("--unroll", nargs="+", type=int, default=[2])
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--sequence", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.cases = [(name, length) for name in options.estimators for length in options.unroll]
    if options.serve:
        serve(options.checkout.resolve(), options)
        return
    arguments = [argument for argument in sys.argv[1:] if argument != str(options.checkout)]
    here, there = (Worker(path, arguments) for path in (HERE.parent.parent, options.checkout))
    temporaries = [(here.read(), there.read()) for _ in options.cases]
    for number, (name, length) in enumerate(options.cases):
        ratios = []
        for pair in range(options.pairs):
            workers = (here, there) if pair % 2 else (there, here)
            seconds = {worker: worker.run(number) for worker in workers}
            ratios.append(seconds[here] / seconds[there])
        own, other = (found["temp_bytes"] for found in temporaries[number])
        low, _, high = statistics.quantiles(ratios, n=4)
        print(json.dumps({
            "estimator": name, "unroll": length, "pairs": options.pairs,
            "cpu_ratio": round(statistics.median(ratios), 3),
            "quartiles": [round(low, 3), round(high, 3)],
            "temp_bytes": own, "temp_ratio": round(own / other, 4) if other else None,
        }), flush=True)  # fmt: skip
    for worker in (here, there):
        worker.process.stdin.close()
        worker.process.wait()


if __name__ == "__main__":
    main()
