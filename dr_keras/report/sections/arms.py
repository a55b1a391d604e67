"""The arms of every size: losses, budgets, other metrics, and every seed by itself."""

from collections.abc import Callable

from dr_keras.report import page, plots
from dr_keras.studies.results import Results
from dr_keras.studies.sizes import LOSS, Arm, Budget, Protocol, Size, Summary, percent

_MARKS = {"better": " ▲", "worse": " ▼"}
_TRAINS_ON = "what it trains on"


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
    """The losses of all arms as a few lines of text for a terminal."""
    tables = [losses(size, results.protocol) for size in results.sizes]
    parts = [
        (f"{size.name}\n" if len(tables) > 1 else "") + table.as_text()
        for size, table in zip(results.sizes, tables)
    ]
    parts += [
        f"{size}, {arm}: on a single pass this is the unfiltered arm; not run"
        for size, arm in results.protocol.same_as_unfiltered
    ]
    return "\n\n".join(parts)


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
    if len(protocol.seeds) > 1:
        curves = page.Figure(
            lambda: plots.loss_curves(size, protocol, seeds=True),
            f"Test loss against training steps of {size.name}, every seed.",
            "One line a seed.",
        )
        blocks.append(page.Folded("Every seed by itself", [curves]))
    return blocks


def losses(size: Size, protocol: Protocol) -> page.Table:
    """How every arm ended, against the reference and the baselines, and how soon it got there."""
    reference, metric = protocol.reference, protocol.metric
    rows = size.arms.items()

    def column(cell: Callable[[str, Arm], str | None]) -> list[str | None]:
        return [cell(name, arm) for name, arm in rows]

    def against(rival: str) -> list[str | None]:
        return column(lambda _, arm: arm.judged(metric).outcome(rival))

    def reached(name: str, arm: Arm) -> str | None:
        if arm.account is None or name == reference:
            return None
        share, spread = arm.account.flops_share, arm.account.spread
        shown = "" if spread is None else f" ± {100 * spread:.0f}"
        return "never" if share is None else f"{100 * share:.0f}{shown}%"

    def steps(name: str, arm: Arm) -> str:
        if name == reference:
            return "reference"
        return "not reached" if arm.match.steps is None else f"{arm.match.steps:.0f}"

    columns = {
        "arm": column(lambda name, _: page.spaced(name)),
        "dropped": column(
            lambda _, arm: percent(arm.discard_fraction, 1) if arm.discard_fraction else None
        ),
    }
    for kind in ("corrupted", "mislabelled"):
        columns[f"{kind} among dropped"] = column(lambda _, arm, kind=kind: _bad(arm, kind))
    if metric != LOSS:
        columns[f"test {metric}"] = column(lambda _, arm: arm.judged(metric).shown(4))
    columns["test loss"] = column(lambda _, arm: arm.final.shown())
    for rival in (reference, *protocol.baselines):
        if rival in size.arms:
            columns[f"against {rival}"] = against(rival)
    columns["steps to match"] = column(steps)
    columns["share"] = column(
        lambda name, arm: None if arm.match.share is None or name == reference
        else percent(arm.match.share)
    )  # fmt: skip
    columns["FLOPs to match"] = column(reached)
    unit = " in nats per token" if size.sequence_length > 1 else ""
    seeds = page.plural(len(protocol.seeds), "seed")
    caption = (
        f"{size.name}: {size.parameters:,} parameters, {seeds}. Loss"
        f"{unit}, mean ± standard deviation over seeds. “Steps to match” are those needed to reach"
        f" the final loss of {reference}"
        + (", FLOPs count scoring." if size.forward_flops else ".")
    )
    return page.Table.of_columns(caption, columns, candidate=page.spaced(protocol.candidate))


def _bad(arm: Arm, kind: str) -> str | None:
    known = None if arm.dropped is None else getattr(arm.dropped, kind)
    if known is None or not arm.dropped.examples:
        return None
    return percent(known / arm.dropped.examples, 1)


def _budgets(size: Size, protocol: Protocol) -> page.Table:
    def column(cell: Callable[[Budget], str | None]) -> list[str | None]:
        return [cell(arm.budget) for arm in size.arms.values()]

    text = size.sequence_length > 1
    tokens = f" of {size.sequence_length} tokens, padding not counted as seen" if text else ""
    return page.Table.of_columns(
        f"Data budgets: {size.steps:,} steps of {size.batch_size} examples{tokens}. Epochs:"
        " examples trained on per example that the arm may draw from.",
        {
            "arm": [page.spaced(name) for name in size.arms],
            "examples": column(lambda budget: page.count(budget.pool_examples)),
            "unique tokens": column(lambda b: page.count(b.pool_tokens) if text else None),
            "tokens seen": column(lambda b: page.count(b.tokens_seen) if text else None),
            "unique of them": column(lambda budget: page.count(budget.unique_tokens)),
            "epochs": column(lambda budget: page.number(budget.epochs, 2)),
            _TRAINS_ON: [arm.description for arm in size.arms.values()],
        },
        wide=[_TRAINS_ON],
        candidate=page.spaced(protocol.candidate),
    )


def _shorter(size: Size, protocol: Protocol) -> list[page.Block]:
    if not size.shorter_runs:
        return []
    reference = protocol.reference
    rows = [
        (
            f"{percent(float(share))} ({run.steps:,})",
            percent(run.flops_share, 1),
            run.final.shown(),
            size.arms[reference].final.shown(),
            run.final.outcome(reference),
        )
        for share, run in size.shorter_runs.items()
    ]
    return [
        page.Table(
            f"The {protocol.candidate}'s arm with fewer steps, in which the learning rate goes"
            f" through its whole schedule, against the full run of {reference}. Above, the learning"
            " rate is still high where the arm crosses that loss.",
            (
                "steps",
                "FLOPs, scoring included",
                "test loss",
                f"test loss of {reference}, full run",
                "against it",
            ),
            rows,
        )
    ]


def _marked(figure: Summary, reference: str, digits: int = 3, scale: float = 1.0) -> str:
    unit = "%" if scale == 100 else ""
    return figure.shown(digits, scale) + unit + _MARKS.get(figure.outcome(reference), "")


def _metrics(results: Results, size: Size) -> list[page.Block]:
    protocol, tasks = results.protocol, results.tasks
    reference = protocol.reference
    columns: dict[str, list[str | None]] = {"arm": [page.spaced(name) for name in size.arms]}
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
        columns[head] = [
            _marked(arm.metrics[name], reference, digits, scale) for arm in size.arms.values()
        ]
    if len(columns) == 1:
        return []
    asked = ", ".join(
        f"{name} {facts.questions:,} of {facts.available:,}" for name, facts in tasks.items()
    )
    caption = (
        f"Other figures at the end of training. ▲ ▼: better or worse than {reference} beyond the"
        " spread. Losses: lower is better; accuracy and log-likelihood of the right answer: higher"
        " is better."
        + (" The validation part chose the discard fraction." if results.sweep else "")
        + (f" Questions, chosen by hash: {asked}." if asked else "")
    )
    return [page.Table.of_columns(caption, columns, candidate=page.spaced(protocol.candidate))]


def _sources(size: Size, protocol: Protocol) -> list[page.Block]:
    shown = plots.main_arms(size, protocol)
    sources = list(size.arms[protocol.reference].by_source)
    if len(sources) < 2:
        return []
    rows = [
        (source, *(_marked(arm.by_source[source], protocol.reference) for arm in shown.values()))
        for source in sources
    ]
    table = page.Table("Test loss by source, nats per token.", ("source", *shown), rows)
    return [page.Folded("Test loss by source", [table])]
