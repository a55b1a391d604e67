import ast
import dataclasses
from html.parser import HTMLParser
import pathlib
import re
import xml.etree.ElementTree as ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import study

from dr_keras.errors import ConfigurationError, DataError
from dr_keras.report import learned_plots, meta_plots, page, plots
from dr_keras.report.sections import arms
from dr_keras.studies import findings
from dr_keras.studies.results import Picture

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks nesting; keeps tags, attributes and visible text."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


MARKUP = "<b>&amp;</pre><script>"


def found() -> dict:
    """Findings with damage, curves of meta-training and extremes."""
    example = {
        "id": "n#0",
        "source": "numpy",
        "score": -2.0,
        "percentile": 0.002,
        "level": 0.8,
        "damage": "random_characters",
        "text": "Rq8tu}n th3",
    }
    return {
        "scores": findings.scores_by_damage(*study.scored()),
        "meta_curves": {
            "outer loss": {"mean over members": [[s, 3 - s / 300] for s in range(200)]},
            "meta-evaluation": {"with the rater": [[0, 3.0], [9, 2.5]], "random": [[0, 3.0]]},
        },
        "extremes": {"Lowest rated": [example], "Highest rated": [example | {"level": 0.0}]},
    }


@pytest.fixture(scope="module")
def html():
    return page.render(study.results(findings=found()))


def words(html: str) -> str:
    return " ".join(" ".join(Page(html).text).split())


def test_answer_comes_first_and_figures_are_there(html):
    text, results = words(html), study.results()
    assert text.index(results.answer.text) < text.index("unique tokens")
    assert results.answer.outcome == "better"
    assert results.sizes[0].arms["rater"].final.shown() in text
    assert f"{results.rater.quality.auc:.3f}" in text
    assert "percentile 0.2" in text and "random characters, level 0.80" in text
    for part in ("812,000", "meta train", "92 s", "3.7 min in all"):
        assert part in text
    assert "numpy 36%" in text
    order = ["Arms and", "Does the score", "How the rater was", "What it rates", "The corpus"]
    places = [text.index(part) for part in [*order, "What it cost", "Settings and versions"]]
    assert places == sorted(places)


def test_the_page_needs_nothing_from_outside(html):
    parsed = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "iframe", "img"} & set(parsed.tags)
    for name, value in parsed.attributes:
        if name in ("src", "href", "xlink:href", "data"):
            assert value.startswith(("#", "data:")), (name, value)
    for target in re.findall(r"url\(([^)]*)\)", html):
        assert target.startswith("#")


def test_figures_are_sound_svg_with_a_description(html):
    figures = re.findall(r"<svg.*?</svg>", html, flags=re.S)
    assert len(figures) == 5  # answer, every seed, histogram, levels, meta-training
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.get("role") == "img" and len(root.get("aria-label")) > 20
        assert root.get("width") is None and root.get("viewBox")
    identifiers = re.findall(r'\bid="([^"]+)"', html)
    assert len(identifiers) == len(set(identifiers))
    referred = set(re.findall(r'href="#([^"]+)"', html)) | set(re.findall(r"url\(#([^)]+)\)", html))
    assert referred <= set(identifiers)
    assert "currentColor" in html and "#010203" not in html


def test_the_same_results_give_the_same_page(html):
    strip = lambda text: re.sub(r"Written [^<]*", "", text)  # noqa: E731
    assert strip(page.render(study.results(findings=found()))) == strip(html)


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet=st.characters(codec=None), max_size=60))
def test_example_text_never_becomes_markup(text):
    results = study.results(findings={"extremes": {"Lowest rated": [{"text": text + MARKUP}]}})
    parsed = Page(page.render(results, sections=["extremes"]))
    assert "script" not in parsed.tags and "b" not in parsed.tags
    assert MARKUP in "".join(parsed.text)


def test_markup_in_names_and_texts_is_escaped(tmp_path):
    """Of sources, corpora, settings, titles, ids, kinds of damage and everything else."""
    name = "<script>alert(1)</script>"
    formula = r"$\frac$"  # what matplotlib would fail to read
    cells = {
        arm: {
            seed: study.cell(curve, final_by_source={name: 2.0, formula: 3.0})
            for seed, curve in by_seed.items()
        }
        for arm, by_seed in study.curves(
            {"unfiltered": 2.3, "rater": 2.2, "random": 2.3, formula: 2.4}
        ).items()
    }
    size = study.size(cells, name=name)
    scores, levels, kinds = study.scored(100)
    kinds[levels > 0] = formula
    drawn = findings.of_scores(scores, [name, formula] * 50, levels, kinds)
    extremes = {
        name: [{"text": "\ud800", "source": name, "id": name, "level": 1.0, "damage": name}]
    }
    results = study.results(
        title=name,
        sizes=[size, size],
        settings={name: "</main>"},
        findings=drawn | {"extremes": extremes},
        corpus={
            "name": name,
            "fingerprint": name,
            "parts": {name: {"examples": 1, "unique_tokens": 2, "by_source": {name: 1}}},
        },
        stages={name: {"seconds": 1.0, "peak_memory_bytes": 1}},
    )
    page.write_report(results, tmp_path / "report.html")
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "script" not in Page(written).tags
    assert written.count("&lt;script&gt;alert(1)") > 12
    assert written.count(formula) > 8  # in tables and in figures
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_without_findings_their_sections_are_left_out():
    quality = {"auc": None, "auc_all": None, "spearman": None, "reason": "no damage is known"}
    rater = {"parameters": 1, "fingerprint": "f", "quality": quality}
    html = page.render(study.results(rater=rater))
    assert html.count("<svg") == 2
    assert "How the rater was trained" not in html and "What it rates" not in html
    assert "no damage is known" in html and ">Compute<" not in html


def test_every_study_has_every_section_that_has_something_to_say():
    evidence = words(page.render(study.evidence(findings=found())))
    for part in (
        "Recommendation: At 30k, filtering saves",
        "How much to drop",
        "were trained from random weights with 3 to 5 seeds",
        "Counted are the products",
        "meta-training 1 TFLOP",
        "Test loss: rater is better in 5 of 5, worse in 0 (by chance alone 0.4 better and 0.4",
        "30k heuristics c4 -0.110 ± 0.002 5 better",
        "With 3 seeds two arms that do not differ are called better or worse in 18 of 100 cells",
        "unfiltered 50% (200) 50.0% 2.200 ± 0.000",
        "bits per byte",
        "toy accuracy (chance 50.0%)",
        "Questions, chosen by hash: toy 6 of 8",
        "Budgets differ: 30k: more.",
        "Does the score follow",
        "100k: 124,800 parameters",
    ):
        assert part in evidence, part
    retraining = words(page.render(study.retraining(findings=found())))
    assert "Test accuracy: rater 50% 0.9100 ± 0.0100" in retraining
    assert "How the rater was trained" in retraining and "Compute" not in retraining


def test_why_this_checkpoint_is_the_rater():
    rater = study.results().rater
    assert "of meta-step 60: lowest loss." in words(page.render(study.results(rater=rater)))


def test_a_random_arm_that_is_the_reference_is_named():
    given = study.protocol(same_as_unfiltered=[("30k", "random")])
    text = words(page.render(study.results(protocol=given)))
    assert "30k, random: chosen at random in oversized batches of a single pass, this arm" in text


HEALTH = {
    "panels": {
        "sets": {"books": [[1, 3.0], [9, 2.5]], "a name " * 9: [[1, 3.0], [9, 2.9]]},
        "signal": {
            "across members": [[k, 0.1 * k] for k in range(8)],
            "over steps": [[k, -0.01] for k in range(2, 8)],
        },
        "update": {"outer update": [[1, 0.0], [9, 0.02]]},
        "length": {"score and length": [[5, 0.5], [9, 0.83]]},
        "spread": {"within a batch": [[5, 0.1], [9, 1.0]]},
        "sources": {"stdlib": [[9, 0.5]], "$x$ & <b>": [[9, -0.5]]},
    },
    "members": 4,
    "warnings": ["scores follow length (rank correlation 0.83): so & so."],
}


def test_what_meta_training_logged_of_itself_is_told():
    results = study.results(findings=found() | {"meta_health": HEALTH})
    html = page.render(results, sections=["meta_training", "meta_health"])
    text = words(html)
    assert text.index("How the rater was trained") < text.index("Can the meta-training be trusted?")
    assert "At the end of meta-training scores follow length (rank correlation 0.83)" in text
    # The first and the last two of eight.
    assert "signal-to-noise across members 0.05 0.65 how far members agree" in text
    assert "The mean of 4 members moves it, with 4 times this ratio" in text
    assert "rank correlation with length 0.5 0.83" in text
    assert "of which between sources" not in text  # not logged
    assert html.count("<svg") == 4
    only = study.results(findings={"meta_health": HEALTH | {"panels": {}, "warnings": []}})
    assert "trusted" not in words(page.render(only, sections=["meta_health"]))


def test_panels_of_meta_training_show_where_chance_is():
    axes = meta_plots.health_panels(HEALTH["panels"]).axes
    titles = [one.get_title() for one in axes]
    assert titles == list(meta_plots.TITLES.values())
    heights = {
        title: {line.get_ydata()[0] for line in one.lines} for title, one in zip(titles, axes)
    }
    assert 0 in heights[meta_plots.TITLES["signal"]]
    assert {-0.7, 0, 0.7} <= heights[meta_plots.TITLES["length"]]
    names = meta_plots.named_curves(HEALTH["panels"]["sets"], "outer loss").axes[0].texts
    assert [text.get_text()[:6] for text in names] == ["books", "a name"]
    assert max(len(text.get_text()) for text in names) <= 24


@pytest.mark.parametrize(
    "final, outcome",
    [
        ({"unfiltered": 2.2, "random": 2.2, "rater": 2.5}, "worse"),
        ({"unfiltered": 2.2, "random": 2.2, "rater": 2.2}, "undecided"),
    ],
)
def test_unwelcome_answers_are_said_as_plainly(final, outcome):
    html = page.render(study.results(final))
    assert f'class="answer {outcome}"' in html
    if outcome == "worse":
        assert "did not help" in html and "not reached" in html


def test_pictures_beside_the_results_are_in_the_page(tmp_path):
    picture = Picture("A heading", "A caption", "A description", "plots/one.png")
    results = study.results(pictures=[picture])
    with pytest.raises(DataError, match="plots/one.png, a picture of the report, cannot be read"):
        page.render(results, tmp_path)
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "one.png").write_bytes(b"content")
    html = page.render(results, tmp_path, ["pictures"])
    assert "A heading" in html and 'alt="A description"' in html
    assert "data:image/png;base64,Y29udGVudA==" in html


def test_a_section_of_ones_own_is_shown_in_every_study(monkeypatch):
    monkeypatch.setattr(page, "_MAKERS", dict(page._MAKERS))

    @page.section("seeds", place=35)
    def seeds(results):
        return page.Section("Seeds", [page.Paragraph(f"{len(results.protocol.seeds)} of <them>")])

    for results in (study.results(), study.retraining()):
        text = words(page.render(results))
        assert text.index("Arms and metrics") < text.index("3 of <them>") < text.index("The corpus")
    with pytest.raises(ConfigurationError, match="two sections of the report are called 'seeds'"):
        page.section("seeds", place=1)(seeds)
    with pytest.raises(ConfigurationError, match="no section 'seed'; there are answer, protocol"):
        page.render(study.results(), sections=["answer", "seed"])
    only = words(page.render(study.results(), sections=["seeds"]))
    assert "3 of" in only and "Arms and metrics" not in only


def test_the_arms_for_a_terminal():
    text = arms.as_text(study.results())
    head, *lines = text.splitlines()
    assert head.split()[:4] == ["arm", "dropped", "test", "loss"] and len(lines) == 5
    assert lines[2].startswith("rater ") and lines[2].endswith("%")
    assert len({len(line) for line in (head, lines[2])}) == 1
    both = arms.as_text(study.evidence(protocol=study.protocol(same_as_unfiltered=[("9k", "x")])))
    assert both.count("FLOPs to match") == 2
    assert "9k, x: on a single pass this is the unfiltered arm; not run" in both


def test_how_scores_follow_damage_is_told_on_the_terminal_where_it_is_known():
    found = study.results()
    quality = dataclasses.replace(
        found.rater.quality, auc=0.75, auc_all=0.5, spearman=-0.25, minimum_level=0.2
    )
    known = dataclasses.replace(found, rater=dataclasses.replace(found.rater, quality=quality))
    assert arms.as_text(known).endswith(
        "AUC of clean against damaged 0.750 (level at least 0.2), 0.500 (all);"
        " rank correlation with the level -0.25"
    )
    unknown = dataclasses.replace(quality, auc=None, reason="nothing is known to be damaged")
    silent = dataclasses.replace(found, rater=dataclasses.replace(found.rater, quality=unknown))
    assert "AUC" not in arms.as_text(silent)


def test_groups_of_scores_are_named_with_their_numbers():
    scores = findings.scores_by_damage([0.0] * 5, [0, 0, 0, float("nan"), 0.5], [None] * 5)
    figure = learned_plots.score_histogram(scores)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["clean (3)", "damaged (1)", "level unknown (1)"]
    assert figure.axes[0].patches


def test_curves_cut_the_first_steps_and_mark_the_match():
    size = study.results().sizes[0]
    axes = plots.loss_curves(size, study.protocol()).axes[0]
    low, high = axes.get_ylim()
    assert low < 2.18 and 2.4 < high < 4.5
    match = size.arms["rater"].match
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert dots[0].get_xdata()[0] == match.steps
    assert any("(%.0f%%)" % (100 * match.share) in t.get_text() for t in axes.texts)


def test_what_only_a_report_needs_is_imported_when_one_is_written():
    """Every module of dr_keras is imported for its gin bindings, on machines without these."""
    for path in pathlib.Path(page.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [getattr(node, "module", None) or node.names[0].name]
                assert names[0].split(".")[0] not in ("matplotlib", "jinja2", "markupsafe"), path
