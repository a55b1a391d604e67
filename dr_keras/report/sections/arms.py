"""The arms of every size: losses, budgets, other metrics, and every seed by itself."""

from dr_keras.report import page, plots
from dr_keras.studies.results import Results
from dr_keras.studies.sizes import LOSS, Arm, Protocol, Size, Summary, percent

_MARKS = {"better": " ▲", "worse": " ▼"}


@page.section("arms", place=30)
def arms(results: Results) -> page.Section:
    """A part for every size."""
    several = len(results.sizes) > 1
    blocks: list[page.Block] = []
    for size in results.sizes:
        if several:
            blocks += [page.Heading(size.name), page.Paragraph(size.verdict.text)]
        blocks += _of_size(results, size)
    return page.Section("Arms and metrics", blocks)


def as_text(results: Results) -> str:
    """The losses of all arms, and how scores follow damage, as a few lines for a terminal."""
    tables = [losses(size, results.protocol) for size in results.sizes]
    parts = [
        (f"{size.name}\n" if len(tables) > 1 else "") + table.as_text()
        for size, table in zip(results.sizes, tables)
    ]
    parts += [
        f"{size}, {arm}: on a single pass this is the unfiltered arm; not run"
        for size, arm in results.protocol.same_as_unfiltered
    ]
    parts += [line for size in results.sizes for line in _elsewhere(size)]
    parts += [
        f"{figure}, {results.protocol.candidate} against rival arms: {found.shown()}"
        for figure, found in results.tallies.items()
        if found.cells > 2
    ]
    quality = results.rater.quality if results.rater else None
    if quality is not None and quality.auc is not None:
        within = quality.within_sources
        parts.append(
            f"AUC of clean against damaged {page.number(quality.auc)} (level at least"
            f" {quality.minimum_level:g}), {page.number(quality.auc_all)} (all);"
            f" rank correlation with the level {page.number(quality.spearman, 2)}"
        )
        if within is not None and within.auc is not None:
            parts[-1] += (
                f"; within sources AUC {page.number(within.auc)}, mean of {within.auc_sources}"
            )
    return "\n\n".join(parts)


def _elsewhere(size: Size) -> list[str]:
    """Of every other corpus, how the arms end there."""
    names = dict.fromkeys(name for arm in size.arms.values() for name in arm.metrics)
    return [
        f"{size.name}, {name}: "
        + ", ".join(
            f"{page.spaced(arm)} {found.metrics[name].shown()}"
            for arm, found in size.arms.items()
            if name in found.metrics
        )
        for name in names
        if name.startswith("loss on ")
    ]


def _of_size(results: Results, size: Size) -> list[page.Block]:
    protocol = results.protocol
    blocks: list[page.Block] = [losses(size, protocol), _budgets(size, protocol)]
    blocks += [*_shorter(size, protocol), *_metrics(results, size), *_sources(size, protocol)]
    if len(size.arms) > 3:
        blocks.append(
            page.Figure(
                lambda: plots.final_losses(size, protocol),
                f"Final test loss of every arm at {size.name}.",
                "Dots: means; bars: standard deviation over seeds; ticks: seeds. The line is the"
                f" mean of {protocol.reference}.",
            )
        )
    if len(size.arms[protocol.reference].curves) > 1:
        curves = page.Figure(
            lambda: plots.loss_curves(size, protocol, seeds=True),
            f"Test loss against training steps of {size.name}, every seed.",
            "One line a seed.",
        )
        blocks.append(page.Folded("Every seed by itself", [curves]))
    return blocks


def losses(size: Size, protocol: Protocol) -> page.Table:
    """How every arm ended, against the reference and the baselines, and how soon it got there."""
    reference = protocol.reference
    unit = " in nats per token" if size.sequence_length > 1 else ""
    seeds = page.plural(len(size.arms[reference].curves), "seed")
    counted = ", FLOPs count scoring" if size.forward_flops else ""
    return page.Table.of(
        f"{size.name}: {size.parameters:,} parameters, {seeds}."
        f" Loss{unit}, mean ± standard deviation over seeds; what counts as better is the paired"
        " difference to another arm, see above. “Steps to match” are those needed to"
        f" reach the final loss of {reference}{counted}.",
        [_loss(name, arm, size, protocol) for name, arm in size.arms.items()],
        candidate=page.spaced(protocol.candidate),
    )


def _loss(name: str, arm: Arm, size: Size, protocol: Protocol) -> dict[str, str | None]:
    reference, metric, match, account = protocol.reference, protocol.metric, arm.match, arm.account
    steps, share, spent = "not reached", None, None
    if name == reference:
        steps = "reference"
    elif match.steps is not None:
        steps, share = f"{match.steps:.0f}", percent(match.share)
    if account is not None and account.flops_share is None:
        spent = "never"
    elif account is not None and name != reference:
        spread = "" if account.spread is None else f" ± {100 * account.spread:.0f}"
        spent = f"{100 * account.flops_share:.0f}{spread}%"
    judged = arm.judged(metric)
    rivals = [rival for rival in (reference, *protocol.baselines) if rival in size.arms]
    return {
        "arm": page.spaced(name),
        "dropped": percent(arm.discard_fraction, 1) if arm.discard_fraction else None,
        **{f"{kind} among dropped": _bad(arm, kind) for kind in ("corrupted", "mislabelled")},
        **({} if metric == LOSS else {f"test {metric}": judged.shown(4)}),
        "test loss": arm.final.shown(),
        "bits per byte": None if arm.bits_per_byte is None else arm.bits_per_byte.shown(),
        **{f"against {rival}": judged.outcome(rival) for rival in rivals},
        "steps to match": steps,
        "share": share,
        "FLOPs to match": spent,
    }


def _bad(arm: Arm, kind: str) -> str | None:
    known = None if arm.dropped is None else getattr(arm.dropped, kind)
    if known is None or not arm.dropped.examples:
        return None
    return percent(known / arm.dropped.examples, 1)


def _of_target(arm: Arm, figure: float, digits: int) -> str | None:
    return page.number(figure, digits) if arm.budget.target_tokens_seen else None


def _budgets(size: Size, protocol: Protocol) -> page.Table:
    text = size.sequence_length > 1
    tokens = f" of {size.sequence_length} tokens, padding not counted as seen" if text else ""
    mixed = any(arm.budget.target_tokens_seen for arm in size.arms.values())
    target = " Text of the target's outer part is mixed into the batches of every arm."
    return page.Table.of(
        f"Data budgets: {size.steps:,} steps of {size.batch_size} examples{tokens}. Epochs:"
        " examples trained on per example that the arm may draw from." + (target if mixed else ""),
        [
            {
                "arm": page.spaced(name),
                "examples": page.number(arm.budget.pool_examples, 0),
                "unique tokens": page.number(arm.budget.pool_tokens, 0) if text else None,
                "tokens seen": page.number(arm.budget.tokens_seen, 0) if text else None,
                "unique of them": page.number(arm.budget.unique_tokens, 0),
                "epochs": page.number(arm.budget.epochs, 2),
                "of them target text": _of_target(arm, arm.budget.target_tokens_seen, 0),
                "its epochs": _of_target(arm, arm.budget.target_epochs, 2),
                "what it trains on": arm.description,
            }
            for name, arm in size.arms.items()
        ],
        wide=["what it trains on"],
        candidate=page.spaced(protocol.candidate),
    )


def _shorter(size: Size, protocol: Protocol) -> list[page.Block]:
    if not size.shorter_runs:
        return []
    reference = protocol.reference
    rows = [
        {
            "arm": page.spaced(arm),
            "steps": f"{percent(float(share))} ({run.steps:,})",
            "FLOPs, scoring included": percent(run.flops_share, 1),
            "test loss": run.final.shown(),
            f"test loss of {reference}, full run": size.arms[reference].final.shown(),
            "against it": run.final.outcome(reference),
        }
        for share, runs in size.shorter_runs.items()
        for arm, run in runs.items()
    ]
    caption = (
        "Runs of fewer steps, in which the learning rate goes through its whole schedule, against"
        f" the full run of {reference}. Above, the learning rate is still high where an arm crosses"
        " that loss."
    )
    return [page.Table.of(caption, rows, candidate=page.spaced(protocol.candidate))]


def _marked(figure: Summary, reference: str, digits: int = 3, scale: float = 1.0) -> str:
    unit = "%" if scale == 100 else ""
    return figure.shown(digits, scale) + unit + _MARKS.get(figure.outcome(reference), "")


def _metrics(results: Results, size: Size) -> list[page.Block]:
    protocol, tasks = results.protocol, results.tasks
    reference = protocol.reference
    rows: list[dict[str, str]] = [{"arm": page.spaced(name)} for name in size.arms]
    for name in size.arms[reference].metrics:
        if name == protocol.metric:
            continue  # in the first table
        task, _, kind = name.rpartition(" ")
        head, digits, scale = name, 3, 1.0
        if kind == "accuracy" and task in tasks:
            head = f"{task} accuracy (chance {percent(tasks[task].chance, 1)})"
            digits, scale = 1, 100.0
        elif kind == "likelihood" and task in tasks:
            head = f"{task} nats per byte of the right answer"
        for row, arm in zip(rows, size.arms.values()):
            row[head] = _marked(arm.metrics[name], reference, digits, scale)
    if len(rows[0]) == 1:
        return []
    asked = ", ".join(
        f"{name} {facts.questions:,} of {facts.available:,}" for name, facts in tasks.items()
    )
    caption = (
        f"Other figures at the end of training. ▲ ▼: better or worse than {reference} by more than"
        " two standard errors of the paired differences. Losses: lower is better; accuracy and"
        " log-likelihood of the right answer: higher is better."
        + (" The validation part chose the discard fraction." if results.sweep else "")
        + (f" Questions, chosen by hash: {asked}." if asked else "")
    )
    return [page.Table.of(caption, rows, candidate=page.spaced(protocol.candidate))]


def _sources(size: Size, protocol: Protocol) -> list[page.Block]:
    shown = plots.main_arms(size, protocol)
    sources = list(size.arms[protocol.reference].by_source)
    if len(sources) < 2:
        return []
    rows = [
        {"source": source}
        | {n: _marked(arm.by_source[source], protocol.reference) for n, arm in shown.items()}
        for source in sources
    ]
    table = page.Table.of("Test loss by source, nats per token.", rows)
    return [page.Folded("Test loss by source", [table])]
