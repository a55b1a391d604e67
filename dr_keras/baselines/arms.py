"""All baseline arms of one study behind one call; what several share is worked out once."""

from collections.abc import Callable, Mapping
import functools
import hashlib
import io
import pathlib
import zipfile

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.classifier import ClassifierScores, classifier_arm, cross_classifier_scores
from dr_keras.baselines.heuristics import heuristics, heuristics_arm
from dr_keras.baselines.perplexity import cross_perplexity, perplexity_arm
from dr_keras.baselines.selection import Selection, keep_first, random_arm, select_by_score
from dr_keras.config.gin_files import nearest
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating.fractions import Decimal
from dr_keras.system import whole_files
from dr_keras.training.trainers import count_targets
import gin


@gin.configurable(denylist=["candidates", "outer", "rater_scores", "seed", "cache_dir"])
class Baselines:
    """Selections of every arm among the same candidates.

    Perplexities, classifier scores and broken rules are worked out when an arm first needs them.
    With a cache folder, perplexities outlive the process: `<cache_dir>/perplexity-<key>.npz`, whose
    key covers the examples, the seed and every gin binding, so that a change of any of them scores
    again.

    Args:
      candidates: of the train part.
      outer: candidates of the outer part, for the classifier.
      rater_scores: of the rater, one a row of the example set (a document gets the mean over its
        tokens), or one a candidate where there is no example set; None without a rater.
      seed: of folds and scoring models; the arms' own draws take the seed given to `select`.
      cache_dir: where perplexities are kept; None keeps them in memory.
      rater_method: how the rater's arms choose, see `select_by_score`.
      batch_size: B of "keep_probability".
      perplexity: (examples, seed=) -> nats per token of every row.
      classifier: (candidates, outer, seed=) -> ClassifierScores.
      more_arms: name -> (baselines, discard_fraction, seed) -> Selection, arms of your own; one
        that is called as one of `ARMS` replaces it.
    """

    def __init__(
        self,
        candidates: Candidates,
        outer: Candidates | None = None,
        rater_scores=None,
        seed: int = 0,
        cache_dir=None,
        rater_method: str = "threshold",
        batch_size: int = 64,
        perplexity: Callable = cross_perplexity,
        classifier: Callable = cross_classifier_scores,
        more_arms: Mapping[str, Callable] | None = None,
    ):
        self.candidates, self.outer, self.seed = candidates, outer, seed
        self.rater_method, self.batch_size = rater_method, batch_size
        self._rater_scores, self._cache_dir = rater_scores, cache_dir
        self._perplexity, self._classifier = perplexity, classifier
        self.arms = {**ARMS, **(more_arms or {})}

    def select(self, arm: str, discard_fraction: Decimal, seed: int = 0) -> Selection:
        """What an arm keeps.

        Args:
          arm: a key of `arms`.
          discard_fraction: f in [0, 1); see `batch_fraction`.
          seed: of draws and of the hash that breaks ties.

        Raises:
          ConfigurationError: no such arm; or it needs a rater or outer text that was not given.
        """
        if arm not in self.arms:
            raise ConfigurationError(
                f"there is no arm {arm!r}: choose among {', '.join(self.arms)}."
                + nearest(arm, list(self.arms))
            )
        return self.arms[arm](self, discard_fraction, seed)

    @functools.cached_property
    def rater_scores(self) -> np.ndarray:
        """The rater's score of every candidate, float64 [N]."""
        if self._rater_scores is None:
            raise ConfigurationError("this arm needs the scores of a rater: give rater_scores.")
        return self._of_candidates(self._rater_scores)

    @functools.cached_property
    def nats_per_token(self) -> np.ndarray:
        """Nats per token of every candidate under the scoring model, float64 [N]."""
        examples = self.candidates.examples
        if examples is None:
            raise DataError(
                "Perplexity needs windows of tokens, and these candidates are whole documents:"
                " choose among window_candidates or joined_candidates."
            )
        score = functools.partial(self._perplexity, examples, seed=self.seed)
        key = (examples.fingerprint, str(self.seed), gin.config_str())
        return self._of_candidates(cached(self._cache_dir, "perplexity", key, score))

    def _of_candidates(self, values) -> np.ndarray:
        if self.candidates.members is None:
            return self.candidates.of_examples(values)
        values = np.asarray(values, np.float64)
        weights = count_targets(self.candidates.examples)
        # What holds nothing to predict has no perplexity, and no weight.
        values = np.where((weights == 0) & np.isnan(values), 0.0, values)
        return self.candidates.of_examples(values, weights)

    @functools.cached_property
    def classifier_scores(self) -> ClassifierScores:
        """What the classifier says of every candidate."""
        if self.outer is None:
            raise ConfigurationError("the classifier needs the outer part: give outer.")
        return self._classifier(self.candidates, self.outer, seed=self.seed)

    def broken(self, family: str) -> dict[str, np.ndarray]:
        """Which rules each candidate breaks, of "c4", "gopher" or "all": rule -> bool [N].

        Raises:
          ConfigurationError: the configuration leaves no rule of this family.
        """
        if family == "all":
            return self._broken
        broken = {n: v for n, v in self._broken.items() if n.startswith(f"{family}_")}
        if not broken:
            raise ConfigurationError(
                f"heuristics.rules leaves no rule of {family}: name one, or leave out this arm."
            )
        return broken

    @functools.cached_property
    def _broken(self) -> dict[str, np.ndarray]:
        return heuristics().broken(self.candidates)


def cached(folder, name: str, key: tuple[str, ...], work: Callable[[], np.ndarray]) -> np.ndarray:
    """`work()`, or what an earlier call with this key stored in the folder (None stores nothing).

    A file that cannot be read is written anew.
    """
    if folder is None:
        return work()
    digest = hashlib.sha256("\n".join(key).encode("utf-8", "replace")).hexdigest()[:16]
    path = pathlib.Path(folder) / f"{name}-{digest}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["values"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        values = work()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, values=values)
    whole_files.write_bytes(path, buffer.getvalue())
    return values


def _unfiltered(study: Baselines, discard_fraction: Decimal, seed: int) -> Selection:
    candidates = study.candidates
    return keep_first("unfiltered", candidates, np.arange(len(candidates)), 0)


def _rater(study: Baselines, discard_fraction: Decimal, seed: int, keep="highest") -> Selection:
    return select_by_score(
        "rater" if keep == "highest" else "rater_inverted",
        study.candidates,
        study.rater_scores,
        discard_fraction,
        seed,
        keep,
        study.rater_method,
        study.batch_size,
    )


def _random(study: Baselines, discard_fraction: Decimal, seed: int) -> Selection:
    return random_arm(study.candidates, discard_fraction, seed)


def _random_as_rater(study: Baselines, discard_fraction: Decimal, seed: int) -> Selection:
    rater = _rater(study, discard_fraction, seed)
    return random_arm(study.candidates, discard_fraction, seed, rater, "random_as_rater")


def _perplexity(study: Baselines, discard_fraction: Decimal, seed: int, keep: str) -> Selection:
    return perplexity_arm(study.candidates, study.nats_per_token, discard_fraction, keep, seed)


def _heuristics(study: Baselines, discard_fraction: Decimal, seed: int, family: str) -> Selection:
    broken, arm = study.broken(family), "heuristics" if family == "all" else f"heuristics_{family}"
    return heuristics_arm(study.candidates, discard_fraction, seed, broken=broken, arm=arm)


def _heuristics_then_rater(study: Baselines, discard_fraction: Decimal, seed: int) -> Selection:
    return heuristics_arm(
        study.candidates,
        discard_fraction,
        seed,
        study.rater_scores,
        study.broken("all"),
        "heuristics_then_rater",
    )


def _classifier(study: Baselines, discard_fraction: Decimal, seed: int) -> Selection:
    return classifier_arm(study.candidates, study.classifier_scores, discard_fraction, seed)


def _least_damaged(study: Baselines, discard_fraction: Decimal, seed: int) -> Selection:
    examples = study.candidates.examples
    levels = None if examples is None else examples.labels.get("level")
    if levels is None or np.isnan(levels).any():
        raise ConfigurationError(
            f"the arm {LEAST_DAMAGED} needs a corpus whose damage is known everywhere, such as"
            " @damaged_corpus(): leave this arm out."
        )
    return select_by_score(
        LEAST_DAMAGED,
        study.candidates,
        study.candidates.of_examples(levels),
        discard_fraction,
        seed,
        "lowest",
    )


LEAST_DAMAGED = "least_damaged"  # the most that knowing the damage could bring
ARMS: dict[str, Callable[[Baselines, Decimal, int], Selection]] = {
    "unfiltered": _unfiltered,
    "rater": _rater,
    "rater_inverted": functools.partial(_rater, keep="lowest"),
    "random": _random,
    "random_as_rater": _random_as_rater,
    "perplexity_lowest": functools.partial(_perplexity, keep="lowest"),
    "perplexity_middle": functools.partial(_perplexity, keep="middle"),
    "perplexity_highest": functools.partial(_perplexity, keep="highest"),
    "heuristics_c4": functools.partial(_heuristics, family="c4"),
    "heuristics_gopher": functools.partial(_heuristics, family="gopher"),
    "heuristics": functools.partial(_heuristics, family="all"),
    "heuristics_then_rater": _heuristics_then_rater,
    "classifier": _classifier,
    LEAST_DAMAGED: _least_damaged,
}
