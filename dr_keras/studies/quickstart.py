"""From raw text to evidence: meta-train, export, filter, train three arms, report.

    <base_dir>/                     a run of meta_train (see dr_keras.runs.meta_training)
    <base_dir>/export/<version>/    the rater
    <base_dir>/filtered/            the filtered corpus (see dr_keras.corpus_jobs.filtering)
    <base_dir>/cells/               one training run of one arm and seed each
    <base_dir>/stages/              what is done, its time and memory
    <base_dir>/results.json, report.html

Every stage resumes or is reused by a later call with the same configuration.
"""

from collections.abc import Sequence
import functools
import pathlib
import shutil

import numpy as np

from dr_keras.config import run_configuration
from dr_keras.corpus_jobs.filtering import filter_corpus, kept_ids
from dr_keras.data import document_rows as arms
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import Document
from dr_keras.data.examples import ExampleSet
from dr_keras.data.prepare import split_documents, text_data
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.report import quickstart_page as quickstart_report
from dr_keras.runs.experiment import Experiment, experiment
from dr_keras.runs.export import export_run
from dr_keras.runs.meta_training import MAY_DIFFER, meta_train
from dr_keras.serving.loading import load_rater
from dr_keras.studies import verdict
from dr_keras.studies.cells import run_cell
from dr_keras.studies.comparison import compare
from dr_keras.studies.stages import Stages
from dr_keras.system import locks
from dr_keras.system.progress import Progress
from dr_keras.training.language_model_training import LanguageModelTrainer, count_targets
import gin


def memory_corpus(name: str, documents: Sequence[Document], weights=None) -> Corpus:
    """Documents that were read already, as a corpus."""
    corpus = Corpus(name, lambda skipped: iter(documents), {"kind": "memory"})
    corpus.weights = weights
    return corpus


class _Material:
    """Documents and examples, read when a stage first needs them."""

    def __init__(self, corpus: Corpus):
        self._corpus = corpus

    @functools.cached_property
    def documents(self) -> dict[str, list[Document]]:
        return split_documents(self._corpus)

    @functools.cached_property
    def setup(self) -> Experiment:
        everything = [d for part in self.documents.values() for d in part]
        corpus = memory_corpus(self._corpus.name, everything, self._corpus.weights)
        return experiment(data=lambda: text_data(corpus=corpus))

    @property
    def train_corpus(self) -> Corpus:
        return memory_corpus(self._corpus.name, self.documents["train"])

    def describe(self) -> dict:
        """The `corpus` section of results.json."""
        parts = self.setup.parts
        return {
            "name": self._corpus.name,
            "fingerprint": parts.fingerprint,
            "parts": {
                part: {
                    "documents": len(self.documents[part]),
                    "examples": len(examples),
                    "unique_tokens": int(count_targets(examples).sum()),
                    "by_source": examples.counts_by_source(),
                    "by_damage": _counts(examples.labels.get("damage")),
                }
                for part, examples in parts.items()
            },
            "notes": self._corpus.describe(),
        }


@gin.configurable(denylist=["base_dir", "title"])
@locks.alone_at("base_dir", "a quick start", CheckpointError)
def compare_filtered(
    base_dir,
    corpus: Corpus = gin.REQUIRED,
    discard_fraction: float = 0.5,
    filter_batch_size: int = 64,
    filter_method: str = "keep_probability",
    seeds: Sequence[int] = (0, 1, 2),
    test_size: int | None = None,
    ceiling: bool = False,
    title: str = "dr_keras quick start",
    say=print,
) -> dict:
    """Runs all stages in `base_dir`; what is done already is reused.

    Args:
      base_dir: the run directory.
      corpus: of text; its four parts are split off as for `text_data`.
      discard_fraction: share of the train documents that filtering removes.
      filter_batch_size: B of batch top-K, whose keep probability the filter follows.
      filter_method: see `filter_corpus`.
      seeds: one training run per arm and seed.
      test_size: evaluate on at most so many test examples, evenly spread; None takes all.
      ceiling: add an arm of the passages known to be clean, where damage is known: the best that
        any filter could do.
      title: of the report.
      say: prints a line for the user.

    Returns:
      The results as written to results.json.

    Raises:
      ConfigurationError: a setting out of its range, or base_dir holds a run with others.
      CheckpointError: another process works in base_dir.
    """
    if not seeds:
        raise ConfigurationError("compare_filtered.seeds is empty: name at least one seed.")
    base_dir = pathlib.Path(base_dir)
    run_configuration.check_same_config(base_dir, may_differ=MAY_DIFFER)
    stages = Stages(base_dir, say)
    material = _Material(corpus)

    described = stages.run("corpus", material.describe)
    train = described["parts"]["train"]
    say(
        f"  {train['documents']:,} documents and {train['unique_tokens']:,} tokens to train on;"
        f" fingerprint {described['fingerprint'][:16]}"
    )
    stages.run("meta_train", lambda: _meta_train(base_dir, material))
    exported = stages.run("export", lambda: _export(base_dir, material))
    kept = stages.run(
        "filter",
        lambda: _filter(
            base_dir, material, exported["path"], discard_fraction, filter_batch_size, filter_method
        ),
    )
    records = stages.run("compare", lambda: _compare(base_dir, material, seeds, test_size, ceiling))
    return quickstart_report.write(
        base_dir,
        material.documents["train"],
        described,
        exported,
        kept,
        records,
        stages.timings(),
        title,
    )


def _meta_train(base_dir: pathlib.Path, material: _Material) -> dict:
    trainer = meta_train(base_dir, material.setup)
    return {
        "meta_steps": int(trainer.meta_step.numpy()),
        "nonfinite": int(trainer.nonfinite_count.numpy()),
    }


def _export(base_dir: pathlib.Path, material: _Material) -> dict:
    path = pathlib.Path(export_run(base_dir, "best", material.setup))
    return {"path": path.relative_to(base_dir).as_posix()}


def _filter(base_dir, material, exported, discard_fraction, batch_size, method) -> dict:
    shown = None

    def progress(phase: str, done: int, total: int) -> None:
        nonlocal shown
        if phase == "scoring":
            shown = shown or Progress("  scoring", total, "bytes")
            shown.update(done)

    output = base_dir / "filtered"
    if (output / "manifest.json").exists():  # finished, but the stage's own record was not written
        shutil.rmtree(output)
    manifest = filter_corpus(
        material.train_corpus,
        load_rater(str(base_dir / exported)),
        output_dir=str(output),
        discard_fraction=discard_fraction,
        batch_size=batch_size,
        method=method,
        progress=progress,
    )
    if shown:
        shown.close()
    return manifest


def _arms(base_dir: pathlib.Path, train: ExampleSet, ceiling: bool) -> dict[str, ExampleSet]:
    """unfiltered, random and rater; random drops as many documents as the rater did."""
    kept = kept_ids(base_dir / "filtered")
    chosen = arms.random_documents(train, len(kept), seed=0)
    sets = {
        "unfiltered": train,
        "random": train.take(arms.kept_rows(train, chosen), "random arm"),
        "rater": train.take(arms.kept_rows(train, kept), "rater arm"),
    }
    clean = np.flatnonzero(train.labels.get("level", np.full(len(train), np.nan)) == 0)
    if ceiling and len(clean):
        sets["ceiling"] = train.take(clean, "ceiling arm")
    return sets


DESCRIPTIONS = {
    "unfiltered": "all of the train part",
    "random": "as many documents as the rater kept, chosen by hash",
    "rater": "the documents the rater kept",
    "ceiling": "the passages known to be clean: the best that any filter could do",
}


def _compare(
    base_dir: pathlib.Path,
    material: _Material,
    seeds: Sequence[int],
    test_size: int | None,
    ceiling: bool,
) -> dict:
    """Trains every cell; returns one comparison of results.json, without its verdict."""
    parts = material.setup.parts
    test = parts.test
    if test_size is not None and test_size < len(test):
        test = test.take(np.linspace(0, len(test) - 1, test_size).astype(int))
    trainer = LanguageModelTrainer()
    curves: dict[str, dict] = {}
    facts = {}
    # Seed by seed, so that an interrupted comparison has whole seeds to show.
    sets = _arms(base_dir, parts.train, ceiling)
    for seed in seeds:
        for name, examples in sets.items():
            record = run_cell(base_dir, trainer, name, seed, examples, test)
            curves.setdefault(name, {})[seed] = record.curve
            facts[name] = {
                "description": DESCRIPTIONS[name],
                "examples": record.examples,
                "unique_tokens": record.unique_tokens,
                "tokens_seen": record.tokens_seen,
                "epochs": record.epochs,
                "discard_fraction": 1 - len(examples) / len(parts.train),
                "seconds": record.seconds,
                "by_damage": _counts(examples.labels.get("damage")),
                "by_source": examples.counts_by_source(),
                "final_by_source": record.final_by_source,
            }
    smallest = min(sets.values(), key=len)
    return {
        "name": "quick start",
        "model": {"parameters": trainer.parameters},
        "steps": trainer.steps,
        "batch_size": trainer.batch_size,
        "sequence_length": int(parts.train.features["tokens"].shape[1]),
        "reference": "unfiltered",
        "candidate": "rater",
        "seeds": [int(seed) for seed in seeds],
        "arms": compare(curves, facts),
        "too_small": verdict.too_small_for_verdict(
            len(smallest), int(count_targets(test).sum()), trainer.steps, trainer.batch_size
        ),
    }


def _counts(values) -> dict[str, int]:
    if values is None:
        return {}
    names, counts = np.unique([str(v) for v in values if v is not None], return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts)}
