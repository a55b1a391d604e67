"""Who does the shards of a job: this process, or several on this machine.

A runner is called with (work, shards, scorer, progress) and returns when all shards are done; it
leaves their facts on disk. `dr_keras.corpus_jobs.beam.runner` is one that hands them to Beam.
"""

from collections.abc import Callable, Sequence
import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time

from dr_keras.corpus_jobs.source import Shard
from dr_keras.corpus_jobs.work import Scorer, Work, loaded, run_shard, scorer_for
from dr_keras.errors import ConfigurationError, DrKerasError

# bytes of input done since the last call
ShardProgress = Callable[[int], None]
Runner = Callable[[Work, Sequence[Shard], Scorer | None, ShardProgress], None]


def in_process(
    work: Work, shards: Sequence[Shard], scorer: Scorer | None, progress: ShardProgress
) -> None:
    """One shard after the other, here."""
    for shard in shards:
        done = 0

        def report(size: int) -> None:
            nonlocal done
            # sizes of records are not all there is to a file, and the sum has to come out
            size = min(size, shard.size - done)
            done += size
            progress(size)

        run_shard(shard, work, scorer, report)
        progress(shard.size - done)


def in_processes(workers: int, threads_per_worker: int | None = None) -> Runner:
    """Shards spread over processes of this machine; each loads the rater once.

    Args:
      workers: how many.
      threads_per_worker: threads of TensorFlow in each; None: the cores, shared evenly.

    Raises:
      ConfigurationError: a number is not positive.
      DrKerasError: (when run) a worker was killed. What was done stays; the job can be resumed.
    """
    threads = threads_per_worker or max(1, (os.cpu_count() or 1) // max(1, workers))
    if workers < 1 or threads < 1:
        raise ConfigurationError(
            f"workers is {workers} and threads_per_worker {threads_per_worker}: both must be at"
            " least 1."
        )

    def run(
        work: Work, shards: Sequence[Shard], scorer: Scorer | None, progress: ShardProgress
    ) -> None:
        if work.scoring and work.rater is None:
            raise ConfigurationError(
                "Several workers need a rater that each of them can load: name an exported rater,"
                " or use one worker."
            )
        pool = concurrent.futures.ProcessPoolExecutor(
            max_workers=min(workers, max(1, len(shards))),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_worker,
            initargs=(threads, os.getpid()),
        )
        others = set(multiprocessing.active_children())
        try:
            futures = {pool.submit(_run_in_worker, shard, work): shard for shard in shards}
            for future in concurrent.futures.as_completed(futures):
                future.result()
                progress(futures[future].size)
        except concurrent.futures.process.BrokenProcessPool as error:
            raise DrKerasError(
                "A worker process ended before its work was done (killed, or out of memory). No"
                " shard is half done: run the same command again to go on, with fewer workers if"
                " memory is short."
            ) from error
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    return run


def _begin_worker(threads: int, parent: int) -> None:
    import tensorflow as tf

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to deal with
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)  # the parent was killed and cannot say so

    threading.Thread(target=watch, daemon=True).start()


def _run_in_worker(shard: Shard, work: Work) -> None:
    run_shard(shard, work, scorer_of(work) if work.scoring else None)


def scorer_of(work: Work) -> Scorer:
    """The scorer of the rater at `work.rater`."""
    return scorer_for(loaded(work.rater, work.trusted), work.windows_per_batch)
