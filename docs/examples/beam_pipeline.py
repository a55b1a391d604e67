#!/usr/bin/env python3
"""Cleans texts and keeps the better half of them by a rater, in one Beam pipeline.

    docs/examples/beam_pipeline.py --rater damaged_prose --input 'corpus/*.jsonl' --output kept
    docs/examples/beam_pipeline.py ... --runner DataflowRunner --project P --region R \\
        --temp_location gs://B/tmp --sdk_container_image IMAGE

What `dr-keras filter-corpus --runner` does not do: steps of your own before and after. Here texts
of fewer than 20 words are left out before, and what is kept is counted by source. Flags that are
not listed here go to Beam. Lines are JSON objects with a "text" and, perhaps, a "source".
"""

import argparse
from collections.abc import Sequence
import json

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from dr_keras.corpus_jobs.beam import FilterTexts


def is_long_enough(record: dict) -> bool:
    return len(record["text"].split()) >= 20


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rater", required=True, help="a directory that export-rater wrote")
    parser.add_argument("--input", required=True, help="JSON lines, as a glob")
    parser.add_argument("--output", required=True, help="what the files of kept lines begin with")
    parser.add_argument("--discard_fraction", type=float, default=0.5)
    arguments, for_beam = parser.parse_known_args(argv)
    with beam.Pipeline(options=PipelineOptions(for_beam, save_main_session=True)) as pipeline:
        records = (
            pipeline
            | beam.io.ReadFromText(arguments.input)
            | "parse" >> beam.Map(json.loads)
            | beam.Filter(is_long_enough)
        )
        # the share of a bounded corpus; reference="artefact" decides each text as it comes
        filtered = records | FilterTexts(
            arguments.rater,
            discard_fraction=arguments.discard_fraction,
            text=lambda record: record["text"],
            reference="corpus",
        )
        kept = filtered["kept"]
        (
            kept
            | "print" >> beam.Map(json.dumps)
            | beam.io.WriteToText(arguments.output, file_name_suffix=".jsonl")
        )
        (
            kept
            | beam.Map(lambda record: (record.get("source", "unknown"), 1))
            | beam.CombinePerKey(sum)
            | "line" >> beam.MapTuple(lambda source, count: f"{source}\t{count}")
            | "sources"
            >> beam.io.WriteToText(f"{arguments.output}-sources", file_name_suffix=".tsv")
        )


if __name__ == "__main__":
    main()
