from html.parser import HTMLParser
import re
import xml.etree.ElementTree as ElementTree

import former_study as study
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.errors import DataError
from dr_keras.report import plots
from dr_keras.report import quickstart_report as report

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


def whole_report() -> str:
    scores, levels, kinds = study.scored()
    example = {
        "id": "n#0",
        "source": "numpy",
        "score": -2.0,
        "percentile": 0.002,
        "level": 0.8,
        "damage": "random_characters",
        "text": "Rq8tu}n th3",
    }
    return report.render_report(
        study.results(),
        scored=report.ScoredExamples(scores, levels, kinds),
        meta_curves=study.panels(),
        examples={"Lowest rated": [example], "Highest rated": [example | {"level": 0.0}]},
    )


@pytest.fixture(scope="module")
def page():
    return whole_report()


def test_answer_comes_first_and_figures_are_there(page):
    text = " ".join(" ".join(Page(page).text).split())
    results = study.results()
    assert text.index(results["headline"]["text"]) < text.index("unique tokens")
    assert results["headline"]["outcome"] == "better"
    final = results["comparisons"][0]["arms"]["rater"]["final"]
    assert f"{final['mean']:.3f} ± {final['spread']:.3f}" in text
    assert f"{results['rater']['auc']:.3f}" in text
    assert "percentile 0.2" in text and "random characters, level 0.80" in text
    for words in ("812,000", "meta train", "92 s", "3.7 min in all"):
        assert words in text
    assert "numpy 36%" in text
    order = ["Does the score", "How the rater was trained", "What it rates", "The corpus", "cost"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_the_page_needs_nothing_from_outside(page):
    parsed = Page(page)
    assert not {"script", "link", "iframe", "img"} & set(parsed.tags)
    for name, value in parsed.attributes:
        if name in ("src", "href", "xlink:href", "data"):
            assert value.startswith(("#", "data:")), (name, value)
    for target in re.findall(r"url\(([^)]*)\)", page):
        assert target.startswith("#")


def test_figures_are_sound_svg_with_a_description(page):
    figures = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(figures) == 5  # answer, every seed, histogram, levels, meta-training
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.get("role") == "img" and len(root.get("aria-label")) > 20
        assert root.get("width") is None and root.get("viewBox")
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    referred = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert referred <= set(identifiers)
    assert "currentColor" in page and "#010203" not in page


def test_the_same_results_give_the_same_page(page):
    strip = lambda text: re.sub(r"Written [^<]*", "", text)  # noqa: E731
    assert strip(whole_report()) == strip(page)


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet=st.characters(codec=None), max_size=60))
def test_example_text_never_becomes_markup(text):
    shown = report.extremes_section({"Lowest rated": [{"text": text + "<b>&amp;</pre><script>"}]})
    parsed = Page(shown)
    assert "script" not in parsed.tags and "b" not in parsed.tags
    assert "<b>&amp;</pre><script>" in "".join(parsed.text)


def test_markup_in_names_and_titles_is_escaped(tmp_path):
    results = study.results(title="<script>alert(1)</script>", settings={"<i>": "</main>"})
    lone_surrogate = {"x": [{"text": "\ud800"}]}
    path = report.write_report(results, tmp_path / "report.html", examples=lone_surrogate)
    page = path.read_text(encoding="utf-8")
    assert "script" not in Page(page).tags
    assert "&lt;script&gt;alert(1)" in page
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_without_extras_the_sections_are_left_out():
    page = report.render_report(study.results(rater={"reason": "no damage is known"}))
    assert page.count("<svg") == 2
    assert "How the rater was trained" not in page and "What it rates" not in page
    assert "no damage is known" in page
    with pytest.raises(DataError, match="schema_version"):
        report.render_report({})


@pytest.mark.parametrize(
    "final, outcome",
    [
        ({"unfiltered": 2.2, "random": 2.2, "rater": 2.5}, "worse"),
        ({"unfiltered": 2.2, "random": 2.2, "rater": 2.2}, "undecided"),
    ],
)
def test_unwelcome_answers_are_said_as_plainly(final, outcome):
    page = report.render_report(study.results(final))
    assert f'class="answer {outcome}"' in page
    if outcome == "worse":
        assert "did not help" in page and "not reached" in page


def test_scores_without_damage_or_spread_are_drawn():
    same = np.zeros(5)
    figure = plots.score_histogram(same, np.array([0, 0, 0, np.nan, 0.5]))
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["clean (3)", "damaged (1)", "level unknown (1)"]
    assert figure.axes[0].patches


def test_curves_cut_the_first_steps_and_mark_the_match():
    comparison = study.results()["comparisons"][0]
    axes = plots.loss_curves(comparison).axes[0]
    low, high = axes.get_ylim()
    assert low < 2.18 and 2.4 < high < 4.5
    match = comparison["arms"]["rater"]["match"]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert dots[0].get_xdata()[0] == match["steps"]
    assert any("(%.0f%%)" % (100 * match["share"]) in t.get_text() for t in axes.texts)


def test_running_median_follows_the_points():
    x = np.linspace(0, 1, 80)
    middle, median = plots._running_median(x[::-1], -2 * x[::-1])
    np.testing.assert_allclose(median, -2 * middle, atol=1e-9)
    assert len(middle) == 8
