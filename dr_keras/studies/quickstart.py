"""From raw text to evidence: meta-train, export, filter, train three arms, report.

    <base_dir>/                     a run of meta_train (see dr_keras.runs.meta_training)
    <base_dir>/export/<version>/    the rater
    <base_dir>/filtered/            the filtered corpus (see dr_keras.corpus_jobs.filtering)
    <base_dir>/cells/model/         one training run of one arm and seed each (see studies.cells)
    <base_dir>/stages/              what is done, its time and memory
    <base_dir>/results.json, report.html

Every stage resumes or is reused by a later call with the same configuration. A run whose raters
are judged no better than a random choice stops after meta-training and says so; a call with
`anyway` goes on from there.
"""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import fractions
import functools
import hashlib
import pathlib
import shutil

import numpy as np

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.candidates import Candidates, joined_candidates
from dr_keras.baselines.selection import Selection, keep_first
from dr_keras.config import configuration
from dr_keras.corpus_jobs.filtering import filter_corpus, kept_ids
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import Document
from dr_keras.data.examples import document_ids, objects
from dr_keras.data.prepare import split_documents, text_data
from dr_keras.data.targets import split_target
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.rating.score_files import read_scores
from dr_keras.runs.experiment import Experiment, experiment
from dr_keras.runs.meta_training import MAY_DIFFER, judgement_of
from dr_keras.runs.verdict import Judgement
from dr_keras.serving.loading import load_rater
from dr_keras.studies import findings, learned, rater, verdicts
from dr_keras.studies.arm_streams import DESCRIPTIONS, UNFILTERED, Draws
from dr_keras.studies.cells import Cell, Material, cell, counts, describe, own_test
from dr_keras.studies.grid import Grid
from dr_keras.studies.judged import judged_first, stopped
from dr_keras.studies.prepared_text import PreparedText, WindowDocuments
from dr_keras.studies.results import Results, WriteReport, read, to_json
from dr_keras.studies.sizes import Protocol, Size
from dr_keras.studies.stages import Stages
from dr_keras.studies.summaries import ArmFacts
from dr_keras.system import locks
from dr_keras.system.progress import Progress
from dr_keras.training.trainers import LanguageModelTrainer
import gin

SIZE = "model"
Documents = Sequence[Document] | WindowDocuments
_DESCRIPTIONS = DESCRIPTIONS | {
    "random": "as many documents as the rater kept, chosen by hash, others for each seed",
    "rater": "the documents the rater kept",
    "ceiling": "the passages known to be clean: the best that any filter could do",
}


# Where files lie; the fingerprint of the data says whether they are the same.
_PLACES = ("input/files_corpus.path", "target/files_corpus.path")


def memory_corpus(name: str, documents: Documents, weights=None) -> Corpus:
    """Documents that were read already, or lie in windows, as a corpus."""
    corpus = Corpus(name, lambda skipped: iter(documents), {"kind": "memory"})
    corpus.weights = weights
    return corpus


@gin.configurable("compare_filtered", denylist=["title", "say"])
@dataclasses.dataclass(frozen=True, kw_only=True)
class QuickStart:
    """A study of one corpus, one size of model and the documents that a new rater keeps.

    Args:
      corpus: of text; its four parts are split off as for `text_data`, or the train part alone
        where `text_data.target` is bound. None: the parts are a prepared corpus, which
        `experiment.data` names; what is filtered then is the text of its windows.
      discard_fraction: share of the train documents that filtering removes.
      filter_batch_size: B of batch top-K, whose keep probability the filter follows.
      filter_method: see `filter_corpus`.
      seeds: one training run per arm and seed.
      test_size: evaluate on at most so many test examples, evenly spread; None takes all.
      ceiling: add an arm of the passages known to be clean, where damage is known: the best that
        any filter could do.
      equal_tokens: whether arms train on full windows alone, padded ones being joined (see
        `data.full_windows`), so that all see as many tokens.
      more_arms: further arms of `baselines.arms.ARMS`, which drop as many documents as the rater.
      anyway: go on where the judgement of the raters says not to filter.
      title: of the report.
      say: prints a line for the user.
    """

    corpus: Corpus | None = gin.REQUIRED
    discard_fraction: float = 0.5
    filter_batch_size: int = 64
    filter_method: str = "keep_probability"
    seeds: Sequence[int] = (0, 1, 2)
    test_size: int | None = None
    ceiling: bool = False
    equal_tokens: bool = False
    more_arms: Sequence[str] = ()
    anyway: bool = False
    title: str = "dr_keras quick start"
    say: Callable[[str], None] = print

    @locks.alone_at("base_dir", "a quick start", CheckpointError)
    def run(self, base_dir, write_report: WriteReport | None = None) -> Results:
        """Runs all stages in `base_dir`; what is done already is reused.

        Args:
          base_dir: the run directory.
          write_report: writes <base_dir>/report.html from the results; None leaves it out.

        Returns:
          The results as written to results.json; without any size where the run stopped, because
          the answer is not to filter.

        Raises:
          ConfigurationError: a setting out of its range, or base_dir holds a run with others.
          CheckpointError: another process works in base_dir, or it is of an earlier version.
        """
        if not self.seeds:
            raise ConfigurationError("compare_filtered.seeds is empty: name at least one seed.")
        base_dir = pathlib.Path(base_dir)
        configuration.check_same_config(base_dir, may_differ=(*MAY_DIFFER, *_PLACES))
        stages = Stages(base_dir, self.say)
        text = PreparedText() if self.corpus is None else _Text(self.corpus)
        with contextlib.ExitStack() as stack:
            grid = None
            if not stages.is_done("compare"):
                grid = stack.enter_context(self._grid(base_dir, text))
                grid.start_workers(SIZE, len(self.seeds))
            described = stages.run("corpus", text.describe)
            train = described["parts"]["train"]
            self.say(
                f"  {train['documents']:,} documents and {train['unique_tokens']:,} tokens to train"
                f" on; fingerprint {described['fingerprint'][:16]}"
            )
            if grid is not None:
                grid.begin(self._cells(UNFILTERED))
            stages.run("meta_train", lambda: rater.trained(base_dir, text.setup))
            judgement = judgement_of(base_dir)
            if judgement and not judgement.helps:
                self.say(f"  {judgement.text}")
                if not self.anyway and not stages.is_done("compare"):
                    found = self._stopped(base_dir, judgement, described, stages)
                    return found.publish(base_dir, write_report)
            exported = stages.run("export", lambda: rater.exported(base_dir, base_dir, text.setup))
            kept = stages.run("filter", lambda: self._filter(base_dir, text, exported["path"]))
            compared = stages.run("compare", lambda: self._compare(grid, base_dir, text))
        self.say(
            f"  peak memory of all processes: {stages.peak_memory_bytes / 1e9:.1f} GB, pages that"
            " they share counted for each"
        )
        size = read(Size, compared["size"], "compare")
        found = _results(
            base_dir, text.documents["train"], self._protocol, size, described.get("target"),
            title=self.title, corpus=described, stages=stages.timings(),
            exported=exported["path"], audit=kept.get("audit"),
            settings={
                "filter": kept["settings"],
                "achieved_discard_fraction": kept["achieved_fraction"],
                "threads_a_model": compared["threads_a_model"],
                "configuration": configuration.PARSED_CONFIG,
            },
        )  # fmt: skip
        return found.publish(base_dir, write_report)

    def _stopped(
        self, base_dir: pathlib.Path, judgement: Judgement, described: dict, stages: Stages
    ) -> Results:
        """What was found until the judgement said not to filter."""
        go_on = "The same command with --anyway filters and compares all the same."
        return Results.assemble(
            study="quickstart",
            title=self.title,
            answer=stopped(judgement, go_on),
            corpus=described,
            protocol=self._protocol,
            sizes=[],
            stages=stages.timings(),
            settings={"configuration": configuration.PARSED_CONFIG},
            findings=findings.of_run(base_dir),
        )

    @property
    def _protocol(self) -> Protocol:
        return Protocol(
            reference=UNFILTERED, candidate="rater", baselines=["random"], seeds=list(self.seeds)
        )

    def _filter(self, base_dir: pathlib.Path, text: "_Text | PreparedText", exported: str) -> dict:
        shown = None

        def progress(phase: str, done: int, total: int) -> None:
            nonlocal shown
            if phase == "scoring":
                shown = shown or Progress("  scoring", total, "bytes")
                shown.update(done)

        output = base_dir / "filtered"
        if (output / "manifest.json").exists():  # finished, but the stage's record not written
            shutil.rmtree(output)
        manifest = filter_corpus(
            memory_corpus(text.name, text.documents["train"]),
            load_rater(str(base_dir / exported)),
            output_dir=str(output),
            discard_fraction=self.discard_fraction,
            batch_size=self.filter_batch_size,
            method=self.filter_method,
            progress=progress,
        )
        if shown:
            shown.close()
        return manifest

    def _cells(self, arm: str) -> list[Cell]:
        return [cell(SIZE, arm, self.discard_fraction, seed) for seed in self.seeds]

    def _grid(self, base_dir: pathlib.Path, text: "_Text | PreparedText") -> Grid:
        def material() -> Material:
            parts = text.setup.parts
            others = own_test(parts, text.name, self.test_size)
            test = parts.test.thinned(self.test_size)
            return Material(parts.train, test, corpora=others, equal_tokens=self.equal_tokens)

        choice, trainers = _Choice(base_dir, text), {SIZE: LanguageModelTrainer}
        return Grid(base_dir, trainers, material, choice.draws, choice.key, say=self.say)

    def _compare(self, grid: Grid, base_dir: pathlib.Path, text: "_Text | PreparedText") -> dict:
        """Trains every cell; {"size", "threads_a_model"}."""
        train = text.setup.parts.train
        arms = [UNFILTERED, "random", "rater", *self.more_arms]
        if self.ceiling and (train.labels.get("level", np.ones(len(train))) == 0).any():
            arms.append("ceiling")
        cells = {arm: self._cells(arm) for arm in arms}
        # Seed by seed, so that an interrupted comparison has whole seeds to show.
        grid.run([cell for of_seed in zip(*cells.values()) for cell in of_seed])
        known = {arm: _facts(arm, grid.draw(of_arm[0]), train) for arm, of_arm in cells.items()}
        size = grid.section(grid.facts(SIZE), cells, known, self._protocol)
        return {"size": to_json(size), "threads_a_model": grid.threads(SIZE)}


class _Choice:
    """What the arms keep of the train part, known once it is filtered.

    Args:
      base_dir: of the study.
      text: the corpus.
    """

    def __init__(self, base_dir: pathlib.Path, text: "_Text | PreparedText"):
        self._base_dir, self._text = base_dir, text
        self.draws = Draws(lambda: self._baselines, lambda size, fraction: self._share)

    def key(self, cell: Cell) -> list[str]:
        """What the choice of an arm depends on."""
        return [hashlib.sha256("\n".join(sorted(self._kept)).encode()).hexdigest()]

    @functools.cached_property
    def _kept(self) -> set[str]:
        return kept_ids(self._base_dir / "filtered")

    @functools.cached_property
    def _candidates(self) -> Candidates:
        return joined_candidates(self._text.setup.parts.train)

    @functools.cached_property
    def _is_kept(self) -> np.ndarray:
        return np.isin(self._candidates.ids.astype(str), sorted(self._kept))

    @property
    def _share(self) -> fractions.Fraction:
        """All arms drop as many documents as the rater did."""
        return _share_dropped(self._is_kept)

    @functools.cached_property
    def _baselines(self) -> Baselines:
        parts = self._text.setup.parts
        train = parts.train
        scores = read_scores(self._base_dir / "filtered" / "scores.parquet")
        rows = scores.rows()
        levels = train.labels.get("level", np.full(len(train), np.nan))
        is_clean = self._candidates.of_examples(levels) == 0
        study = Baselines(
            self._candidates,
            joined_candidates(parts.outer),
            scores.score[[rows[document] for document in document_ids(train)]],
            cache_dir=self._base_dir / "baselines",
        )
        # Beside what gin binds as more_arms, which an argument would replace.
        study.arms |= {
            "rater": _known("rater", self._is_kept),
            "ceiling": _known("ceiling", is_clean),
        }
        return study


class _Text:
    """Documents and examples, read when a stage first needs them."""

    def __init__(self, corpus: Corpus):
        self._corpus, self.name = corpus, corpus.name
        bound = gin.get_bindings("text_data")
        self._target: Corpus | None = bound.get("target")
        self._share: float | None = bound.get("target_share")

    @functools.cached_property
    def _own(self) -> dict[str, list[Document]]:
        return split_documents(self._corpus)

    @functools.cached_property
    def _of_target(self) -> Corpus | None:
        """The target, read."""
        target = self._target
        return target and memory_corpus(target.name, list(target.documents()), target.weights)

    @functools.cached_property
    def documents(self) -> dict[str, list[Document]]:
        if self._of_target is None:
            return self._own
        return split_target(self._own, self._corpus, self._of_target, self._share).documents

    @functools.cached_property
    def setup(self) -> Experiment:
        everything = [d for part in self._own.values() for d in part]
        corpus = memory_corpus(self._corpus.name, everything, self._corpus.weights)
        return experiment(data=lambda: text_data(corpus=corpus, target=self._of_target))

    def describe(self) -> dict:
        """The `corpus` section of results.json."""
        described = describe(self.setup.parts, self._corpus.name)
        for part, facts in described["parts"].items():
            facts["documents"] = len(self.documents[part])
        notes = self._corpus.describe()
        if self._target is not None:
            notes["target"] = self._target.describe()
        return described | {"notes": notes}


def _share_dropped(kept: np.ndarray) -> fractions.Fraction:
    """The exact share that is False in a mask [N]."""
    return fractions.Fraction(int((~kept).sum()), len(kept))


def _known(arm: str, chosen: np.ndarray) -> Callable[..., Selection]:
    """An arm that keeps the candidates of a mask [N], however many they are."""

    def select(study: Baselines, discard_fraction, seed: int) -> Selection:
        candidates: Candidates = study.candidates
        order = np.argsort(~chosen, kind="stable")
        return keep_first(arm, candidates, order, _share_dropped(chosen))

    return select


def _facts(arm: str, draw, train) -> ArmFacts:
    """Of an arm; what the random one keeps is told of its first seed."""
    kept = train if draw.rows is None else train.take(draw.rows)
    return ArmFacts(
        _DESCRIPTIONS.get(arm, "an arm of the user's own"),
        pool_by_source=kept.counts_by_source(),
        pool_by_damage=counts(kept.labels.get("damage")),
    )


def _candidates(documents: Documents, ids: Sequence[str], sources: Sequence[str]) -> Candidates:
    """Documents as they are, for the texts of some; their sizes are not looked at."""
    names, sizes = objects(ids), np.zeros(len(ids), np.int64)
    return Candidates(
        names,
        objects(sources),
        names,
        sizes,
        lambda: [document.text for document in documents],
        passages=False,
        read_text=lambda row: documents[row].text,
    )


def _results(
    base_dir: pathlib.Path,
    train: Documents,
    protocol: Protocol,
    size: Size,
    target: str | None,
    *,
    exported: str,
    audit: dict | None,
    **sections,
) -> Results:
    """All sections of results.json."""
    scored = read_scores(base_dir / "filtered" / "scores.parquet")
    rows = scored.rows()
    ids, sources, levels, kinds = zip(*((d.id, d.source, d.level, d.damage) for d in train))
    scores = np.array([scored.score[rows[id]] for id in ids], float)
    levels = np.array([np.nan if level is None else level for level in levels])
    loaded = load_rater(str(base_dir / exported))
    on_target = verdicts.on_target(verdicts.answer([size], protocol), target)
    verdict = judged_first(on_target, judgement_of(base_dir))
    where = f"all {len(train):,} documents of the train part"
    labels = {"level": levels, "damage": kinds}
    return Results.assemble(
        study="quickstart",
        answer=verdict,
        protocol=protocol,
        sizes=[size],
        rater=findings.of_rater(
            loaded.metadata, findings.quality(scores, levels, kinds, where, sources)
        ),
        findings=findings.of_scores(scores, sources, levels, kinds)
        | findings.of_run(base_dir)
        | ({"audit": audit} if audit else {})
        | {"extremes": learned.extremes(_candidates(train, ids, sources), scores, labels=labels)},
        **sections,
    )
