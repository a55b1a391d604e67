"""A scorer asked several times, from other seeds: what chance put into its scores averages out.

Two models that differ in initial weights and batches alone disagree about much of a text that is
far from the target: docs/results.md has by how much, and what the mean is worth to a rater.
"""

from collections.abc import Callable

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.scores import Scores
from dr_keras.errors import ConfigurationError
import gin


@gin.configurable(denylist=["candidates", "outer", "seed"])
def mean_of_seeds(
    candidates: Candidates,
    outer: Candidates | None,
    scorer: Callable[..., Scores] = gin.REQUIRED,
    count: int = 2,
    seed: int = 0,
) -> Scores:
    """The mean of what a scorer says, asked with several seeds; all costs added up.

    Args:
      candidates: of the train part.
      outer: of the outer part, which the scorer is shown.
      scorer: as in `mean_of_seeds.scorer = @conditional_loss`. Its scores have one unit whatever
        the seed.
      count: how often it is asked, the first time with `seed` itself.
      seed: what the other seeds are derived from.

    Returns:
      Mean values and, where the scorer speaks of tokens, mean tokens; the weights of the first
      model; facts "each", what the scorer says of itself, in the order of the seeds. What one of
      them has nothing to say of is NaN.

    Raises:
      ConfigurationError: count is below 1.
    """
    if count < 1:
        raise ConfigurationError(f"mean_of_seeds.count is {count}: it must be at least 1.")
    values, tokens, weights = np.zeros(len(candidates)), None, None
    training, forward, each = 0.0, 0.0, []
    for number in range(count):
        found = scorer(candidates, outer, seed=_derived(seed, number))
        values += found.values / count
        if found.tokens is not None:
            # Of all windows: no more of them in memory than the sum and one more.
            part = found.tokens.astype(np.float32) / count
            tokens = part if tokens is None else np.add(tokens, part, out=tokens)
        if number == 0:
            weights = found.weights
        training, forward = training + found.training_flops, forward + found.forward_flops
        each.append(dict(found.facts))
    tokens = None if tokens is None else tokens.astype(np.float16)
    return Scores(values, training, forward, {"each": each}, tokens, weights)


def _derived(seed: int, number: int) -> int:
    """The seed itself, then others in [0, 2**31)."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) >> 1 if number else seed
