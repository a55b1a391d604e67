"""What it cost: operations, the sweep over discard fractions, time and memory."""

from dr_keras.report import page, plots
from dr_keras.studies.results import Results
from dr_keras.studies.sizes import percent

_RUNS = (1, 10, 100)  # that share what is made


@page.section("compute", place=40)
def compute(results: Results) -> page.Section | None:
    """Operations of runs, what arms save, and what is done once."""
    spent = results.compute
    if spent is None:
        return None
    reference = results.protocol.reference
    rows = []
    for size in results.sizes:
        for name, arm in size.arms.items():
            account = arm.account
            rows.append(
                {
                    "run": f"{size.name} {page.spaced(name)}",
                    "training": page.flops(account.run.training),
                    "scoring": page.flops(account.run.scoring),
                    "saved": page.flops(account.saving),
                    "saved, scores shared": page.flops(account.saving_shared),
                    "runs to pay for what scores": page.number(account.runs_to_pay, 1),
                    "note": account.reason or "",
                }
            )
    caption = (
        f"A run to its end, and what the arm saves by reaching the final loss of {reference} early."
        " “Saved, scores shared” leaves out scoring, as where the corpus was scored before and for"
        " many runs. The last figure: runs after which meta-training, or the making of what else"
        " scores, is paid for."
    )
    meta = spent.meta_training
    parts = [
        name
        for name in ("fitting", "inner_models", "rater", "meta_evaluation", "judgement")
        if name in meta
    ]
    of_which = ", ".join(f"{page.spaced(name)} {page.flops(meta[name])}" for name in parts)
    windows = f"{spent.scored_examples:,} windows of {page.flops(spent.rater_forward_flops)}"
    once = {
        "meta-training": (meta.get("total"), meta.get("reason") or of_which),
        "scoring the train part once, shared by all runs": (spent.scoring, windows),
    }
    for name, cost in spent.scorers.items():
        if cost.training or cost.scoring:
            spaced = page.spaced(name)
            once[f"training what scores by {spaced}"] = (cost.training, "")
            once[f"scoring the train part by {spaced}"] = (cost.scoring, "")
    shared = page.Table(
        "Done once, for any number of runs.",
        ("what", "FLOPs", "of which"),
        [(what, page.flops(value), note) for what, (value, note) in once.items()],
        wide=["of which"],
    )
    counted = page.Paragraph(f"Counted are the {spent.counted}.")
    return page.Section(
        "Compute", [counted, page.Table.of(caption, rows, wide=["note"]), _total(results), shared]
    )


def _total(results: Results) -> page.Table:
    """Everything that reaching the reference's loss took, for one run and for many."""
    protocol = results.protocol
    rows = []
    for size in results.sizes:
        full = size.arms[protocol.reference].account.run.total
        for name, arm in size.arms.items():
            if name == protocol.reference:
                continue
            account = arm.account
            making = None if account.making is None else account.making / full
            rows.append(
                {
                    "run": f"{size.name} {page.spaced(name)}",
                    "making, in runs": page.number(making, 2),
                    "training and scoring": percent(account.flops_share),
                    **{
                        f"all, for {count:,} {'run' if count == 1 else 'runs'}": _share(
                            account.total_share(full, count)
                        )
                        for count in _RUNS
                    },
                }
            )
    caption = (
        "All that is computed until a run is as low as the final loss of"
        f" {protocol.reference}, as a share of that whole run: making what scores (meta-training,"
        " reference models), scoring, and training. For several runs what is made is shared, and"
        " each of them scores anew. Making: in runs of the reference."
    )
    return page.Table.of(caption, rows, candidate=f"{results.sizes[-1].name} {protocol.candidate}")


def _share(share: float | None) -> str | None:
    return None if share is None else percent(share)


@page.section("sweep", place=50)
def sweep(results: Results) -> page.Section | None:
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
    chosen_by = results.protocol.chosen_by or ""
    chosen = "chosen" if "sweep" in chosen_by else f"given by {chosen_by or 'the user'}"
    text = (
        f"Each fraction was tried with the {results.protocol.candidate}'s arm. The one used,"
        f" {percent(sweeps[smallest].chosen)}, was {chosen}; the best at {smallest} by the"
        f" validation part is {percent(sweeps[smallest].best)}"
    )
    learned = results.findings.get("learned_fraction")
    beside = (
        f" The rater's own weights leave out {percent(learned['discard_fraction'])} of a batch of"
        f" {learned['batch_size']}, as counted by its effective size."
        if learned
        else ""
    )
    return page.Section(
        "How much to drop",
        [
            page.Paragraph("; ".join([text, *others]) + "." + beside),
            page.Figure(
                lambda: plots.sweep(sweeps),
                "Validation loss against the share dropped.",
                "Loss on the validation part above the best fraction's; dashed: the fraction used.",
            ),
            page.Table(
                "Mean ± standard deviation over seeds.",
                ("size, dropped", "validation loss", "test loss"),
                rows,
            ),
        ],
    )


@page.section("cost", place=130)
def cost(results: Results) -> page.Section | None:
    """Time and memory of the stages."""
    stages = results.stages
    if not stages:
        return None
    rows = [
        (
            page.spaced(name),
            page.duration(stage.seconds),
            None
            if stage.peak_memory_bytes is None
            else f"{stage.peak_memory_bytes / 2**20:,.0f} MiB",
        )
        for name, stage in stages.items()
    ]
    total = page.duration(sum(stage.seconds for stage in stages.values()))
    caption = f"Wall time, {total} in all, and peak memory."
    return page.Section(
        "What it cost", [page.Table(caption, ("stage", "time", "peak memory"), rows)]
    )


@page.section("settings", place=140)
def settings(results: Results) -> page.Section:
    """Settings and versions, folded away."""
    rows = [(name, str(value)) for name, value in {**results.settings, **results.versions}.items()]
    table = page.Table(f"Written {results.created}", ("name", "value"), rows, wide=["value"])
    return page.Section(None, [page.Folded("Settings and versions", [table])])
