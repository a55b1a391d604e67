"""What it cost: operations, the sweep over discard fractions, time and memory."""

from dr_keras.report import plots
from dr_keras.report.page import Figure, Folded, Paragraph, Section, Table, section
from dr_keras.report.words import duration, flops, plural, spaced
from dr_keras.studies.results import Results
from dr_keras.studies.sizes import percent


@section("compute", place=40)
def compute(results: Results) -> Section | None:
    """Operations of runs, what arms save, and what is done once."""
    spent = results.compute
    if spent is None:
        return None
    reference = results.protocol.reference
    rows = []
    for size in results.sizes:
        for name, arm in plots.main_arms(size, results.protocol).items():
            account = arm.account
            runs = account.runs_to_pay
            rows.append(
                (
                    f"{size.name} {spaced(name)}",
                    flops(account.run.training) or "–",
                    flops(account.run.scoring) or "–",
                    flops(account.saving) or "–",
                    flops(account.saving_shared) or "–",
                    "–" if runs is None else f"{runs:,.1f}",
                    account.reason or "",
                )
            )
    parts = ("inner_models", "rater", "meta_evaluation")
    meta = spent.meta_training
    of_which = ", ".join(f"{spaced(n)} {flops(meta[n])}" for n in parts if n in meta)
    once = [
        ("meta-training", flops(meta.get("total")) or "–", meta.get("reason") or of_which),
        (
            "scoring the train part once, shared by all runs",
            flops(spent.scoring) or "–",
            f"{plural(spent.scored_examples, 'window')} of {flops(spent.rater_forward_flops)}",
        ),
    ]
    if spent.perplexity:
        once += [
            (
                "training the models of the perplexity arms",
                flops(spent.perplexity["training_flops"]) or "–",
                "",
            ),
            ("scoring the train part by perplexity", flops(spent.perplexity["flops"]) or "–", ""),
        ]
    return Section(
        "Compute",
        [
            Paragraph(f"Counted are the {spent.counted}."),
            Table(
                f"A run to its end, and what the arm saves by reaching the final loss of"
                f" {reference} early. “Saved, scores shared” leaves out scoring, as where the"
                " corpus was scored before and for many runs. The last figure: runs after which"
                " meta-training is paid for.",
                (
                    "run",
                    "training",
                    "scoring",
                    "saved",
                    "saved, scores shared",
                    "runs to pay for meta-training",
                    "note",
                ),
                rows,
                wide=["note"],
            ),
            Table(
                "Done once, for any number of runs.", ("what", "FLOPs", "of which"), once,
                wide=["of which"],
            ),
        ],
    )  # fmt: skip


@section("sweep", place=50)
def sweep(results: Results) -> Section | None:
    """How much to drop."""
    sweeps = results.sweep
    if not sweeps:
        return None
    smallest = next(iter(sweeps))
    rows = [
        (
            f"{size}, {100 * float(fraction):g}%"
            + (" (best)" if float(fraction) == swept.best else ""),
            point.validation.shown(),
            point.test.shown(),
        )
        for size, swept in sweeps.items()
        for fraction, point in swept.fractions.items()
    ]
    others = [
        f"at {size} the best is {'the same' if s.best == s.chosen else percent(s.best)}"
        for size, s in sweeps.items()
        if size != smallest
    ]
    chosen = "chosen" if "sweep" in (results.protocol.chosen_by or "") else "given"
    text = (
        f"Each fraction was tried with the {results.protocol.candidate}'s arm. The one used,"
        f" {percent(sweeps[smallest].chosen)}, was {chosen}; the best at {smallest} by the"
        f" validation part is {percent(sweeps[smallest].best)}"
    )
    return Section(
        "How much to drop",
        [
            Paragraph("; ".join([text, *others]) + "."),
            Figure(
                lambda: plots.sweep(sweeps),
                "Validation loss against the share dropped.",
                "Loss on the validation part above the best fraction's; dashed: the fraction used.",
            ),
            Table(
                "Mean ± standard deviation over seeds.",
                ("size, dropped", "validation loss", "test loss"),
                rows,
            ),
        ],
    )


@section("cost", place=120)
def cost(results: Results) -> Section | None:
    """Time and memory of the stages."""
    stages = results.stages
    if not stages:
        return None
    rows = [
        (
            spaced(name),
            duration(stage.seconds),
            "–"
            if stage.peak_memory_bytes is None
            else f"{stage.peak_memory_bytes / 2**20:,.0f} MiB",
        )
        for name, stage in stages.items()
    ]
    total = duration(sum(stage.seconds for stage in stages.values()))
    caption = f"Wall time, {total} in all, and peak memory."
    return Section("What it cost", [Table(caption, ("stage", "time", "peak memory"), rows)])


@section("settings", place=130)
def settings(results: Results) -> Section:
    """Settings and versions, folded away."""
    rows = [(name, str(value)) for name, value in {**results.settings, **results.versions}.items()]
    table = Table(f"Written {results.created}", ("name", "value"), rows, wide=["value"])
    return Section(None, [Folded("Settings and versions", [table])])
