"""Jobs on Beam: each unit of a job is an element, done by the code that does it without Beam.

Shards and not documents are handed out, because a score depends in its last bit on the batch that
it was made in: a shard's batches are the same on every worker, in every retry and without Beam, and
so are its files. A shard that is done twice (a retry, a straggler's backup) is written twice under
temporary names, and the same bytes are renamed into place.
"""

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState, create_runner
from apache_beam.utils.shared import Shared

from dr_keras.corpus_jobs.beam.transforms import NAMESPACE
from dr_keras.corpus_jobs.runners import AnyWork, Runner, Unit, UnitProgress
from dr_keras.errors import ConfigurationError, DrKerasError
from dr_keras.system import system_errors

# Runners that lose rows. https://github.com/apache/beam has the DaskRunner as experimental.
_REFUSED = ("daskrunner", "apache_beam.runners.dask.dask_runner.daskrunner")


def beam_runner(flags: Sequence[str]) -> Runner:
    """A runner of units, for `filter_corpus`, `score_corpus` and `prepare_corpus`.

    Args:
      flags: Beam's, such as ["--runner=DataflowRunner", "--project=...", "--region=..."].

    Raises:
      ConfigurationError: a runner that is known to lose rows.
      DrKerasError: (when run) the pipeline did not finish. What was done stays.
    """
    options = PipelineOptions(list(flags))
    name = options.get_all_options().get("runner") or ""
    if name.lower() in _REFUSED:
        raise ConfigurationError(
            "Beam's DaskRunner is not offered: it loses rows without saying so. Use DirectRunner"
            " (--direct_num_workers), FlinkRunner, SparkRunner or DataflowRunner."
        )
    _require_known(name)

    def run(work: AnyWork, units: Sequence[Unit], tool: Any, progress: UnitProgress) -> None:
        work.check_workers()
        pipeline = beam.Pipeline(options=options)
        (
            pipeline
            | "Shards" >> beam.Create(list(units))
            | "Spread" >> beam.Reshuffle()
            | "Do" >> beam.ParDo(DoUnit(work))
        )
        result = pipeline.run()
        state = result.wait_until_finish()
        if state not in (None, PipelineState.DONE):
            raise DrKerasError(
                f"The pipeline ended as {state}: see Beam's own log. No shard is half done: run the"
                " same command again to go on."
            )
        progress(sum(unit.size for unit in units))

    return run


def _require_known(name: str) -> None:
    """Asks Beam for the runner before any work is done, not when the pipeline is built."""
    try:
        create_runner(name or "DirectRunner")
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"--runner {name} cannot be loaded: {error}.") from error
    except ValueError as error:
        raise ConfigurationError(
            f"Beam knows no runner {name!r}: use DirectRunner, FlinkRunner, SparkRunner,"
            " DataflowRunner, or the module and class of one that is installed here."
        ) from error


class DoUnit(beam.DoFn):
    """Does units; counts what the work counts, such as documents, of all and by source."""

    def __init__(self, work: AnyWork):
        self._work = work
        self._shared = Shared()
        self._loaded: _Loaded | None = None

    def setup(self) -> None:
        self._loaded = self._shared.acquire(lambda: _Loaded(self._work.load()))  # once in a process

    def process(self, unit: Any):  # Beam checks hints, and a protocol is none
        try:
            facts = self._work.run(unit, self._loaded.tool)
        except Exception as error:
            # Beam raises a copy with the step's name, which loses numbers and file names.
            said = system_errors.explained(error)
            if said is None:
                raise
            raise DrKerasError(said) from error
        for name, count in self._work.counters(facts).items():
            Metrics.counter(NAMESPACE, name).inc(count)
        yield unit.name


class _Loaded:
    """What threads of a process share; Beam wants an object that it can refer to weakly."""

    def __init__(self, tool: Any):
        self.tool = tool
