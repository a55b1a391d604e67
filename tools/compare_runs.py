#!/usr/bin/env python3
"""Figures of what run_programs.py wrote, and how far apart precisions, devices and runs are.

    tools/compare_runs.py lines.jsonl [reference.jsonl]

Needs nothing but NumPy. run_programs.py prints the same at its end.
"""

import json
from pathlib import Path
import sys

import numpy as np


def read_lines(path: Path) -> list[dict]:
    """The lines of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks [N], equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def rank_correlation(first, second) -> float:
    """Spearman's; NaN where one of them has one value only."""
    a, b = (ranks(np.asarray(values)) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale else float("nan")


def compared(lines: list[dict], others: list[dict]) -> dict[str, float]:
    """How far one run's lines are from another's: relative differences of losses and meta-gradients
    (largest, and median), rank correlations of scores."""
    found = {}

    def pairs(kind):
        sides = ([line for line in source if line["kind"] == kind] for source in (lines, others))
        return list(zip(*sides))

    for kind, name in (
        ("meta_step", "outer_loss"),
        ("meta_step", "meta_gradient_norm"),
        ("train_step", "mean_loss"),
    ):
        if pairs(kind):
            a, b = (np.array([line[name] for line in side]) for side in zip(*pairs(kind)))
            apart = np.abs(a - b) / np.abs(b)
            found[f"{name} differs by"] = float(np.max(apart))
            found[f"{name} differs by (median)"] = float(np.median(apart))
    for kind, what in (
        ("scores", "rank correlation"),
        ("scores_of_one_rater", "rank correlation of one rater"),
    ):
        for a, b in pairs(kind)[:1]:
            found[what] = rank_correlation(a["scores"], b["scores"])
    return found


def show(lines: list[dict], reference: list[dict]) -> None:
    """Prints figures, and comparisons with the first precision and the reference."""
    widths = (10, 9, 11, 8, 7, 8, 6, 8, 9)
    rows = [("program", "precision", "s a step", "TFLOP/s", "of peak", "temp GiB", "(est.)",
             "peak GiB", "compile s")]  # fmt: skip
    for line in lines:
        if line["kind"] == "summary":
            share, rate = line.get("share_of_peak"), line.get("tflops")
            sizes = ("temp_bytes", "estimated_temp_bytes", "peak_bytes_in_use")
            rows.append((
                line["program"], line["precision"], f"{line['seconds']:.5f}",
                f"{rate:.2f}" if rate else "-", f"{share:.1%}" if share else "-",
                *(f"{line[k] / 2**30:.2f}" if line.get(k) is not None else "-" for k in sizes),
                f"{line['compile_seconds']:.1f}",
            ))  # fmt: skip
    for row in rows:
        print(" ".join(c.rjust(w) if n > 1 else c.ljust(w) for n, (c, w) in
                       enumerate(zip(row, widths))))  # fmt: skip
    by: dict[str, list] = {}
    for line in lines:
        by.setdefault(line["precision"], []).append(line)
    first = next(iter(by))
    for precision, own in by.items():
        for name, other in ((first, by[first]), ("reference", reference)):
            if other and name != precision:
                found = [
                    f"{what} {value:.4f}" if "rank" in what else f"{what} {value:.2g}"
                    for what, value in compared(own, other).items()
                    if not np.isnan(value)  # a rater that gives one score to all
                ]
                print(f"{precision} against {name}: {', '.join(found)}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    first, *others = (read_lines(Path(name)) for name in sys.argv[1:])
    show(first, others[0] if others else [])
