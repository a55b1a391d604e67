"""Weights of sources from a run whose rater saw nothing but these: a table, and what reads it.

    <base_dir>/source_weights/table.json   `SourceWeights`, read by the arm `source_weights`
    <base_dir>/source_weights/weights.gin  for `mixture_corpus.weights`
    <base_dir>/source_weights/weights.py   for `tf.data.Dataset.sample_from_datasets`

A source that is drawn with the share p_s and scores phi_s has in a large batch the weight

    w_s = (1 - floor) p_s exp(phi_s / temperature) / sum_r p_r exp(phi_r / temperature) + floor p_s

with temperature and floor of the `example_softmax` that weighed it. That is the share of a mixture
that is drawn by these weights and then not weighed.
"""

from collections import Counter
from collections.abc import Mapping
import dataclasses
import json
import math
import pathlib

import numpy as np

from dr_keras.data.columns import value_counts
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError
from dr_keras.meta.checkpoints import load_rater_weights
from dr_keras.meta.estimators import told
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.meta.weighting import example_softmax
from dr_keras.models.source_rater import SOURCE, sources_of
from dr_keras.runs.experiment import Experiment, experiment_of_run
from dr_keras.runs.meta_training import check_same_data, choose_step
from dr_keras.system import whole_files
from dr_keras.training import flops
import gin

FOLDER = "source_weights"
TABLE = "table.json"
_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class SourceWeights:
    """Weights of sources, highest first.

    Attributes:
      weights: source -> share of a mixture; they add up to 1.
      drawn: source -> share of the batches in which it was weighed.
      examples: source -> examples of the train part.
      scores: source -> phi_s, relative to their mean over what is drawn.
      floor, temperature: of the weighting.
      meta_step: of the rater.
      chosen: why this rater.
      flops: operations of meta-training it, by formula; None where they cannot be counted.
      warnings: a sentence each.
    """

    weights: Mapping[str, float]
    drawn: Mapping[str, float]
    examples: Mapping[str, int]
    scores: Mapping[str, float]
    floor: float
    temperature: float
    meta_step: int
    chosen: str
    flops: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def entropy(self) -> float:
        """Of the weights, nats."""
        return entropy(self.weights)

    @property
    def effective(self) -> float:
        """exp of the entropy: so many sources of equal weight have as much."""
        return math.exp(self.entropy)


def entropy(shares: Mapping[str, float]) -> float:
    """Of shares that add up to 1, nats."""
    return -math.fsum(share * math.log(share) for share in shares.values() if share > 0)


def drawn_shares(examples: ExampleSet) -> dict[str, float]:
    """Source -> its share of what batches of the set draw, by the weights of the corpora."""
    if examples.weights is None:
        counts = value_counts(examples.sources)
        return {str(name): count / len(examples) for name, count in counts.items()}
    pairs = Counter(zip(map(str, examples.corpora), map(str, examples.sources)))
    sizes: Counter = Counter()
    for (corpus, _), count in pairs.items():
        sizes[corpus] += count
    total = math.fsum(examples.weights.values())
    found: Counter = Counter()
    for (corpus, source), count in pairs.items():
        found[source] += examples.weights[corpus] / total * count / sizes[corpus]
    return dict(found)


def mixture(
    scores: Mapping[str, float], drawn: Mapping[str, float], weighting: example_softmax
) -> dict[str, float]:
    """Source -> its weight in a large batch; the formula is above."""
    values = np.array([scores[name] for name in drawn], np.float64) / weighting.temperature
    shares = np.array(list(drawn.values()), np.float64)
    raised = shares * np.exp(values - values.max())
    weights = (1 - weighting.floor) * raised / raised.sum() + weighting.floor * shares
    return dict(zip(drawn, weights.tolist()))


@gin.configurable(denylist=["base_dir", "checkpoint", "setup"])
def learned_mixture(
    base_dir,
    checkpoint: str = "best",
    setup: Experiment | None = None,
    least_effective: float = 2.0,
    least_share: float = 0.01,
) -> SourceWeights:
    """The weights that a run has learned; writes them, see above.

    Args:
      base_dir: a run of meta_train with a source rater.
      checkpoint: "best" by meta-evaluation (the latest without any), "latest", or a meta-step.
      setup: the run's experiment; built from gin when None. Its rater gets the chosen weights.
      least_effective: warn of a collapse where fewer sources carry the mixture, as counted by the
        exponential of the entropy.
      least_share: warn of every source that keeps less than this part of what it had.

    Raises:
      CheckpointError: no such rater, or the run was made on other data.
      ConfigurationError: the rater sees something else, or its scores were weighed otherwise than
        by `example_softmax`.
    """
    step, chosen = choose_step(base_dir, checkpoint)
    setup = setup or experiment_of_run()
    check_same_data(base_dir, setup.parts.fingerprint)
    names = sources_of(setup.rater)
    # Not run: it says what weighed the scores, and what that cost.
    trainer = MetaTrainer(setup.rater, setup.inner_model, setup.per_example_loss)
    weighting = _checked(trainer.problem.weighting)
    load_rater_weights(setup.rater, base_dir, step)
    known = setup.rater({SOURCE: np.arange(1, len(names) + 1, dtype=np.int32)}, training=False)
    raw = dict(zip(names, np.asarray(known, np.float64).tolist()))
    counts, shares = setup.parts.train.counts_by_source(), drawn_shares(setup.parts.train)
    drawn = {name: shares[name] for name in names}
    mean = math.fsum(raw[name] * drawn[name] for name in names)
    weights = mixture(raw, drawn, weighting)
    order = sorted(names, key=lambda name: (-weights[name], name))
    found = SourceWeights(
        {name: weights[name] for name in order},
        {name: drawn[name] for name in order},
        {name: counts[name] for name in order},
        {name: raw[name] - mean for name in order},
        weighting.floor,
        weighting.temperature,
        step,
        chosen,
        _flops(setup, trainer, step),
    )
    found = dataclasses.replace(found, warnings=_warnings(found, least_effective, least_share))
    write(found, pathlib.Path(base_dir) / FOLDER)
    return found


def _checked(weighting) -> example_softmax:
    if not isinstance(weighting, example_softmax):
        raise ConfigurationError(
            f"MetaTrainer.weighting is {type(weighting).__name__}: weights of sources are known of"
            " scores that were weighed by @example_softmax()."
        )
    return weighting


def _flops(setup: Experiment, trainer: MetaTrainer, meta_steps: int) -> int | None:
    """Operations of so many meta-steps; the rater's few products are not counted."""
    passes = told(trainer.estimator, "forward_passes", trainer.unroll_length)
    sets, train = setup.parts.outer_sets, setup.parts.train
    if passes is None or any(set(one.features) != set(train.features) for one in sets.values()):
        return None
    try:
        inner = flops.forward_flops(trainer.inner_model, flops.feature_shapes(train.features))
    except ConfigurationError:
        return None
    size = flops.MetaTrainingSize.of(trainer, meta_steps * trainer.population.size)
    size = dataclasses.replace(size, outer_batch_size=len(sets) * size.outer_batch_size)
    return flops.meta_training_flops(inner, 0, passes, size)["total"]


def _warnings(found: SourceWeights, least_effective: float, least_share: float) -> tuple[str, ...]:
    said = []
    before = math.exp(entropy(found.drawn))
    first = next(iter(found.weights))
    remedy = "raise example_softmax.floor, or stop earlier (--checkpoint)"
    if found.effective < min(least_effective, before):
        said.append(
            f"The weights have collapsed: they are worth {found.effective:.2f} sources, of"
            f" {before:.2f} as drawn, and {first!r} has {found.weights[first]:.1%}. A mixture"
            f" of one source repeats it: {remedy}."
        )
    starved = [n for n, w in found.weights.items() if w < least_share * found.drawn[n]]
    if starved:
        said.append(
            f"{len(starved)} of {len(found.weights)} sources keep less than {least_share:.1%} of"
            f" what they had: {', '.join(starved)}. To keep some of each, {remedy}."
        )
    return tuple(said)


def write(found: SourceWeights, folder: pathlib.Path) -> None:
    """Writes the three files."""
    facts = dataclasses.asdict(found) | {"entropy": found.entropy, "effective": found.effective}
    whole_files.write_text(folder / TABLE, json.dumps(facts, indent=1) + "\n")
    whole_files.write_text(folder / "weights.gin", gin_snippet(found))
    whole_files.write_text(folder / "weights.py", python_snippet(found))


def gin_snippet(found: SourceWeights) -> str:
    """Bindings of `mixture_corpus` that draw by these weights."""
    return (
        f"# Weights of sources, learned in {found.meta_step} meta-steps; floor {found.floor:g}.\n"
        "mixture_corpus.by_source = True\n"
        f"mixture_corpus.weights = {_rows(found)}\n"
    )


def python_snippet(found: SourceWeights) -> str:
    """A program that draws by these weights from one tf.data.Dataset a source."""
    return f'''"""Draws by weights of sources, learned in {found.meta_step} meta-steps."""

import tensorflow as tf

WEIGHTS = {_rows(found)}


def mixture(datasets: dict[str, tf.data.Dataset], seed: int = 0) -> tf.data.Dataset:
    """Source -> dataset, which should repeat, as one dataset."""
    return tf.data.Dataset.sample_from_datasets(
        [datasets[source] for source in WEIGHTS], list(WEIGHTS.values()), seed=seed
    )
'''


def _rows(found: SourceWeights) -> str:
    rows = "".join(f"    {n!r}: {round(w, _DIGITS)!r},\n" for n, w in found.weights.items())
    return "{\n" + rows + "}"


def as_text(found: SourceWeights) -> str:
    """A table for the terminal."""
    width = max(len("source"), *map(len, found.weights))
    lines = [f"{'source':<{width}}  examples   drawn  weight   times   score"]
    for name, weight in found.weights.items():
        drawn = found.drawn[name]
        lines.append(
            f"{name:<{width}}  {found.examples[name]:8,}  {drawn:6.1%}  {weight:6.1%}"
            f"  {weight / drawn:6.2f}  {found.scores[name]:6.2f}"
        )
    lines.append(
        f"entropy {found.entropy:.3f} nats, worth {found.effective:.2f} sources of"
        f" {len(found.weights)}; as drawn {entropy(found.drawn):.3f},"
        f" {math.exp(entropy(found.drawn)):.2f}; floor {found.floor:g}"
    )
    return "\n".join([*lines, *(f"warning: {text}" for text in found.warnings)])
