"""`report.html`: one page, no network, that a reader who did not run the study can follow.

A page is made of *sections*, functions from `Results` to a heading and *blocks* (the dataclasses
below: paragraphs, tables, figures ...). They are registered by name and place:

    @section("lengths", place=65)
    def lengths(results: Results) -> Section | None:
        return Section("How long is what it keeps?", [Paragraph("...")])

Every report has every section that has something to say of its results; None says nothing. The
order is that of a reader's questions: the answer in one sentence and one picture; the figures
behind it; what was compared, on what, and what it cost; then how the rater scores, how it was
trained, and what it rates lowest and highest. Sections hold no HTML: `templates/page.html` does,
and escapes whatever they give it.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import importlib
import itertools
import os
import pathlib
import pkgutil
from typing import TYPE_CHECKING

from dr_keras.errors import ConfigurationError, DataError
from dr_keras.report import sections as sections_folder
from dr_keras.studies.results import Picture, Results
from dr_keras.system import whole_files
import gin

if TYPE_CHECKING:
    import matplotlib.figure

_TEMPLATES = pathlib.Path(__file__).parent / "templates"
DASH = "–"


class Block:
    """A part of a section; the page's template has a branch for each kind."""

    @property
    def kind(self) -> str:
        """As the template calls it."""
        return type(self).__name__.lower()


@dataclasses.dataclass(frozen=True)
class Answer(Block):
    """The verdict, stressed."""

    outcome: str
    text: str
    figures: str
    recommendation: str | None = None


@dataclasses.dataclass(frozen=True)
class Paragraph(Block):
    """Prose; a note is shown softer."""

    text: str
    note: bool = False


@dataclasses.dataclass(frozen=True)
class Heading(Block):
    """Of a part of a section."""

    text: str


@dataclasses.dataclass(frozen=True)
class Table(Block):
    """Cells of text under a head, with a caption; None is shown as a dash.

    Attributes:
      wide: columns of prose.
      candidate: first cell of the row to stress.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | None]]
    wide: Sequence[str] = ()
    candidate: str | None = None

    @classmethod
    def of(
        cls,
        caption: str,
        rows: Sequence[Mapping[str, str | None]],
        wide: Sequence[str] = (),
        candidate: str | None = None,
    ) -> "Table":
        """From rows of head -> cell, all with the same heads; a column of None is left out."""
        head = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        return cls(caption, head, [[row[name] for name in head] for row in rows], wide, candidate)

    def as_text(self) -> str:
        """For a terminal: columns of one width each, without those of prose."""
        kept = [k for k, name in enumerate(self.head) if name not in self.wide]
        lines = [
            [DASH if row[k] is None else row[k] for k in kept] for row in (self.head, *self.rows)
        ]
        widths = [max(map(len, column)) for column in zip(*lines)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
            for line in lines
        )


@dataclasses.dataclass(frozen=True)
class Figure(Block):
    """A drawing.

    Attributes:
      draw: makes it; called when the page is written, so that matplotlib is imported no earlier.
      description: what it shows, for readers who do not see it.
      caption: below it.
    """

    draw: Callable[[], "matplotlib.figure.Figure"]
    description: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Photograph(Block):
    """A PNG that lies beside results.json."""

    picture: Picture


@dataclasses.dataclass(frozen=True)
class Example(Block):
    """A text of the corpus, with what is known of it above."""

    facts: str
    text: str


@dataclasses.dataclass(frozen=True)
class Folded(Block):
    """Blocks that open on a click."""

    summary: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading (or none) and what is below it."""

    title: str | None
    blocks: Sequence[Block]


Maker = Callable[[Results], Section | None]
_MAKERS: dict[str, tuple[float, Maker]] = {}


def section(name: str, place: float) -> Callable[[Maker], Maker]:
    """Registers a function as the section of that name.

    Args:
      name: as in `write_report.sections`.
      place: sections are shown by rising place; those of dr_keras are multiples of 10.

    Raises:
      ConfigurationError: another function has the name.
    """

    def register(maker: Maker) -> Maker:
        if name in _MAKERS:
            raise ConfigurationError(
                f"two sections of the report are called {name!r}: give yours another name."
            )
        _MAKERS[name] = (place, maker)
        return maker

    return register


def _makers(names: Sequence[str] | None) -> list[Maker]:
    for module in pkgutil.iter_modules(sections_folder.__path__):
        importlib.import_module(f"{sections_folder.__name__}.{module.name}")
    known = sorted(_MAKERS, key=lambda name: _MAKERS[name][0])
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise ConfigurationError(
            f"write_report.sections: there is no section {unknown[0]!r}; there are"
            f" {', '.join(known)}."
        )
    return [_MAKERS[name][1] for name in (known if names is None else names)]


def render(
    results: Results, folder: str | os.PathLike = ".", sections: Sequence[str] | None = None
) -> str:
    """The page as text.

    Args:
      results: what is shown.
      folder: of the pictures that the results name.
      sections: names, in the order of the page; None shows all that there are.

    Raises:
      ConfigurationError: a section that does not exist.
      DataError: a picture is missing.
    """
    made = [maker(results) for maker in _makers(sections)]
    kept = [one for one in made if one is not None and one.blocks]
    return render_sections(results.title, kept, folder)


def render_sections(
    title: str, sections: Sequence[Section], folder: str | os.PathLike = "."
) -> str:
    """A page of these sections as text; `folder` is of the pictures that they name."""
    import jinja2
    import markupsafe

    from dr_keras.report import plots

    numbers = itertools.count()

    def svg(block: Figure) -> markupsafe.Markup:
        prefix = f"figure{next(numbers)}"
        return markupsafe.Markup(plots.to_svg(block.draw(), block.description, prefix))

    def png(file: str) -> str:
        try:
            content = (pathlib.Path(folder) / file).read_bytes()
        except OSError as error:
            raise DataError(f"{folder}/{file}, a picture of the report, cannot be read") from error
        return "data:image/png;base64," + base64.b64encode(content).decode()

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        title=title, sections=sections, dash=DASH, svg=svg, png=png
    )
    return page.lstrip() + "\n"


@gin.configurable(allowlist=["sections"])
def write_report(
    results: Results, path: str | os.PathLike, sections: Sequence[str] | None = None
) -> None:
    """Writes report.html, whole; arguments and errors as for `render`."""
    path = pathlib.Path(path)
    # Text from a wrong decoding may hold lone surrogates, which UTF-8 cannot.
    whole_files.write_text(path, render(results, path.parent, sections), errors="replace")


# How figures are written.


def number(value: float | None, digits: int = 3) -> str | None:
    """A number with commas, None for None."""
    return None if value is None else f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def flops(value: float | None) -> str | None:
    """A number of operations in a readable unit, None for None."""
    if value is None:
        return None
    for unit, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= unit:
            return f"{value / unit:.3g} {name}FLOP"
    return f"{value:.0f} FLOP"


def shares(counts: Mapping[str, int]) -> str | None:
    """The largest eight of some counts as percentages, None for none."""
    total = sum(counts.values())
    if not total:
        return None
    largest = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{spaced(name)} {100 * count / total:.0f}%" for name, count in largest[:8]]
    return ", ".join(shown) + (f" and {len(largest) - 8} more" if len(largest) > 8 else "")


def spaced(name: str) -> str:
    """A name of the code as words."""
    return name.replace("_", " ")


def plural(number: int, thing: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
