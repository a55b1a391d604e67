"""Wins, ties and losses of the candidate: in one study, and in one table of several.

A *cell* is a figure of the candidate against that of one rival at one size: (size, rival), and for
tasks (size, rival, task). It is won where the candidate is better, lost where it is worse, and tied
where the paired difference does not tell (`paired.difference`). Of many cells some are won or
lost by chance alone; how many is said with every count.

    Scoreboard.of({"abstracts": results, ...}).markdown()

puts several studies, such as one for each target, into one table.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import statistics
from typing import TYPE_CHECKING

from dr_keras.studies.paired import false_calls
from dr_keras.studies.sizes import LOSS, Difference, Protocol, Size, Tally, percent

if TYPE_CHECKING:
    from dr_keras.studies.results import Results

# Arms that no one would train by: what the rater scores lowest, and what knows the damage.
NO_RIVALS = ("rater_inverted", "least_damaged", "ceiling")
# Metrics that are counted beside the one that judges: how a name begins or ends -> heading.
_COUNTED = {"loss on ": "loss on other corpora", " accuracy": "accuracy of tasks"}
_COUNTED[" likelihood"] = "likelihood of the right answer"


def rivals(arms: Iterable[str], protocol: Protocol) -> list[str]:
    """The arms that the candidate competes with, the reference first.

    An arm that drops another share than the candidate's, where names say the share ("random 10%"),
    is none.
    """
    share = protocol.candidate.split()[1:]
    found = [
        name
        for name in arms
        if name not in (protocol.candidate, protocol.reference)
        and name.split()[0] not in NO_RIVALS
        and (name.split()[1:] == share or not share)
    ]
    return [protocol.reference, *found]


def tally(differences: Iterable[Difference]) -> Tally:
    """Counts of some cells."""
    known = list(differences)
    counts = {o: sum(d.outcome == o for d in known) for o in ("better", "undecided", "worse")}
    return Tally(**counts, by_chance=sum(false_calls(d.pairs) for d in known))


def tallies(sizes: Sequence[Size], protocol: Protocol) -> dict[str, Tally]:
    """Figure -> wins, ties and losses over all sizes and rivals; the judging metric comes first."""
    groups: dict[str, list[Difference]] = {protocol.metric: []}
    for size in sizes:
        named = rivals(size.arms, protocol)
        arm = size.arms[protocol.candidate]
        figures = [(protocol.metric, arm.judged(protocol.metric))]
        for name, figure in arm.metrics.items():
            heading = next((h for part, h in _COUNTED.items() if part in name), None)
            if heading and name != protocol.metric:
                figures.append((heading, figure))
        for heading, figure in figures:
            found = [figure.against[name] for name in named if name in figure.against]
            groups.setdefault(heading, []).extend(found)
    return {heading: tally(found) for heading, found in groups.items() if found}


@dataclasses.dataclass(frozen=True)
class Improvement:
    """A figure of the candidate against the reference's, at one size.

    Attributes:
      size: of the model.
      name: of the figure; the judging metric, or another of which it is known what is better.
      difference: candidate minus reference.
      gain: the difference with the sign that makes more of it better.
    """

    size: str
    name: str
    difference: Difference
    gain: float


def improvements(results: "Results") -> list[Improvement]:
    """The cells that Calian et al. (2025) count (figure 6): every size and figure, test loss first.

    Figures that chose something (the validation part, a sweep) are none.
    """
    protocol, found = results.protocol, []
    for size in results.sizes:
        arm = size.arms[protocol.candidate]
        figures = {LOSS: arm.final, **arm.metrics}
        if protocol.metric in figures:
            figures = {protocol.metric: figures.pop(protocol.metric), **figures}
        for name, figure in figures.items():
            known = name == LOSS or figure.higher_is_better is not None
            if not known or name == "validation loss" or protocol.reference not in figure.against:
                continue
            difference = figure.against[protocol.reference]
            sign = 1.0 if figure.higher_is_better else -1.0
            found.append(Improvement(size.name, name, difference, sign * difference.difference))
    return found


@dataclasses.dataclass(frozen=True)
class Row:
    """One cell of a table of studies.

    Attributes:
      study: as the caller named it, such as its target.
      size: of the model.
      rival: of the candidate.
      difference: of the judging metric, candidate minus rival.
      flops_share: operations, scoring included, to the reference's final loss as a share of its
        run; None where it is never reached or costs were not counted.
    """

    study: str
    size: str
    rival: str
    difference: Difference
    flops_share: float | None


@dataclasses.dataclass(frozen=True)
class Scoreboard:
    """The cells of several studies.

    Attributes:
      rows: study by study, size by size.
      losses: size -> arm -> study -> the judging metric, and in brackets steps and operations to
        the reference's final loss as shares of its run.
    """

    rows: Sequence[Row]
    losses: Mapping[str, Mapping[str, Mapping[str, str]]]

    @classmethod
    def of(cls, studies: Mapping[str, "Results"]) -> "Scoreboard":
        """From the results of studies by name."""
        rows = [row for name, results in studies.items() for row in _rows(name, results)]
        return cls(rows, _losses(studies))

    def tally(self, rival: str | None = None, study: str | None = None) -> Tally:
        """Wins, ties and losses against a rival, in a study; None is all of them."""
        return tally(
            row.difference
            for row in self.rows
            if (rival is None or row.rival == rival) and (study is None or row.study == study)
        )

    def markdown(self, digits: int = 3) -> str:
        """Losses of all arms, the cells, and wins, ties and losses by rival and by study."""
        cells = [
            (
                row.study,
                row.size,
                row.rival,
                row.difference.shown(digits),
                str(row.difference.pairs),
                row.difference.outcome,
                percent(row.flops_share) if row.flops_share is not None else "–",
            )
            for row in self.rows
        ]
        parts = []
        for size, arms in self.losses.items():
            names = list(dict.fromkeys(study for found in arms.values() for study in found))
            lines = [(a, *(found.get(n, "–") for n in names)) for a, found in arms.items()]
            parts.append(_table((size, *names), lines))
        head = ("study", "size", "rival", "difference ± standard error", "seeds", "outcome")
        parts.append(_table((*head, "FLOPs to match"), cells))
        for heading, key in (("rival", "rival"), ("study", "study")):
            names = list(dict.fromkeys(getattr(row, key) for row in self.rows))
            counts = {name: self.tally(**{key: name}) for name in names}
            if heading == "study":
                counts["all"] = self.tally()
            lines = [(n, *map(str, (c.better, c.undecided, c.worse))) for n, c in counts.items()]
            parts.append(_table((heading, "won", "tied", "lost"), lines))
        parts.append(f"All cells: {self.tally().shown()}.")
        return "\n\n".join(parts) + "\n"


def cells(results: "Results") -> Iterator[tuple[Size, str, Difference]]:
    """(size, rival, difference of the judging metric) of every cell of a study."""
    protocol = results.protocol
    for size in results.sizes:
        against = size.arms[protocol.candidate].judged(protocol.metric).against
        for rival in rivals(size.arms, protocol):
            if rival in against:
                yield size, rival, against[rival]


def _rows(study: str, results: "Results") -> Iterator[Row]:
    for size, rival, difference in cells(results):
        account = size.arms[results.protocol.candidate].account
        share = None if account is None else account.flops_share
        yield Row(study, size.name, rival, difference, share)


def _losses(studies: Mapping[str, "Results"]) -> dict[str, dict[str, dict[str, str]]]:
    """See `Scoreboard.losses`; the best arm, by its mean distance to the reference, first."""
    shown: dict[str, dict[str, dict[str, str]]] = {}
    gaps: dict[str, dict[str, list[float]]] = {}
    for study, results in studies.items():
        protocol = results.protocol
        for size in results.sizes:
            reference = size.arms[protocol.reference].judged(protocol.metric).mean
            for name, arm in size.arms.items():
                figure, account = arm.judged(protocol.metric), arm.account
                text = figure.shown()
                if account is not None and account.flops_share is not None:
                    steps = percent(account.steps_share).removesuffix("%")
                    text += f" ({steps} / {percent(account.flops_share)})"
                shown.setdefault(size.name, {}).setdefault(name, {})[study] = text
                found = gaps.setdefault(size.name, {}).setdefault(name, [])
                found.append((reference - figure.mean) * (1 if figure.higher_is_better else -1))
    for size_name, arms in shown.items():
        ranked = sorted(arms, key=lambda arm: statistics.fmean(gaps[size_name][arm]))
        shown[size_name] = {arm: arms[arm] for arm in ranked}
    return shown


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
