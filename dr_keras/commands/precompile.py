"""What a configuration needs of a chip, counted or said by the TPU's compiler.

Without --topology: checks shapes and dtypes, counts parameters and bytes, and estimates
temporaries. With it: compiles the meta-step, the scoring function and the training step of
evaluation models for that TPU, which need not be there (pip install 'dr_keras[aot]'). Neither data
nor weights are read.
Lines that --json FILE already holds are not computed again.
"""

from collections.abc import Sequence
import functools
import os
from pathlib import Path
import sys

from dr_keras.commands import common
from dr_keras.errors import ConfigurationError


def _add_arguments(parser: common.ArgumentParser) -> None:
    parser.add_argument(
        "--topology",
        action="append",
        default=[],
        metavar="KIND:SHAPE",
        help="TPU to compile for, such as v5e:2x2, v5p:2x2x1 or v6e:2x2; may be repeated",
    )
    parser.add_argument(
        "--program",
        dest="programs",
        action="append",
        metavar="NAME",
        help="meta_step, advance, score or train_step; may be repeated (default: all)",
    )
    parser.add_argument(
        "--size",
        metavar="NAME",
        help="of the SIZES of a study: train_step trains that model (default: the inner model, or"
        " what LanguageModelTrainer is bound to)",
    )
    parser.add_argument(
        "--feature",
        dest="features",
        action="append",
        default=[],
        metavar="NAME:DTYPE[:SHAPE]",
        help="of a batch, that no model takes or says the shape of, such as label:int32 or "
        "image:float32:28x28x1; may be repeated",
    )
    parser.add_argument(
        "--read_data", action="store_true", help="read the data to see its features"
    )
    parser.add_argument("--json", metavar="FILE", help="add one line of JSON a program to FILE")
    parser.add_argument(
        "--save_hlo", metavar="DIR", help="keep the lowered programs, for --from_hlo"
    )
    parser.add_argument(
        "--save",
        metavar="DIR",
        help="write programs, initial values and batches for tools/run_programs.py",
    )
    parser.add_argument("--device", default="cuda", help="with --save: cpu, cuda or tpu")
    parser.add_argument(
        "--precision",
        dest="precisions",
        action="append",
        metavar="NAME",
        help="with --save: float32, tf32 (cuda) or bfloat16; may be repeated (default: all of the "
        "device)",
    )
    parser.add_argument(
        "--meta_steps", type=int, default=20, help="with --save: meta-steps to have batches for"
    )
    parser.add_argument(
        "--draw_windows",
        action="store_true",
        help="with --save: read no data; batches are drawn where the programs run",
    )
    parser.add_argument(
        "--draw_values",
        action="store_true",
        help="with --save: initial values are drawn where the programs run, as wide as the real "
        "ones: a small folder for large models",
    )
    parser.add_argument(
        "--from_hlo", metavar="DIR", help="compile what --save_hlo kept; no gin file is read"
    )


def _save(arguments, names: Sequence[str]) -> None:
    """Builds the configuration in every precision, and writes the folder of --save."""
    from dr_keras.precompile import saved, setup

    precisions = arguments.precisions or saved.PRECISIONS.get(arguments.device, ())
    parts = None if arguments.draw_windows else setup.configured_parts()
    contents = saved.Contents(
        arguments.device, precisions, arguments.meta_steps, parts, not arguments.draw_values
    )
    features = dict(setup.parse_feature(text) for text in arguments.features)
    setups = {}
    for precision in precisions:
        with saved.computing_in(precision):
            setups[precision] = setup.from_gin(features, parts, arguments.size)
    saved.save(arguments.save, setups, names, contents)
    print(f"{arguments.save}: run tools/run_programs.py on it")


@common.verb("precompile", common.Task.MACHINE, __doc__, base_dir=False)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints the counts, what does not fit, and what would make it fit."""
    if "tensorflow" not in sys.modules:
        # Read when TensorFlow starts. Folding evaluates every zero state, cotangent and list of a
        # program at once, gigabytes of the host's memory, and the TPU's compiler folds as well.
        flags = os.environ.get("TF_XLA_FLAGS", "")
        os.environ["TF_XLA_FLAGS"] = f"{flags} --tf_xla_disable_constant_folding=true".strip()
    _add_arguments(parser)
    arguments = parser.parse_args(argv)
    from dr_keras.precompile import estimates, programs, report, setup, tpu

    if arguments.from_hlo and (arguments.gin_files or not arguments.topology):
        raise ConfigurationError(
            "--from_hlo takes programs as they are: give a --topology, and no gin file."
        )
    topologies = [tpu.Topology(name) for name in arguments.topology]
    path = Path(arguments.json) if arguments.json else None
    known = report.read_lines(path) if path else []
    if arguments.from_hlo:
        kept = report.read_kept(arguments.from_hlo)
        chosen = [(line, hlo.read_bytes, lambda line: []) for line, hlo in kept]
    else:
        from dr_keras.runs import meta_training  # noqa: F401 - the names that gin files use

        common.parse_gin(arguments)
        built = setup.from_gin(
            dict(setup.parse_feature(text) for text in arguments.features),
            setup.configured_parts() if arguments.read_data else None,
            arguments.size,
        )
        names = arguments.programs or programs.PROGRAMS
        made = programs.build(built, names)
        lines = estimates.facts_of(built, made)
        print(report.configuration_text(built, lines[0]))
        print(report.check_table(lines))
        by_name = {program.name: program for program in made}
        hlo = functools.cache(lambda name: programs.lower(by_name[name]).hlo)
        if arguments.save:
            _save(arguments, names)
        if arguments.save_hlo:
            for line in lines:
                report.keep(arguments.save_hlo, line, hlo(line["program"]))
        chosen = [
            (line, lambda name=line["program"]: hlo(name), lambda x: report.advice(built, x))
            for line in lines
        ]
        if path and not topologies:
            for line in lines:
                if line not in known:
                    report.append_line(path, line)
    found = []
    for line, read, advise in chosen:
        for topology in topologies:
            print(f"compiling {line['program']} for {topology.name} ...", file=sys.stderr)
            found.append(report.compiled_line(line, read, topology, known, path))
            if not found[-1]["fits"]:
                print(f"{line['program']} does not fit {topology.name}: {found[-1]['reason']}")
                for change in advise(found[-1]):
                    print(f"  {change}")
    if found:
        print()
        print(report.compiled_table(found))
        print("per chip; arguments as the chip lays them out, FLOP by formula")
