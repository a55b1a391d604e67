"""The page of the evidence protocol, for readers who did not run it; all of it from its results.

First the answer in one sentence and one picture; then sizes, metrics and arms; what it cost; the
sweep; what the rater learned; what was compared, on what.
"""

from collections.abc import Mapping
import pathlib

from dr_keras.report import evidence_plots, page
from dr_keras.report.evidence_findings_page import findings
from dr_keras.studies.evidence_results import validate
from dr_keras.studies.verdict import percent
from dr_keras.system import whole_files

_MARKS = {"better": " ▲", "worse": " ▼"}


def write(found: Mapping, path) -> pathlib.Path:
    """Writes report.html, whole.

    Raises:
      DataError: `found` is not of the schema.
    """
    path = pathlib.Path(path)
    whole_files.write_text(path, render(found), errors="replace")
    return path


def render(found: Mapping) -> str:
    """The page as text."""
    validate(found)
    answer, sizes = found["answer"], found["sizes"]
    body = [
        f"<h1>{page.text(found['title'])}</h1>",
        f'<p class="answer {page.text(answer["outcome"])}">{page.text(answer["text"])}'
        f"<small>{page.text(answer['figures'])}. <b>Recommendation:</b>"
        f" {page.text(answer['recommendation'])}</small></p>",
        page.figure(
            evidence_plots.loss_against_flops(sizes),
            _described(sizes),
            "answer",
            "Test loss against the floating-point operations spent, scoring by the rater included;"
            " lower and further left is better. Bands: standard deviation over seeds. The dot is"
            " where the rater's arm reaches the final loss of unfiltered. The first steps run off"
            " the top.",
        ),
        _what(found),
    ]
    for size in sizes:
        body.append(
            f"<h2>{page.text(size['name'])}: arms and metrics</h2>"
            f"<p>{size['parameters']:,} parameters.</p>"
        )
        body.append(f"<p>{page.text(size['verdict']['text'])}</p>")
        body += [_losses(size, found), _shorter(size, found)]
        body += [_metrics(size, found["tasks"]), _sources(size)]
        if len(size["arms"]) > 3:
            body.append(
                page.figure(
                    evidence_plots.final_losses(size),
                    f"Final test loss of every arm at {size['name']}.",
                    f"finals{sizes.index(size)}",
                    "Dots: means; bars: standard deviation over seeds; ticks: seeds. The line is"
                    " the mean of unfiltered.",
                )
            )
    body += [_compute(found), _sweep(found), findings(found.get("analysis")), _corpus(found)]
    body += [page.cost(found), page.settings(found)]
    return page.whole(found["title"], body)


def _described(sizes) -> str:
    parts = []
    for size in sizes:
        ends = ", ".join(
            f"{name} {size['arms'][name]['final']['mean']:.3f}"
            for name in evidence_plots.MAIN
            if name in size["arms"]
        )
        parts.append(f"{size['name']}: {ends}")
    return "Test loss against FLOPs. Final losses in nats per token: " + "; ".join(parts) + "."


def _what(found: Mapping) -> str:
    protocol, rater, sizes = found["protocol"], found["rater"], found["sizes"]
    seeds = len(protocol["seeds"])
    chosen = protocol["discard_fraction"]
    step = "" if rater["meta_step"] is None else f", after {rater['meta_step']:,} meta-steps"
    lines = [
        f"<p>Language models of {len(sizes)} size{'s' * (len(sizes) > 1)} were trained from random"
        f" weights with {seeds} seed{'s' * (seeds > 1)} on the same number of batches, each arm on"
        f" its own choice of the training text. Every arm but unfiltered drops {percent(chosen)} of"
        f" it, as chosen by {page.text(protocol['chosen_by'])}; each size states the share that was"
        f" achieved. One rater of {rater['parameters']:,} parameters ({page.text(rater['source'])}"
        f"{step}) served all sizes. An arm counts as better (▲) or worse (▼) only where the means"
        " differ by more than the sum of both standard deviations.</p>"
    ]
    if rater.get("chosen"):
        lines.append(
            f"<p>The rater is the checkpoint of meta-step {rater['meta_step']:,}:"
            f" {page.text(rater['chosen'])}.</p>"
        )
    if seeds < 3:
        lines.append('<p class="note">Fewer than three seeds: read nothing into small gaps.</p>')
    for size, arm in protocol["same_as_unfiltered"]:
        lines.append(
            f'<p class="note">{page.text(size)}, {page.text(arm)}: chosen at random in oversized'
            " batches of a single pass, this arm <i>is</i> the unfiltered arm, so it was not run"
            " twice.</p>"
        )
    for warning in protocol["warnings"]:
        lines.append(f'<p class="note">Budgets differ: {page.text(warning)}.</p>')
    return "".join(lines)


def _shown(figures: Mapping, digits: int = 3, scale: float = 1.0, mark: str = "") -> str:
    spread = figures["spread"]
    shown = "" if spread is None else f" ± {scale * spread:.{digits}f}"
    return f"{scale * figures['mean']:.{digits}f}{shown}{mark}"


def _mark(figures: Mapping, reference: str) -> str:
    against = figures.get("against", {}).get(reference)
    return _MARKS.get(against["outcome"], "") if against else ""


def _losses(size: Mapping, found: Mapping) -> str:
    reference, rival = found["protocol"]["reference"], "random"
    losses, budgets = [], []
    for name, arm in size["arms"].items():
        label, budget, account = page.text(name.replace("_", " ")), arm["budget"], arm["account"]
        share, spread = account["flops_share"], account["spread"]
        shown = "" if spread is None else f" ± {100 * spread:.0f}"
        reached = "never" if share is None else f"{100 * share:.0f}{shown}%"
        steps = account["steps_share"]
        losses.append(
            (
                label,
                _shown(arm["final"]),
                page.text(arm["against"].get(reference, {}).get("outcome", "–")),
                page.text(arm["against"].get(rival, {}).get("outcome", "–")),
                "never" if steps is None else percent(steps),
                "reference" if name == reference else reached,
            )
        )
        budgets.append(
            (
                label, percent(arm["discard_fraction"], 1),
                *(page.count(round(budget[key])) for key in ("tokens_seen", "unique_tokens",
                                                             "pool_tokens")),
                page.number(budget["epochs"], 2),
                f'<span class="text">{page.text(arm["description"])}</span>',
            )
        )  # fmt: skip
    seeds = len(found["protocol"]["seeds"])
    return (
        page.table(
            f"Test loss in nats per token, mean ± standard deviation over {seeds} seeds. Steps and"
            f" FLOPs (scoring included) are those needed to reach the final loss of {reference}.",
            ("arm", "test loss", f"against {reference}", f"against {rival}", "steps needed",
             "FLOPs needed"),
            losses, "rater",
        )
        + page.table(
            f"Data budgets: {size['steps']:,} steps of {size['batch_size']} windows of"
            f" {size['sequence_length']} tokens, padding not counted as seen. Epochs: windows"
            " trained on per window that the arm may draw from.",
            ("arm", "dropped", "tokens seen", "unique of them", "tokens to draw from", "epochs",
             "what it trains on"),
            budgets, "rater",
        )
    )  # fmt: skip


def _shorter(size: Mapping, found: Mapping) -> str:
    runs = size.get("shorter_runs")
    if not runs:
        return ""
    reference = found["protocol"]["reference"]
    rows = [
        (
            f"{percent(float(share))} ({run['steps']:,})",
            percent(run["flops_share"], 1),
            _shown(run["final"]),
            _shown(size["arms"][reference]["final"]),
            page.text(run["against"][reference]["outcome"]),
        )
        for share, run in runs.items()
    ]
    return page.table(
        f"The {found['protocol']['candidate']}'s arm with fewer steps, in which the learning rate"
        f" goes through its whole schedule, against the full run of {reference}. Above, the"
        " learning rate is still high where the arm crosses that loss.",
        ("steps", "FLOPs, scoring included", "test loss", f"test loss of {reference}, full run",
         "against it"),
        rows,
    )  # fmt: skip


def _metrics(size: Mapping, tasks: Mapping) -> str:
    arms = size["arms"]
    names = list(next(iter(arms.values()))["metrics"])
    if not names:
        return ""
    head = ["arm"]
    for name in names:
        task, _, kind = name.rpartition(" ")
        if kind == "accuracy" and task in tasks:
            head.append(f"{task} accuracy (chance {percent(tasks[task]['chance'], 1)})")
        elif kind == "likelihood" and task in tasks:
            head.append(f"{task} nats per byte of the right answer")
        else:
            head.append(name)
    rows = []
    for arm, figures in arms.items():
        cells = []
        for name in names:
            metric = figures["metrics"][name]
            is_share = name.endswith(" accuracy")
            mark = _mark(metric, "unfiltered")
            cells.append(_shown(metric, 1, 100.0, f"%{mark}") if is_share else
                         _shown(metric, 3, 1.0, mark))  # fmt: skip
        rows.append((page.text(arm.replace("_", " ")), *cells))
    asked = ", ".join(
        f"{name} {facts['questions']:,} of {facts['available']:,}" for name, facts in tasks.items()
    )
    caption = (
        "Other figures at the end of training. ▲ ▼: better or worse than unfiltered beyond the"
        " spread. Losses: lower is better; accuracy and log-likelihood of the right answer: higher"
        " is better. The validation part chose the discard fraction."
        + (f" Questions, chosen by hash: {asked}." if asked else "")
    )
    return page.table(caption, head, rows, "rater")


def _sources(size: Mapping) -> str:
    arms = {name: size["arms"][name] for name in evidence_plots.MAIN if name in size["arms"]}
    sources = list(next(iter(arms.values()))["by_source"])
    if len(sources) < 2:
        return ""
    rows = [
        (
            page.text(source),
            *(
                _shown(
                    arm["by_source"][source], 3, 1.0, _mark(arm["by_source"][source], "unfiltered")
                )
                for arm in arms.values()
            ),
        )
        for source in sources
    ]
    table = page.table("Test loss by source, nats per token.", ("source", *arms), rows)
    return f"<details><summary>Test loss by source</summary>{table}</details>"


def flops(value: float | None) -> str:
    """A number of operations in a readable unit, a dash for None."""
    if value is None:
        return "–"
    for unit, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= unit:
            return f"{value / unit:.3g} {name}FLOP"
    return f"{value:.0f} FLOP"


def _compute(found: Mapping) -> str:
    compute = found["compute"]
    meta = compute["meta_training"]
    rows = []
    for size in found["sizes"]:
        for name in ("unfiltered", "random", "rater"):
            if name not in size["arms"]:
                continue
            account = size["arms"][name]["account"]
            runs = account["runs_to_pay"]
            rows.append(
                (
                    page.text(f"{size['name']} {name}"),
                    flops(account["run"]["training"]),
                    flops(account["run"]["scoring"]),
                    flops(account["saving"]),
                    flops(account["saving_shared"]),
                    "–" if runs is None else f"{runs:,.1f}",
                    f'<span class="text">{page.text(account.get("reason", ""))}</span>',
                )
            )
    lines = [
        ("meta-training", flops(meta.get("total")),
         page.text(meta.get("reason") or _parts(meta)) if "total" in meta else "–"),
        ("scoring the train part once, shared by all runs", flops(compute["score_corpus"]["flops"]),
         f"{compute['score_corpus']['examples']:,} windows of"
         f" {flops(compute['rater_forward_flops'])}"),
    ]  # fmt: skip
    if compute["perplexity"]:
        perplexity = compute["perplexity"]
        lines += [
            ("training the models of the perplexity arms", flops(perplexity["training_flops"]), ""),
            ("scoring the train part by perplexity", flops(perplexity["flops"]), ""),
        ]
    return (
        "<h2>Compute</h2>"
        f"<p>Counted are the {page.text(compute['counted'])}.</p>"
        + page.table(
            "A run to its end, and what the arm saves by reaching the final loss of unfiltered"
            " early. “Saved, scores shared” leaves out scoring, as where the corpus was scored"
            " before and for many runs. The last figure: runs after which meta-training is paid"
            " for.",
            ("run", "training", "scoring", "saved", "saved, scores shared", "runs to pay for"
             " meta-training", ""),
            rows,
        )
        + page.table("Done once, for any number of runs.", ("what", "FLOPs", "of which"), lines)
    )  # fmt: skip


def _parts(meta: Mapping) -> str:
    names = ("inner_models", "rater", "meta_evaluation")
    return ", ".join(f"{n.replace('_', ' ')} {flops(meta[n])}" for n in names if n in meta)


def _sweep(found: Mapping) -> str:
    sweeps = found["sweep"]
    if not sweeps:
        return ""
    smallest = next(iter(sweeps))
    rows, verdicts = [], []
    for size, swept in sweeps.items():
        for fraction, figures in swept["fractions"].items():
            mark = " (best)" if float(fraction) == swept["best"] else ""
            rows.append(
                (
                    page.text(f"{size}, {100 * float(fraction):g}%{mark}"),
                    _shown(figures["validation"]),
                    _shown(figures["test"]),
                )
            )
        if size != smallest:
            best, chosen = swept["best"], swept["chosen"]
            same = best == chosen
            verdicts.append(f"at {size} the best is {'the same' if same else percent(best)}")
    used = percent(sweeps[smallest]["chosen"])
    text = (
        f"Each fraction was tried with the rater's arm. The one used, {used},"
        f" was {'chosen' if 'sweep' in found['protocol']['chosen_by'] else 'given'}; the best at"
        f" {smallest} by the validation part is {percent(sweeps[smallest]['best'])}"
        + (f"; {', '.join(verdicts)}." if verdicts else ".")
    )
    return (
        f"<h2>How much to drop</h2><p>{page.text(text)}</p>"
        + page.figure(
            evidence_plots.sweep(sweeps), "Validation loss against the share dropped.", "sweep",
            "Loss on the validation part above the best fraction's; dashed: the fraction used.",
        )
        + page.table("Mean ± standard deviation over seeds.",
                     ("size, dropped", "validation loss", "test loss"), rows)
    )  # fmt: skip


def _corpus(found: Mapping) -> str:
    corpus = found["corpus"]
    rows = [
        (
            page.text(part),
            page.count(figures["examples"]),
            page.count(figures["unique_tokens"]),
            f'<span class="text">{page.text(page.shares(figures.get("by_source", {})))}</span>',
            f'<span class="text">{page.text(page.shares(figures.get("by_damage", {})))}</span>',
        )
        for part, figures in corpus["parts"].items()
    ]
    return (
        f"<h2>The corpus</h2><p>{page.text(corpus['name'])}; fingerprint"
        f" <code>{page.text(corpus['fingerprint'][:16])}</code>. The parts share no document: train"
        " feeds the models, outer guides the rater, validation chose its checkpoint and the discard"
        " fraction, and test was used for nothing but what is reported.</p>"
        + page.table("Parts by a hash of the document's content.",
                     ("part", "windows", "unique tokens", "sources", "damage"), rows)
    )  # fmt: skip
