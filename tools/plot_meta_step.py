#!/usr/bin/env python3
"""Draws and tabulates what tools/bench_meta_step.py printed.

tools/bench_meta_step.py --rater none --unroll 2 4 8 >> lines.jsonl
tools/plot_meta_step.py lines.jsonl --picture memory.svg      temporaries against T
tools/plot_meta_step.py lines.jsonl                           the same lines as a table in Markdown
"""

import argparse
import json
from pathlib import Path
import sys

MEBIBYTE = 2**20


def label(line: dict) -> str:
    """The estimator and whatever was switched on, as gin would say it."""
    options = [
        f"{name} = {line[name]}" for name in ("micro_batches", "checkpoint_every") if line.get(name)
    ]
    options += [name for name in ("recompute_blocks", "chunked_logits") if line.get(name)]
    if line["rater"] != "none":
        options.append(f"rater {line['rater']}")
    return line["case"] + (f" ({', '.join(options)})" if options else "")


def read(paths: list[str]) -> tuple[list[dict], list[dict]]:
    """(meta-steps, plain steps) of files of JSON lines; other lines are left out."""
    steps, plain = [], []
    for path in paths:
        for text in Path(path).read_text(encoding="utf-8").splitlines():
            if not text.startswith("{"):
                continue
            line = json.loads(text)
            if line["case"] == "plain_step":
                plain.append(line)
            elif "temp_without_saved_to_plain_step" in line:
                steps.append(line)
    return steps, plain


def table(steps: list[dict]) -> str:
    rows = [
        "| model | estimator | T | CPU, to T plain steps | temporaries without saved states, to one"
        " plain step | saved states, MiB | compile, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in steps:
        cells = [
            line["model"],
            label(line),
            str(line["unroll"]),
            f"{line['cpu_to_plain_steps']:.2f}",
            f"{line['temp_without_saved_to_plain_step']:.2f}",
            f"{line['saved_state_bytes'] / MEBIBYTE:.1f}",
            f"{line['compile_seconds']:.0f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def draw(steps: list[dict], plain: list[dict], path: str) -> None:
    """Temporaries against T, solid without the saved states, dotted with them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "meta_step"  # the same lines, the same file
    figure, axes = plt.subplots(figsize=(7, 4.4), layout="constrained")
    labels = list(dict.fromkeys(label(line) for line in steps))
    for number, name in enumerate(labels):
        lines = sorted(
            (line for line in steps if label(line) == name), key=lambda line: line["unroll"]
        )
        at = [line["unroll"] for line in lines]
        whole = [line["temp_bytes"] / MEBIBYTE for line in lines]
        bare = [(line["temp_bytes"] - line["saved_state_bytes"]) / MEBIBYTE for line in lines]
        color = f"C{number}"
        axes.plot(at, bare, "o-", color=color, label=name)
        if bare != whole:
            axes.plot(at, whole, ":", color=color)
    axes.axhline(
        plain[0]["temp_bytes"] / MEBIBYTE, color="0.4", lw=1, ls="--", label="one plain step"
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    ticks = sorted({line["unroll"] for line in steps})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("T, updates the meta-gradient goes through")
    axes.set_ylabel("XLA's temporaries, MiB")
    model = {line["model"] for line in steps}
    axes.set_title(f"Memory against T, {', '.join(sorted(model))} (dotted: with saved states)")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", help="JSON lines of tools/bench_meta_step.py")
    parser.add_argument("--picture", help="file to write, by its ending: svg, png, pdf")
    parser.add_argument("--model", help="only this one's lines")
    options = parser.parse_args()
    steps, plain = read(options.files)
    if options.model:
        steps, plain = (
            [x for x in lines if x["model"] == options.model] for lines in (steps, plain)
        )
    if not steps or not plain:
        sys.exit(
            f"error: no lines of meta-steps in {', '.join(options.files)}: pass what"
            " tools/bench_meta_step.py printed"
        )
    if options.picture:
        draw(steps, plain, options.picture)
    else:
        print(table(steps))


if __name__ == "__main__":
    main()
