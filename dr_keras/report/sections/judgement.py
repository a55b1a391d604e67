"""Is a rater better than chance? The trainings that said so before any arm was trained."""

import statistics

from dr_keras.report import page
from dr_keras.runs.verdict import JudgedRater, Judgement, shown
from dr_keras.studies.results import Results


@page.section("judgement", place=25)
def judgement(results: Results) -> page.Section | None:
    """Raters beside a random choice, by pairs of trainings."""
    document = results.findings.get("judgement")
    if not document:
        return None
    found = Judgement.of(document)
    pairs = page.plural(len(found.random), "pair")
    how = (
        f"Fresh models were trained on what a rater keeps and, from the same weights, on a random"
        f" choice from the same batches: {pairs} of trainings of {found.updates:,} updates on"
        f" batches of {found.batch_size}, {found.discard_fraction:.0%} dropped, none of them a"
        f" training by which the checkpoint was chosen. Losses are those on"
        f" {page.plural(found.validation_examples, 'example')} of the validation part, from"
        f" {page.plural(found.validation_documents, 'document')}. A gain counts where it exceeds"
        " two standard errors, by pairs and by documents, and more where pairs are few."
    )
    unit = f", {found.unit}" if found.unit else ""
    chance = {"rater": "random choice", f"validation loss{unit}": f"{_mean(found.random):.4f}"}
    heads = ["gain ± standard error", "in standard errors", "asked for", "so it is", "behind"]
    rows: list[dict[str, str | None]] = [
        {**chance, **dict.fromkeys(heads), "FLOPs to make it": None},
        *(_row(rater, f"validation loss{unit}") for rater in found.raters),
    ]
    cost = page.duration(found.seconds)
    if found.flops is not None:
        cost += f" and {page.flops(found.flops)}"
    table = page.Table.of(f"Judging took {cost}.", rows, candidate=found.chosen)
    said = [page.Paragraph(found.text), page.Paragraph(how), table]
    return page.Section("Is the rater better than chance?", said)


def _row(rater: JudgedRater, loss: str) -> dict[str, str | None]:
    known = [value for value in rater.losses if value is not None]
    errors = None
    if rater.standard_error and rater.gain is not None:
        errors = f"{rater.gain / rater.standard_error:.1f}"
    return {
        "rater": rater.name,
        loss: f"{_mean(known):.4f}" if len(known) == len(rater.losses) else "not finite",
        "gain ± standard error": shown(rater.gain, rater.standard_error),
        "in standard errors": errors,
        "asked for": page.number(rater.threshold, 1),
        "so it is": rater.outcome,
        "behind": None if rater.behind is None else shown(rater.behind, rater.behind_error),
        "FLOPs to make it": page.flops(rater.made_flops),
    }


def _mean(values: list) -> float:
    return statistics.fmean(values)
