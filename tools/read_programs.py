#!/usr/bin/env python3
"""Where the FLOPs and the bytes of optimised programs are: a row per class of operation.

    tools/run_programs.py DIR --keep_hlo HLO
    tools/read_programs.py HLO/meta_step.tf32.txt.gz ...

Reads what XLA made of a program, anywhere, with no device. FLOPs are of matrix products, bytes what
each kernel reads and writes, as if nothing stayed in a cache; what is in a loop counts as
often as the loop runs, once where the program does not say how often.
"""

import argparse
import collections
import dataclasses
import gzip
import json
import math
from pathlib import Path
import re

_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8,
          "u64": 8, "f64": 8}  # fmt: skip
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*)$")
_OPCODE = re.compile(r"(?:^|[\s)}])([a-z][\w-]*)\(")
# Without memory traffic of their own.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call",
         "conditional", "after-all", "partition-id", "async-done", "async-update"}  # fmt: skip
# Class -> opcodes, of which the first that a kernel holds names it.
CLASSES = {
    "matrix products": ("dot", "convolution"),
    "scatters": ("scatter",),
    "gathers": ("gather",),
    "sorts": ("sort",),
    "slices of stacks": ("dynamic-update-slice", "dynamic-slice"),
    "reductions": ("reduce", "reduce-window"),
    "transposes and copies": ("transpose", "copy", "copy-start", "concatenate", "pad"),
}
_PARTLY_READ = ("dynamic-slice", "gather")
_OTHER = "element by element"


@dataclasses.dataclass
class Instruction:
    """One line of a computation: what it makes, of what, how."""

    name: str
    shape: str
    opcode: str
    operands: list[str]
    rest: str


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """(computation -> its instructions, name of the entry)."""
    found: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line.endswith("{") and "->" in line and " = " not in line.split("(")[0]:
            head = line.replace("ENTRY", "").split()[0].lstrip("%").split("(")[0]
            entry = head if line.startswith("ENTRY") else entry
            current = found.setdefault(head, [])
        elif current is not None and (match := _INSTRUCTION.match(line)):
            name, rest = match.groups()
            opcode = _OPCODE.search(rest)
            if opcode is None:
                continue
            shape, after = rest[: opcode.start(1)], rest[opcode.end() :]
            inside = _closed(after)
            operands = re.findall(r"%([\w.-]+)", inside)
            # A kernel beside others has two lines, of which the first says what it does.
            kind = "fusion" if opcode[1] == "fusion-start" else opcode[1]
            current.append(Instruction(name, shape, kind, operands, after[len(inside) :]))
    return found, entry


def _closed(text: str) -> str:
    """The text up to the bracket that closes it."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[:place]
    return text


def dimensions(shape: str) -> list[int]:
    """Of the first array in a shape's text."""
    match = _SHAPE.search(shape)
    return [int(n) for n in match[2].split(",") if n] if match else []


def size(shape: str) -> int:
    """Bytes of all arrays in a shape's text."""
    arrays = _SHAPE.findall(shape)
    return sum(
        _SIZES.get(kind, 0) * math.prod(int(n) for n in sizes.split(",") if n)
        for kind, sizes in arrays
    )


class Reader:
    """Adds up a program's FLOPs, bytes and kernels by class.

    Args:
      text: of an optimised module.

    Attributes:
      found: class -> [FLOPs, bytes, kernels].
      unknown: loops that do not say how often they run.
      kernels: (bytes, how often it runs, class, shape of its result, where it comes from) of each.
    """

    def __init__(self, text: str):
        self._computations, entry = parse(text)
        self.found: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0, 0.0])
        self.unknown = 0
        self.kernels: list[tuple] = []
        self._add(entry, 1)

    def _add(self, computation: str, times: float) -> None:
        instructions = self._computations.get(computation, [])
        shapes = {i.name: i.shape for i in instructions}
        for one in instructions:
            called = re.findall(r"(?:body|to_apply|calls|computation)=%?([\w.-]+)", one.rest)
            if one.opcode == "while":
                count = re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', one.rest)
                self.unknown += count is None
                self._add(called[0], times * (int(count[1]) if count else 1))
            elif one.opcode in ("call", "conditional", "async-start"):
                for name in called:
                    self._add(name, times)
            elif one.opcode not in _FREE and not one.opcode.endswith(("-done", "-update")):
                kind, moved = self._class(one, called), times * self._moved(one, shapes, called)
                row = self.found[kind]
                row[0] += times * self._flops(one, shapes, called)
                row[1] += moved
                row[2] += times
                origin = re.search(r'op_name="([^"]*)"', one.rest)
                self.kernels.append(
                    (moved, times, kind, one.shape.strip(), origin[1] if origin else "")
                )

    def _moved(self, one: Instruction, shapes: dict, called: list[str]) -> float:
        """Bytes that a kernel reads and writes; of a slice of a stack, those of the slice."""
        if one.opcode != "fusion":
            if one.opcode == "copy-start":
                return 2 * size(shapes.get(one.operands[0], ""))
            whole = [size(one.shape), *(size(shapes.get(name, "")) for name in one.operands)]
            if one.opcode in _PARTLY_READ:
                return 2 * whole[0] + sum(whole[2:])
            if one.opcode == "dynamic-update-slice":
                return 2 * whole[2]
            return sum(whole)
        inside = self._computations.get(called[0], []) if called else []
        known = {i.name: i for i in inside}
        users = collections.defaultdict(list)
        for i in inside:
            for name in i.operands:
                users[name].append(i)

        def read(name: str) -> float:
            """Of what the fusion calls `name`, as far as it goes into kernels."""
            total = 0.0
            for user in users[name]:
                if user.opcode == "bitcast":
                    total += read(user.name)
                elif user.opcode in _PARTLY_READ and user.operands[0] == name:
                    total += size(user.shape)
                elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
                    continue  # what is not replaced stays where it is
                else:
                    return size(known[name].shape)
            return min(total, size(known[name].shape))

        def written(name: str) -> float:
            i = known[name]
            if i.opcode == "tuple":
                return sum(written(part) for part in i.operands)
            if i.opcode == "bitcast" and i.operands[0] in known:
                return written(i.operands[0])
            if i.opcode == "dynamic-update-slice":
                return size(known[i.operands[1]].shape)
            return size(i.shape)

        roots = [i.name for i in inside if not users[i.name]]
        entering = [i.name for i in inside if i.opcode == "parameter"]
        roots = [name for name in roots if name not in entering] or roots
        return sum(map(read, entering)) + sum(map(written, roots[-1:]))

    def _opcodes(self, computation: str) -> set[str]:
        return {i.opcode for i in self._computations.get(computation, [])}

    def _class(self, one: Instruction, called: list[str]) -> str:
        if "gemm" in one.rest or "matmul" in one.rest.split("metadata")[0]:
            return "matrix products"
        opcodes = {one.opcode}
        if one.opcode == "fusion":
            opcodes = set().union(*(self._opcodes(name) for name in called))
        for name, members in CLASSES.items():
            if opcodes.intersection(members):
                return name
        return "custom calls" if one.opcode == "custom-call" else _OTHER

    def _flops(self, one: Instruction, shapes: dict, called: list[str]) -> float:
        if one.opcode == "fusion":
            total = 0.0
            for name in called:
                inside = self._computations.get(name, [])
                known = {i.name: i.shape for i in inside}
                total += sum(self._flops(i, known, []) for i in inside if i.opcode == "dot")
            return total
        contracted = re.search(r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]"?([\d",]*)', one.rest)
        if contracted is None or (one.opcode != "dot" and "gemm" not in one.rest):
            return 0.0
        sizes = dimensions(shapes.get(one.operands[0], ""))
        places = [int(n) for n in re.findall(r"\d+", contracted[1])]
        return 2.0 * math.prod(dimensions(one.shape)) * math.prod(sizes[n] for n in places)


def main() -> None:
    """Prints a table for each program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true", help="a line of JSON a program instead")
    parser.add_argument("--top", type=int, default=0, help="name so many kernels by their bytes")
    options = parser.parse_args()
    for path in options.files:
        packed = path.read_bytes()
        text = gzip.decompress(packed) if path.suffix == ".gz" else packed
        reader = Reader(text.decode())
        if options.json:
            print(json.dumps({"program": path.name, **reader.found}))
            continue
        flops, moved, kernels = (sum(row[n] for row in reader.found.values()) for n in range(3))
        print(
            f"{path.name}: {flops / 1e12:.4g} TFLOP, {moved / 2**30:.4g} GiB, {kernels:.0f} kernels"
        )
        print("| class | FLOPs | bytes | kernels |\n|---|---|---|---|")
        for name, row in sorted(reader.found.items(), key=lambda item: -item[1][1]):
            shares = (row[0] / max(flops, 1), row[1] / max(moved, 1))
            print(f"| {name} | {shares[0]:.1%} | {shares[1]:.1%} | {row[2]:.0f} |")
        for moved_by, times, kind, shape, origin in sorted(reader.kernels, reverse=True)[
            : options.top
        ]:
            print(f"{moved_by / max(moved, 1):.1%} {times:.0f} x {kind}: {shape} {origin}")
        if reader.unknown:
            print(f"{reader.unknown} loops do not say how often they run: counted once")


if __name__ == "__main__":
    main()
