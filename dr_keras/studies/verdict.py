"""The answer in one sentence: did the rater's choice of data help, and by how much?"""

from collections.abc import Sequence

from dr_keras.errors import ConfigurationError
import gin


@gin.configurable
def too_small_for_verdict(
    train_examples: int,
    test_tokens: int,
    steps: int,
    batch_size: int,
    minimum_test_tokens: int = 10_000,
    minimum_train_batches: int = 20,
    maximum_epochs: float = 50.0,
) -> str | None:
    """Why a corpus is too small for its comparison to mean anything, or None.

    Args:
        train_examples: examples of the *smallest* arm's training data.
        test_tokens: real tokens of the test part.
        steps: training steps of each arm.
        batch_size: examples a step.
        minimum_test_tokens: below this the test loss says more about the few test texts than about
            the arms.
        minimum_train_batches: below this every batch is nearly the same set of examples.
        maximum_epochs: above this all arms learn their training text by heart.
    """
    reasons = []
    if test_tokens < minimum_test_tokens:
        reasons.append(f"the test part has {test_tokens:,} tokens (needs {minimum_test_tokens:,})")
    if train_examples < minimum_train_batches * batch_size:
        reasons.append(
            f"the smallest arm has {train_examples:,} training examples "
            f"(needs {minimum_train_batches * batch_size:,})"
        )
    epochs = steps * batch_size / max(train_examples, 1)
    if epochs > maximum_epochs:
        reasons.append(f"the smallest arm repeats its data {epochs:.0f} times")
    return "; ".join(reasons) or None


def percent(share: float | None, digits: int = 0) -> str:
    """A share as a percentage, "not reached" for None."""
    return "not reached" if share is None else f"{100 * share:.{digits}f}%"


def judge(
    arms: dict[str, dict],
    candidate: str = "rater",
    reference: str = "unfiltered",
    baselines: Sequence[str] = ("random",),
    too_small: str | None = None,
) -> dict[str, str]:
    """The verdict on one comparison.

    Args:
        arms: what `comparison.compare` returned.
        candidate: the arm in question.
        reference: the arm without any filtering.
        baselines: arms that discard as much without a rater; those that did not run are ignored.
        too_small: from `too_small_for_verdict`; not None means no verdict, whatever the figures.

    Returns:
        {"outcome", "text", "figures"}: `text` is one sentence (two for "too_small"), `figures` the
        final losses; outcome is "better" (than the reference and every baseline beyond the
        spread), "worse" (than one of them beyond the spread), "undecided", or "too_small".
    """
    missing = [name for name in (candidate, reference) if name not in arms]
    if missing:
        raise ConfigurationError(f"no verdict without the arms {missing}; there are {list(arms)}")
    arm = arms[candidate]
    rivals = [reference, *(name for name in baselines if name in arms)]
    outcomes = {name: arm["against"][name]["outcome"] for name in rivals}
    losses = ", ".join(
        f"{name} {arms[name]['final']['mean']:.3f}"
        + (f" ± {spread:.3f}" if (spread := arms[name]["final"]["spread"]) is not None else "")
        for name in [candidate, *rivals]
    )
    figures = f"Final test loss in nats per token, lower is better: {losses}"
    share = arm["match"]["share"]
    if share is None:
        reach = f"it never reached the {reference} model's final loss"
    else:
        reach = f"it reached the {reference} model's final loss after {percent(share)} of the steps"
    if too_small:
        text = (
            f"This corpus is too small for a verdict: {too_small}. Of the model trained on what "
            f"the {candidate} kept, this much was measured: {reach}."
        )
        return {"outcome": "too_small", "text": text, "figures": figures}
    lost = [name for name, outcome in outcomes.items() if outcome == "worse"]
    open_ = [name for name, outcome in outcomes.items() if outcome == "undecided"]
    if lost:
        outcome = "worse"
        text = (
            f"The {candidate} did not help: training on what it kept ended with a higher loss than "
            f"{' and '.join(lost)}; {reach}."
        )
    elif open_:
        outcome = "undecided"
        reasons = {arm["against"][name].get("reason") for name in open_} - {None}
        within = f"the difference to {' and '.join(open_)} is within the spread over seeds"
        text = f"No clear answer: {reasons.pop() if reasons else within}; {reach}."
    else:
        outcome = "better"
        text = (
            f"Yes: trained on what the {candidate} kept, the model beat {' and '.join(rivals)} "
            f"beyond the spread over seeds; {reach}."
        )
    return {"outcome": outcome, "text": text, "figures": figures}


def judge_metric(
    arms: dict[str, dict], metric: str, candidate: str, rivals: Sequence[str]
) -> dict[str, str]:
    """The verdict on one arm by a metric of the test set instead of its loss.

    Args:
        arms: with "metrics"[metric] = {"mean", "spread", "against": {arm: {"outcome"}}}.
        metric: name of the metric.
        candidate: the arm in question.
        rivals: arms that it is held against.

    Returns:
        {"outcome", "text", "figures"} as `judge` returns them, without "too_small".
    """
    against = arms[candidate]["metrics"][metric]["against"]
    outcomes = {name: against[name]["outcome"] for name in rivals}

    def figure(name: str) -> str:
        found = arms[name]["metrics"][metric]
        spread = "" if found["spread"] is None else f" ± {found['spread']:.4f}"
        return f"{name} {found['mean']:.4f}{spread}"

    figures = f"Test {metric}: {', '.join(figure(name) for name in [candidate, *rivals])}"
    lost = [name for name, outcome in outcomes.items() if outcome == "worse"]
    open_ = [name for name, outcome in outcomes.items() if outcome == "undecided"]
    if lost:
        text = f"The rater did not help: {candidate} was worse than {' and '.join(lost)}."
        return {"outcome": "worse", "text": text, "figures": figures}
    if open_:
        reasons = {against[name].get("reason") for name in open_} - {None}
        within = f"the difference to {' and '.join(open_)} is within the spread over seeds"
        text = f"No clear answer: {reasons.pop() if reasons else within}."
        return {"outcome": "undecided", "text": text, "figures": figures}
    share = candidate.split()[-1]
    text = (
        f"Yes: without the {share} of the training examples that the rater scored lowest, the model"
        f" beat {' and '.join(rivals)} beyond the spread over seeds."
    )
    return {"outcome": "better", "text": text, "figures": figures}
