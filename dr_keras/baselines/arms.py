"""All baseline arms of one study behind one call; what several share is worked out once."""

from collections.abc import Callable, Mapping
import dataclasses
import functools

import numpy as np

from dr_keras.baselines.best_sources import best_sources
from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.classifier import cross_classifier_scores
from dr_keras.baselines.conditional_loss import conditional_loss
from dr_keras.baselines.dsir import dsir
from dr_keras.baselines.heuristics import heuristics, heuristics_arm
from dr_keras.baselines.influence import influence
from dr_keras.baselines.perplexity import cross_perplexity
from dr_keras.baselines.reference_loss import reference_loss
from dr_keras.baselines.rho import rho
from dr_keras.baselines.scores import Scorer, Scores, cached
from dr_keras.baselines.selection import Selection, keep_first, random_arm, select_by_score
from dr_keras.baselines.source_weights import mixture_arm, source_weights
from dr_keras.baselines.token_prior import token_prior
from dr_keras.config.gin_files import nearest
from dr_keras.errors import ConfigurationError
from dr_keras.rating.fractions import Decimal
import gin

RATER = "rater"
# Name -> what scores. Each is an arm by its name, too, unless `ARMS` has others that use it.
SCORERS: dict[str, Scorer] = {
    "perplexity": cross_perplexity,
    "classifier": cross_classifier_scores,
    "conditional_loss": conditional_loss,
    "reference_loss": reference_loss,
    "rho": rho,
    "influence": influence,
    "dsir": dsir,
    "token_prior": token_prior,
    "best_sources": best_sources,
    "source_weights": source_weights,
}


@gin.configurable(denylist=["candidates", "outer", "rater_scores", "seed", "cache_dir"])
class Baselines:
    """Selections of every arm among the same candidates.

    Scores and broken rules are worked out when an arm first needs them. With a cache folder, scores
    outlive the process: `<cache_dir>/<scorer>-<key>.npz`, whose key covers the examples, the seed
    and every gin binding, so that a change of any of them scores again.

    Args:
      candidates: of the train part.
      outer: candidates of the outer part, for what scores by it.
      rater_scores: of the rater, one a row of the example set (a document gets the mean over its
        tokens), or one a candidate where there is no example set; None without a rater.
      seed: of folds and scoring models; the arms' own draws take the seed given to `select`.
      cache_dir: where scores are kept; None keeps them in memory.
      rater_method: how the rater's arms choose, see `select_by_score`.
      batch_size: B of "keep_probability".
      more_scorers: name -> scorer of your own (`scores.Scorer`); each is an arm, too. One that is
        called as one of `SCORERS` replaces it.
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
        more_scorers: Mapping[str, Scorer] | None = None,
        more_arms: Mapping[str, Callable] | None = None,
    ):
        self.candidates, self.outer, self.seed = candidates, outer, seed
        self.rater_method, self.batch_size = rater_method, batch_size
        self._rater_scores, self._cache_dir = rater_scores, cache_dir
        self._scorers = {**SCORERS, **(more_scorers or {})}
        self._known: dict[str, Scores] = {}
        own = {name: ScoreArm(name) for name in more_scorers or {} if name not in SCORERS}
        self.arms = {**ARMS, **own, **(more_arms or {})}

    def select(self, arm: str, discard_fraction: Decimal, seed: int = 0) -> Selection:
        """What an arm keeps.

        Args:
          arm: a key of `arms`.
          discard_fraction: f in [0, 1); see `batch_fraction`.
          seed: of draws and of the hash that breaks ties.

        Raises:
          ConfigurationError: no such arm; or it needs a rater or outer text that was not given.
        """
        return self._arm(arm)(self, discard_fraction, seed)

    def scored_by(self, arm: str) -> str | None:
        """The name of the scores that an arm chooses by, "rater" among them; None of the others."""
        return getattr(self._arm(arm), "scores", None)

    def _arm(self, name: str) -> Callable:
        if name not in self.arms:
            raise ConfigurationError(
                f"there is no arm {name!r}: choose among {', '.join(self.arms)}."
                + nearest(name, list(self.arms))
            )
        return self.arms[name]

    @functools.cached_property
    def rater_scores(self) -> np.ndarray:
        """The rater's score of every candidate, float64 [N]."""
        if self._rater_scores is None:
            raise ConfigurationError("this arm needs the scores of a rater: give rater_scores.")
        return self.candidates.token_means(self._rater_scores)

    def scores(self, name: str) -> Scores:
        """What a scorer says of every candidate, and what that cost; worked out once.

        Raises:
          ConfigurationError: no such scorer, or it needs outer text that was not given.
        """
        if name not in self._scorers:
            raise ConfigurationError(
                f"there is no scorer {name!r}: choose among {', '.join(self._scorers)}."
                + nearest(name, list(self._scorers))
            )
        if name not in self._known:
            score = functools.partial(
                self._scorers[name], self.candidates, self.outer, seed=self.seed
            )
            sets = [c.examples for c in (self.candidates, self.outer) if c is not None]
            if self._cache_dir is None or any(examples is None for examples in sets):
                self._known[name] = score()
            else:
                facts = [str(len(self.candidates)), *(examples.fingerprint for examples in sets)]
                key = (*facts, str(self.seed), gin.config_str())
                self._known[name] = cached(self._cache_dir, name, key, score)
        return self._known[name]

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


@dataclasses.dataclass(frozen=True)
class ScoreArm:
    """An arm that keeps one side of a ranking by scores.

    Attributes:
      scores: name of a scorer, or "rater".
      keep: "highest", "middle" or "lowest", see `select_by_score`.
      called: name of the arm; None for that of the scorer.
    """

    scores: str
    keep: str = "highest"
    called: str | None = None

    def __call__(self, study: Baselines, discard_fraction: Decimal, seed: int) -> Selection:
        """What it keeps."""
        name = self.called or self.scores
        if self.scores == RATER:
            how = (self.keep, study.rater_method, study.batch_size)
            values, facts = study.rater_scores, {}
        else:
            found, how = study.scores(self.scores), (self.keep,)
            values, facts = found.values, {self.scores: dict(found.facts)}
        return select_by_score(
            name, study.candidates, values, discard_fraction, seed, *how, facts=facts
        )


@dataclasses.dataclass(frozen=True)
class _WithScores:
    """An arm that needs scores, by default the rater's, and does more with them than rank."""

    select: Callable[[Baselines, Decimal, int], Selection]
    scores: str = RATER

    def __call__(self, study: Baselines, discard_fraction: Decimal, seed: int) -> Selection:
        return self.select(study, discard_fraction, seed)


def _unfiltered(study: Baselines, discard_fraction: Decimal, seed: int) -> Selection:
    candidates = study.candidates
    return keep_first("unfiltered", candidates, np.arange(len(candidates)), 0)


def _random(study: Baselines, discard_fraction: Decimal, seed: int) -> Selection:
    return random_arm(study.candidates, discard_fraction, seed)


def _random_as_rater(study: Baselines, discard_fraction: Decimal, seed: int) -> Selection:
    rater = ScoreArm(RATER)(study, discard_fraction, seed)
    return random_arm(study.candidates, discard_fraction, seed, rater, "random_as_rater")


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
    "rater": ScoreArm(RATER),
    "rater_inverted": ScoreArm(RATER, "lowest", "rater_inverted"),
    "random": _random,
    "random_as_rater": _WithScores(_random_as_rater),
    "perplexity_lowest": ScoreArm("perplexity", "lowest", "perplexity_lowest"),
    "perplexity_middle": ScoreArm("perplexity", "middle", "perplexity_middle"),
    "perplexity_highest": ScoreArm("perplexity", "highest", "perplexity_highest"),
    "heuristics_c4": functools.partial(_heuristics, family="c4"),
    "heuristics_gopher": functools.partial(_heuristics, family="gopher"),
    "heuristics": functools.partial(_heuristics, family="all"),
    "heuristics_then_rater": _WithScores(_heuristics_then_rater),
    **{name: ScoreArm(name) for name in SCORERS if name != "perplexity"},
    "source_weights": _WithScores(mixture_arm, "source_weights"),
    LEAST_DAMAGED: _least_damaged,
}
# Arms that not every corpus, or not every user, has what they need for: nobody runs them unasked.
ON_REQUEST = (LEAST_DAMAGED, "source_weights")
