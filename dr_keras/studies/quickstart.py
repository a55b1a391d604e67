"""From raw text to evidence: meta-train, export, filter, train three arms, report.

    <base_dir>/                     a run of meta_train (see dr_keras.runs.meta_training)
    <base_dir>/export/<version>/    the rater
    <base_dir>/filtered/            the filtered corpus (see dr_keras.corpus_jobs.corpus_filter)
    <base_dir>/cells/               one training run of one arm and seed each
    <base_dir>/stages/              what is done, its time and memory
    <base_dir>/results.json, report.html

Every stage resumes or is reused by a later call with the same configuration.
"""

from collections.abc import Callable, Sequence
import functools
import json
import pathlib
import shutil

import numpy as np

from dr_keras.baselines.candidates import document_candidates
from dr_keras.config import run_configuration
from dr_keras.corpus_jobs.corpus_filter import filter_corpus
from dr_keras.data import document_rows as arms
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import Document
from dr_keras.data.examples import ExampleSet
from dr_keras.data.prepare import split_documents, text_data
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.rating.score_files import read_scores
from dr_keras.runs.experiment import Experiment, experiment
from dr_keras.runs.export import export_run
from dr_keras.runs.meta_training import MAY_DIFFER, meta_train
from dr_keras.serving.loading import load_rater
from dr_keras.studies import findings, learned, summaries, verdicts
from dr_keras.studies.cells import run_cell
from dr_keras.studies.results import Rater, Results, read, to_json
from dr_keras.studies.sizes import Protocol, Size, SizeFacts
from dr_keras.studies.stages import Stages
from dr_keras.studies.summaries import ArmFacts
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


@gin.configurable(denylist=["base_dir", "title", "write_report"])
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
    write_report: Callable[[Results, pathlib.Path], None] | None = None,
    say=print,
) -> Results:
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
      write_report: writes <base_dir>/report.html from the results; None leaves it out.
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
    protocol = Protocol(
        reference="unfiltered", candidate="rater", baselines=["random"], seeds=list(seeds)
    )
    compared = stages.run(
        "compare", lambda: to_json(_compare(base_dir, material, protocol, test_size, ceiling))
    )
    found = _results(
        base_dir, material.documents["train"], protocol, read(Size, compared, "compare"),
        title=title, corpus=described, stages=stages.timings(),
        exported=exported["path"], kept=kept,
    )  # fmt: skip
    found.write(base_dir / "results.json")
    if write_report is not None:
        write_report(found, base_dir / "report.html")
    return found


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

    def progress(done: int, total: int) -> None:
        nonlocal shown
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


def _kept_ids(folder: pathlib.Path) -> set[str]:
    kept = set()
    for path in sorted(folder.glob("kept-*.jsonl")):
        with open(path, encoding="utf-8") as file:
            kept |= {json.loads(line)["id"] for line in file}
    return kept


def _arms(base_dir: pathlib.Path, train: ExampleSet, ceiling: bool) -> dict[str, ExampleSet]:
    """unfiltered, random and rater; random drops as many documents as the rater did."""
    kept = _kept_ids(base_dir / "filtered")
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
    protocol: Protocol,
    test_size: int | None,
    ceiling: bool,
) -> Size:
    """Trains every cell."""
    parts = material.setup.parts
    test = parts.test
    if test_size is not None and test_size < len(test):
        test = test.take(np.linspace(0, len(test) - 1, test_size).astype(int))
    trainer = LanguageModelTrainer()
    sets = _arms(base_dir, parts.train, ceiling)
    cells: dict[str, dict] = {name: {} for name in sets}
    # Seed by seed, so that an interrupted comparison has whole seeds to show.
    for seed in protocol.seeds:
        for name, examples in sets.items():
            record = run_cell(base_dir, trainer, name, seed, examples, test)
            dropped = 1 - len(examples) / len(parts.train)
            cells[name][seed] = {"record": record.to_dict(), "discard_fraction": dropped}
    facts = {
        name: ArmFacts(
            DESCRIPTIONS[name],
            pool_by_source=examples.counts_by_source(),
            pool_by_damage=_counts(examples.labels.get("damage")),
        )
        for name, examples in sets.items()
    }
    smallest = min(map(len, sets.values()))
    tokens = int(count_targets(test).sum())
    size = SizeFacts(
        name="quick start",
        parameters=trainer.parameters,
        steps=trainer.steps,
        batch_size=trainer.batch_size,
        sequence_length=int(parts.train.features["tokens"].shape[1]),
    )
    too_small = verdicts.too_small_for_verdict(smallest, tokens, trainer.steps, trainer.batch_size)
    return summaries.size_section(size, cells, facts, protocol, too_small)


def _results(
    base_dir: pathlib.Path,
    train: list[Document],
    protocol: Protocol,
    size: Size,
    *,
    exported: str,
    kept: dict,
    **sections,
) -> Results:
    """All sections of results.json."""
    scored = read_scores(base_dir / "filtered" / "scores.jsonl")
    rows = scored.rows()
    scores = np.array([scored.score[rows[d.id]] for d in train], float)
    levels = np.array([np.nan if d.level is None else d.level for d in train])
    kinds = [d.damage for d in train]
    sources = [d.source for d in train]
    rater = load_rater(str(base_dir / exported))
    training = rater.metadata["training"]
    where = f"all {len(train):,} documents of the train part"
    labels = {"level": levels, "damage": kinds}
    return Results.assemble(
        study="quickstart",
        answer=verdicts.answer([size], protocol),
        protocol=protocol,
        sizes=[size],
        rater=Rater(
            rater.metadata["parameters"],
            rater.fingerprint,
            findings.quality(scores, levels, kinds, where),
            training["meta_step"],
            training["chosen"],
        ),
        settings={
            "filter": kept["settings"],
            "achieved_discard_fraction": kept["achieved_fraction"],
            "configuration": run_configuration.PARSED_CONFIG,
        },
        findings=findings.of_scores(scores, sources, levels, kinds)
        | findings.of_run(base_dir)
        | {"extremes": learned.extremes(document_candidates(train), scores, labels=labels)},
        **sections,
    )


def _counts(values) -> dict[str, int]:
    if values is None:
        return {}
    names, counts = np.unique([str(v) for v in values if v is not None], return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts)}
