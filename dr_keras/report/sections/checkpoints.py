"""Improvement against meta-steps and the size of inner models (the paper's figure 9)."""

from collections.abc import Iterator

from dr_keras.report import page, paper_plots
from dr_keras.studies.results import Results
from dr_keras.studies.sizes import LOSS, Size


@page.section("checkpoints", place=28)
def checkpoints(results: Results) -> page.Section | None:
    """How much checkpoints improve on the unfiltered arm: a panel a figure, a line a run."""
    runs = results.findings.get("checkpoints")
    if not runs:
        return None
    described = "; ".join(
        f"inner models {name}: {run['parameters']:,} parameters,"
        f" {page.flops(run['flops']) or 'an unknown number of FLOP'} of meta-training"
        for name, run in runs.items()
    )
    blocks: list[page.Block] = [
        page.Paragraph(
            "A rater was meta-trained with inner models of every size, from the same weights, for"
            f" as many meta-steps: {described}. Models were trained on what its checkpoints keep."
        )
    ]
    blocks += [
        page.Figure(
            lambda size=size: paper_plots.improvement(size, results.protocol, runs),
            f"Improvement on {results.protocol.reference} against meta-steps at {size.name}.",
            f"{size.name}: how much better than {results.protocol.reference}, by seed: mean, and"
            " two standard errors. Loss: nats per token less; likelihood: nats per byte of the"
            " right answer more. Dashed: a random choice.",
        )
        for size in results.sizes
    ]
    blocks += [_table(results, size) for size in results.sizes]
    return page.Section("Do raters get better with meta-steps and larger inner models?", blocks)


def as_text(results: Results) -> str:
    """The improvements as tables for a terminal."""
    head = f"better than {results.protocol.reference}"
    tables = [(size.name, _table(results, size).as_text()) for size in results.sizes]
    return "\n\n".join(f"{name}: {head}\n{table}" for name, table in tables)


def _table(results: Results, size: Size) -> page.Table:
    protocol, runs = results.protocol, results.findings["checkpoints"]
    names = paper_plots.figures_of(size)
    named = [
        (arm, arm.replace("@", ", meta-step ")) for run in runs.values() for arm in run["arms"]
    ]
    baselines = [(name, name) for name in protocol.baselines if name in size.arms]
    rows = [
        {"rater": text, "test loss": size.arms[arm].final.shown()}
        | dict(_cells(size, arm, protocol.reference, names))
        for arm, text in [*baselines, *named]
    ]
    caption = (
        f"{size.name}: improvement on {protocol.reference}, mean ± standard error of the"
        " differences by seed."
    )
    return page.Table.of(caption, rows)


def _cells(size: Size, arm: str, reference: str, names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        mean, error = paper_plots.gain(size, arm, reference, name)
        shown = f"{mean:+.4f}" + (f" ± {error:.4f}" if error else "")
        yield (f"{name}, lower by" if name == LOSS else f"{name}, higher by"), shown
