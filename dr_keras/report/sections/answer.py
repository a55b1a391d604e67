"""The answer in one sentence and one picture, and what was compared."""

from dr_keras.report import page, plots
from dr_keras.studies.paired import ERRORS, PAIRS
from dr_keras.studies.results import Results
from dr_keras.studies.sizes import LOSS, percent

_BANDS = "Bands: standard deviation over seeds. The first steps run off the top."


@page.section("answer", place=10)
def answer(results: Results) -> page.Section:
    """The verdict, the figures it rests on, and the main picture."""
    verdict = results.answer
    if not results.sizes or results.rater is None:
        shown = page.Answer(verdict.outcome, verdict.text, verdict.figures, verdict.recommendation)
        return page.Section(None, [shown])
    quality, line = results.rater.quality, results.rater.line
    facts = [f"{verdict.figures}."]
    if quality.auc is not None:
        within = quality.within_sources
        sources = ""
        if within is not None and within.auc is not None:
            sources = f" ({within.auc:.3f} within sources)"
        facts.append(
            f"The rater tells clean from damaged examples with AUC {quality.auc:.3f}{sources}."
        )
    main = results.sizes[-1]
    match = main.arms[results.protocol.candidate].match
    by_steps = results.protocol.metric == LOSS and results.compute is None
    if by_steps and match.steps is not None:
        reference = results.protocol.reference
        facts.append(f"Steps to match {reference}: {match.steps:.0f} of {main.steps}.")
    if line and line.pearson is not None and line.spearman is not None and line.slope is not None:
        facts.append(
            f"Score against level of damage on {line.measured_on}: Pearson {line.pearson:.3f},"
            f" Spearman {line.spearman:.3f}, slope {line.slope:.3g}."
        )
    shown = page.Answer(verdict.outcome, verdict.text, " ".join(facts), verdict.recommendation)
    return page.Section(None, [shown, _picture(results)])


def _picture(results: Results) -> page.Figure:
    sizes, protocol = results.sizes, results.protocol
    if protocol.metric != LOSS:
        return page.Figure(
            lambda: plots.metric_against_share(sizes[-1], protocol),
            f"Test {protocol.metric} against the share of the training examples that was dropped.",
            f"Test {protocol.metric} of models trained without the lowest-rated examples, and"
            " without random ones; mean and standard deviation over seeds.",
        )
    ends = "; ".join(
        f"{size.name}: "
        + ", ".join(
            f"{name} {arm.final.mean:.3f}" for name, arm in plots.main_arms(size, protocol).items()
        )
        for size in sizes
    )
    described = f"Final losses in nats per token: {ends}."
    if results.compute is not None:
        return page.Figure(
            lambda: plots.loss_against_flops(results),
            f"Test loss against FLOPs. {described}",
            "Test loss against the floating-point operations spent, scoring by the rater included;"
            f" lower and further left is better. {_BANDS} The dot is where the"
            f" {protocol.candidate}'s arm reaches the final loss of {protocol.reference}.",
        )
    return page.Figure(
        lambda: plots.loss_curves(sizes[-1], protocol),
        f"Test loss against training steps. {described}",
        f"Loss on the test part while training; lower is better. {_BANDS}",
    )


@page.section("protocol", place=20)
def compared(results: Results) -> page.Section | None:
    """What was trained, and when one arm counts as better than another."""
    protocol, rater, sizes = results.protocol, results.rater, results.sizes
    if rater is None:
        return None
    counts = sorted({len(size.arms[protocol.reference].curves) for size in sizes})
    seeds = counts[0]
    up_to = f"{seeds} to " if len(counts) > 1 else ""
    text = (
        f"Models of {page.plural(len(sizes), 'size')} were trained from random weights with"
        f" {up_to}{page.plural(counts[-1], 'seed')}. Every arm trains the same model for the same"
        " number of steps on batches of the same size; the arms differ only in the data they may"
        " draw from. An arm with fewer unique examples repeats them more often. "
    )
    if protocol.discard_fraction is not None:
        text += (
            f"Every arm but {protocol.reference} drops {percent(protocol.discard_fraction)} of"
            f" them, as chosen by {protocol.chosen_by or 'the user'}; each size states the share"
            " that was achieved. "
        )
    step = "" if rater.meta_step is None else f", after {rater.meta_step:,} meta-steps"
    source = "meta-trained in this study" if rater.source is None else rater.source
    text += (
        f"One rater of {rater.parameters:,} parameters ({source}{step}) served all sizes. Arms"
        " are compared seed by seed: one counts as better (▲) or worse (▼) only where the mean of"
        f" the differences is more than {ERRORS:g} of its standard errors from 0, with at least"
        f" {PAIRS} seeds."
    )
    blocks: list[page.Block] = [page.Paragraph(text)]
    if rater.chosen and rater.meta_step is not None:
        blocks.append(
            page.Paragraph(
                f"The rater is the checkpoint of meta-step {rater.meta_step:,}: {rater.chosen}."
            )
        )
    notes = [f"Budgets differ: {warning}." for warning in protocol.warnings]
    if seeds < PAIRS:
        notes.append(f"Fewer than {PAIRS} seeds: no verdict; read nothing into gaps.")
    notes += [
        f"{size}, {arm}: chosen at random in oversized batches of a single pass, this arm is the"
        " unfiltered arm, so it was not run twice."
        for size, arm in protocol.same_as_unfiltered
    ]
    return page.Section(None, blocks + [page.Paragraph(note, note=True) for note in notes])
