"""The rules of C4 and Gopher beside those of datatrove, where that is installed.

Both read the same papers and count in other units: datatrove finds words and sentences with spaCy
and Punkt, divides by the characters of the whole text, blanks included, and cuts lines from pages
where we measure how much would be cut. Here datatrove is given our words and sentences, so that
what is left are the rules themselves; where two readings of a sentence stay apart, the test says
which way.
"""

import ast
import importlib
import inspect
import pydoc_data.topics
import re

import pytest

from dr_keras.baselines.published_rules import C4_RULES, GOPHER_RULES
from dr_keras.baselines.rules import Text, count_sentences

pytestmark = pytest.mark.long
filters = pytest.importorskip(
    "datatrove.pipeline.filters", reason="datatrove is absent (pip install datatrove)"
)
from datatrove.data import Document  # noqa: E402
from datatrove.pipeline.filters import c4_filters, gopher_quality_filter, gopher_repetition_filter  # noqa: E402

WORDS = " ".join(f"w{chr(97 + k // 26)}{chr(97 + k % 26)} the" for k in range(120))
MADE_UP = [
    "# one two three # four five six",
    "well ... so ... and so on ... " + WORDS,
    "\n".join(["- one thing and another"] * 30 + ["the end of it"]),
    "\n".join(f"{word} and more..." for word in WORDS.split()),
    "1 2 3 4 5 6 7 8 9 " * 20 + WORDS,
    "\n".join(["the same line again and again"] * 9 + [WORDS]),
    "\n\n".join(["the same paragraph of words"] * 30 + [WORDS]),
    "spam spam spam " * 40,
    "of all the words that are here these ten come back. " * 12 + WORDS,
    "a bb c dd e ff " * 30,
    "incomprehensibilities " * 60,
    "lorem ipsum dolor " + WORDS,
    "if (x) { y(); } " + WORDS,
    "Please enable JavaScript to go on.\nA line of ordinary text that ends.\n" + WORDS,
    "By using this site you accept our terms of use.\nOne. Two. Three.",
    "Home\nAbout us\nThis line has more than five words.\nTo be continued...",
    WORDS + ".",
]


def documents():
    """The help of Python, docstrings and source, with lists and repetition, and made-up pages."""
    texts = [*MADE_UP, *pydoc_data.topics.topics.values()]
    for name in ("argparse", "ast", "csv", "inspect", "logging", "turtle", "typing", "uuid"):
        source = inspect.getsource(importlib.import_module(name))
        texts.append(source)
        kinds = (ast.FunctionDef, ast.ClassDef, ast.Module)
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
        texts += [ast.get_docstring(node) or "" for node in nodes]
    # Blanks around lines are no part of them here, and are for datatrove.
    texts = ["\n".join(line.strip() for line in text.strip().splitlines()) for text in texts]
    return [re.sub(r"\n{3,}", "\n\n", text) for text in texts if len(text.split()) > 3]


TEXTS = documents()


@pytest.fixture
def units(monkeypatch):
    """datatrove counts words as `how(text)` does."""

    def give(how):
        for module in (gopher_quality_filter, gopher_repetition_filter):
            monkeypatch.setattr(module, "split_into_words", lambda text, language: how(text))

    monkeypatch.setattr(
        c4_filters, "split_into_sentences", lambda line, language: [line] * count_sentences(line)
    )
    give(lambda text: Text(text).words)
    return give


def dropped(build, **settings) -> list[bool]:
    """What datatrove drops with no rule but those of `settings`."""
    names = [name for name in inspect.signature(build.__init__).parameters if "_" in name]
    off = {name: None for name in names if name not in ("exclusion_writer", "stop_words")}
    if "top_n_grams" in off:
        off |= {"top_n_grams": (), "dup_n_grams": ()}
    chosen = build(**off | settings)
    return [chosen.filter(Document(text=text, id="x")) is not True for text in TEXTS]


def broken(*names: str) -> list[bool]:
    rules = [{**C4_RULES, **GOPHER_RULES}[name] for name in names]
    return [any(rule.broken(Text(text)) for rule in rules) for text in TEXTS]


def apart(theirs, ours) -> tuple[int, int]:
    """How many texts only datatrove drops, and how many only we do."""
    assert any(theirs) and any(ours) and not all(theirs) and not all(ours)
    both = list(zip(theirs, ours))
    return sum(t and not o for t, o in both), sum(o and not t for t, o in both)


def test_there_is_enough_text():
    assert len(TEXTS) > 300


@pytest.mark.parametrize(
    "settings, names",
    [
        ({"min_doc_words": 50, "max_doc_words": 100_000}, ["gopher_word_count"]),
        ({"min_avg_word_length": 3, "max_avg_word_length": 10}, ["gopher_word_length"]),
    ],
)
def test_gopher_words_agree(units, settings, names):
    assert apart(dropped(filters.GopherQualityFilter, **settings), broken(*names)) == (0, 0)


def test_gopher_alphabetic_words_agree_where_words_are_what_blanks_part(units):
    units(str.split)
    theirs = dropped(filters.GopherQualityFilter, max_non_alpha_words_ratio=0.8)
    assert apart(theirs, broken("gopher_alphabetic_words")) == (0, 0)


def test_gopher_symbols_differ_in_long_runs_of_dots_alone(units):
    theirs = dropped(filters.GopherQualityFilter, max_symbol_word_ratio=0.1)
    more, fewer = apart(theirs, broken("gopher_hashes", "gopher_ellipses"))
    assert fewer == 0  # "......" is two ellipses there and one here
    dots = sum("....." in text for text in TEXTS)
    assert more <= dots


def test_gopher_lines_drop_what_datatrove_drops_and_more(units):
    """It counts empty lines, and of eight bullets two."""
    for settings, name in [
        ({"max_bullet_lines_ratio": 0.9}, "gopher_bullet_lines"),
        ({"max_ellipsis_lines_ratio": 0.3}, "gopher_ellipsis_lines"),
    ]:
        more, fewer = apart(dropped(filters.GopherQualityFilter, **settings), broken(name))
        assert more == 0 and fewer <= 0.02 * len(TEXTS), name


def test_gopher_stop_words_count_here_as_often_as_they_occur(units):
    units(lambda text: Text(text).bare_words)
    theirs = dropped(filters.GopherQualityFilter, min_stop_words=2)
    more, fewer = apart(theirs, broken("gopher_stop_words"))
    assert fewer == 0 and more > 0  # two different ones there, two of any here


@pytest.mark.parametrize(
    "settings, name",
    [
        ({"dup_line_frac": 0.30}, "gopher_repeated_lines"),
        ({"dup_para_frac": 0.30}, "gopher_repeated_paragraphs"),
    ],
)
def test_gopher_repeated_lines_and_paragraphs_agree(units, settings, name):
    assert apart(dropped(filters.GopherRepetitionFilter, **settings), broken(name)) == (0, 0)


REPETITION = [
    ({"dup_line_char_frac": 0.20}, "gopher_repeated_line_characters"),
    ({"dup_para_char_frac": 0.20}, "gopher_repeated_paragraph_characters"),
    *(
        ({"dup_n_grams": ((n, limit),)}, f"gopher_repeated_{n}grams")
        for n, limit in zip(range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10))
    ),
]


@pytest.mark.parametrize("settings, name", REPETITION)
def test_gopher_shares_of_characters_are_never_smaller_here(units, settings, name):
    """The whole has no blanks here, and the first of equal n-grams is repeated like the others."""
    units(lambda text: Text(text).bare_words)
    more, fewer = apart(dropped(filters.GopherRepetitionFilter, **settings), broken(name))
    assert more == 0 and fewer <= 0.25 * len(TEXTS)


@pytest.mark.parametrize("n, limit", [(2, 0.20), (3, 0.18), (4, 0.16)])
def test_gopher_commonest_ngrams_differ_in_short_texts_alone(units, n, limit):
    """There an n-gram that occurs once is the commonest of a short text, and blanks count."""
    units(lambda text: Text(text).bare_words)
    theirs = dropped(filters.GopherRepetitionFilter, top_n_grams=((n, limit),))
    ours = broken(f"gopher_top_{n}gram")
    apart(theirs, ours)
    long = [len(text.split()) >= 50 for text in TEXTS]
    differ = sum(t != o for t, o, judged in zip(theirs, ours, long) if judged)
    assert differ <= 0.03 * sum(long)


def cut(**settings) -> list[float]:
    """The share of characters in the lines that datatrove's C4 filter takes out."""
    names = inspect.signature(filters.C4QualityFilter.__init__).parameters
    off = {name: False for name in names if name.startswith(("filter_", "remove_"))}
    off |= {"min_num_sentences": -1, "min_words_per_line": -1, "max_word_length": -1}
    chosen, shares = filters.C4QualityFilter(**off | settings), []
    for text in TEXTS:
        document = Document(text=text, id="x")
        kept = chosen.filter(document)
        left = sum(map(len, document.text.splitlines())) if kept is True else 0
        shares.append(1 - left / sum(map(len, text.splitlines())))
    return shares


@pytest.mark.parametrize(
    "settings, name",
    [
        ({"min_words_per_line": 5}, "c4_short_lines"),
        ({"filter_javascript": True}, "c4_javascript"),
        ({"filter_policy": True}, "c4_policy"),
        ({"filter_no_terminal_punct": True}, "c4_terminal_punctuation"),
    ],
)
def test_c4_measures_what_datatrove_would_cut(units, settings, name):
    """With the paper's five words a line; datatrove's own default is three, and five sentences."""
    theirs = cut(**settings)
    ours = [C4_RULES[name].measure(Text(text)) for text in TEXTS]
    # Of quotation marks at the end of a line, ' ends one there and ” here.
    same = [not re.search(r"['”]$", text, re.MULTILINE) for text in TEXTS]
    checked = [(t, o) for t, o, s in zip(theirs, ours, same) if s or "terminal" not in name]
    assert len(checked) > 200 and any(t > 0 for t, _ in checked)
    assert max(abs(t - o) for t, o in checked) < 1e-12


@pytest.mark.parametrize(
    "settings, name",
    [
        ({"filter_lorem_ipsum": True}, "c4_lorem_ipsum"),
        ({"filter_curly_bracket": True}, "c4_curly_bracket"),
        ({"min_num_sentences": 3}, "c4_sentences"),
    ],
)
def test_c4_rules_about_pages_agree(units, settings, name):
    theirs = [share == 1 for share in cut(**settings)]
    assert apart(theirs, broken(name)) == (0, 0)
