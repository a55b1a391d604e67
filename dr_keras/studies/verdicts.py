"""The answer in one sentence: did the choice of data help, by how much, and what to do."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from dr_keras.errors import ConfigurationError
from dr_keras.studies import scoreboard
from dr_keras.studies.sizes import LOSS, Arm, Protocol, Size, Verdict, percent
import gin

# How much better is better: see `paired.difference`.
BEYOND = "by more than two standard errors of the paired differences"


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


def judge(arms: Mapping[str, Arm], protocol: Protocol, too_small: str | None = None) -> Verdict:
    """The verdict on one size: did the candidate's choice of data help, and by how much?

    Args:
      arms: of the size.
      protocol: names the candidate, its rivals and the metric; baselines that did not run are
        ignored.
      too_small: from `too_small_for_verdict`; not None means no verdict, whatever the figures.

    Returns:
      "better" (than the reference and every baseline), "worse" (than one of them), "undecided", all
      of them by `paired.difference`, or "too_small".
    """
    candidate, reference, metric = protocol.candidate, protocol.reference, protocol.metric
    missing = [name for name in (candidate, reference) if name not in arms]
    if missing:
        raise ConfigurationError(f"no verdict without the arms {missing}; there are {list(arms)}")
    rivals = [reference, *(name for name in protocol.baselines if name in arms)]
    figures = {name: arms[name].judged(metric) for name in [candidate, *rivals]}
    digits = 3 if metric == LOSS else 4
    shown = ", ".join(f"{name} {figure.shown(digits)}" for name, figure in figures.items())
    against = {name: figures[candidate].against[name] for name in rivals}
    lost = [name for name, found in against.items() if found.outcome == "worse"]
    open_ = [name for name, found in against.items() if found.outcome == "undecided"]
    outcome = "worse" if lost else "undecided" if open_ else "better"
    reasons = {against[name].reason for name in open_} - {None}
    within = f"the difference to {' and '.join(open_)} is within two standard errors"
    unclear = f"No clear answer: {reasons.pop() if reasons else within}"
    if metric != LOSS:
        dropped = candidate.split()[-1]
        text = {
            "worse": f"The rater did not help: {candidate} was worse than {' and '.join(lost)}.",
            "undecided": f"{unclear}.",
            "better": f"Yes: without the {dropped} of the training examples that the rater scored"
            f" lowest, the model beat {' and '.join(rivals)} {BEYOND}.",
        }[outcome]
        return Verdict(outcome, text, f"Test {metric}: {shown}")
    share = arms[candidate].match.share
    if share is None:
        reach = f"it never reached the {reference} model's final loss"
    else:
        reach = f"it reached the {reference} model's final loss after {percent(share)} of the steps"
    text = {
        "worse": f"The {candidate} did not help: training on what it kept ended with a higher loss"
        f" than {' and '.join(lost)}; {reach}.",
        "undecided": f"{unclear}; {reach}.",
        "better": f"Yes: trained on what the {candidate} kept, the model beat"
        f" {' and '.join(rivals)} {BEYOND}; {reach}.",
    }[outcome]
    if too_small:
        outcome = "too_small"
        text = (
            f"This corpus is too small for a verdict: {too_small}. Of the model trained on what "
            f"the {candidate} kept, this much was measured: {reach}."
        )
    return Verdict(outcome, text, f"Final test loss in nats per token, lower is better: {shown}")


def answer(sizes: Sequence[Size], protocol: Protocol) -> Verdict:
    """The answer on all sizes: that of the one size, unless costs were counted.

    Where they were: one sentence on all sizes, figures of the largest, and a recommendation.
    """
    candidate, reference = protocol.candidate, protocol.reference
    largest = sizes[-1]
    account = largest.arms[candidate].account
    if account is None:
        return largest.verdict
    baselines = [name for name in protocol.baselines if all(name in s.arms for s in sizes)]
    rivals = " and ".join([reference, *baselines])
    outcomes = {size.name: size.verdict.outcome for size in sizes}
    better = [name for name, outcome in outcomes.items() if outcome == "better"]
    lost = [name for name, outcome in outcomes.items() if outcome == "worse"]
    if account.flops_share is None:
        reach = f"at {largest.name} it never reached the {reference} model's final loss"
    else:
        spread = "" if account.spread is None else f" ± {100 * account.spread:.0f}"
        reach = (
            f"at {largest.name} it reached the {reference} model's final loss with"
            f" {100 * account.flops_share:.0f}{spread}% of its FLOPs, scoring included"
        )
    reach += _reached_sooner(largest, candidate, reference)
    if "too_small" in outcomes.values():
        outcome = "too_small"
        text = next(s.verdict.text for s in sizes if s.verdict.outcome == outcome)
    elif len(better) == len(sizes):
        outcome = "better"
        where = "the one size" if len(sizes) == 1 else f"all {len(sizes)} sizes"
        text = (
            f"Yes: trained on what the {candidate} kept, models beat {rivals} {BEYOND} at {where};"
            f" {reach}."
        )
    elif lost:
        outcome = "worse"
        text = (
            f"No: at {' and '.join(lost)}, models trained on what the {candidate} kept ended worse"
            f" than {rivals} or one of them; {reach}."
        )
    else:
        outcome = "undecided"
        where = f"nowhere is the {candidate} arm better than {rivals} {BEYOND}"
        if better:
            where = f"the {candidate} arm is better at {' and '.join(better)} only"
        text = f"No clear answer: {where}; {reach}."
    advice = "None: the corpus is too small for a verdict."
    if outcome != "too_small":
        advice = recommendation(sizes, protocol)
    figures = f"{largest.name}: {largest.verdict.figures}"
    counted = scoreboard.tallies(sizes, protocol)[protocol.metric]
    if counted.cells > 2:
        figures += f". Over all sizes and rival arms {candidate} was {counted.shown()}"
    return Verdict(outcome, text, figures, advice)


def _reached_sooner(size: Size, candidate: str, reference: str) -> str:
    """In words: the candidate's shortest run that is no worse than the full reference."""
    for runs in size.shorter_runs.values():
        run = runs.get(candidate)
        if run is not None and run.final.mean <= size.arms[reference].final.mean:
            sure = (
                "" if run.final.outcome(reference) == "better" else ", within two standard errors"
            )
            return f", and with {percent(run.flops_share)} where planned to end there{sure}"
    return ""


def recommendation(sizes: Sequence[Size], protocol: Protocol) -> str:
    """What to do, in a sentence or two, from the accounts and outcomes of all sizes.

    Args:
      sizes: in rising size.
      protocol: names the candidate and its rivals.
    """
    candidate, reference = protocol.candidate, protocol.reference
    parts = []
    for size in sizes:
        arm, rivals = size.arms[candidate], [reference, *protocol.baselines]
        account = arm.account
        outcomes = {rival: arm.final.outcome(rival) for rival in rivals if rival in size.arms}
        # Reaching a loss at the last step is no better loss: the arms' final figures decide.
        if outcomes[reference] == "worse":
            parts.append(f"at {size.name}, do not filter: the {candidate} arm ends worse")
        elif account.flops_share is None:
            parts.append(f"at {size.name}, do not filter: the {reference} loss was never reached")
        elif account.saving <= 0:
            parts.append(
                f"at {size.name}, filtering saves nothing: the {reference} loss takes"
                f" {percent(account.flops_share)} of the FLOPs"
            )
        else:
            text = f"at {size.name}, filtering saves {percent(1 - account.flops_share)} of a run"
            if account.runs_to_pay is not None:
                runs = max(1, int(np.ceil(account.runs_to_pay)))
                text += f" and pays for meta-training from {runs:,} runs on"
            not_sure = [name for name, outcome in outcomes.items() if outcome == "undecided"]
            if not_sure:
                text += f" (not told from {' and '.join(not_sure)})"
            lost = [
                n for n in scoreboard.rivals(size.arms, protocol) if arm.final.outcome(n) == "worse"
            ]
            if lost:
                text += f", but {' and '.join(lost)} does better"
            parts.append(text)
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "."


def on_target(verdict: Verdict, target: str | None) -> Verdict:
    """The verdict, which says that it is about the loss on the target, where one was named."""
    if target is None:
        return verdict
    return dataclasses.replace(
        verdict,
        text=f"By the loss on {target}, {verdict.text[:1].lower()}{verdict.text[1:]}",
        figures=verdict.figures.replace("Final test loss", f"Final loss on {target}"),
    )
