"""The ModelHandler and the transforms in pipelines of a user's own, in memory."""

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that
import numpy as np
import pytest

from dr_keras.corpus_jobs.beam import FilterTexts, RaterModelHandler, RateTexts
from dr_keras.errors import ArtefactError, ConfigurationError
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import decide
from dr_keras.serving.loading import load_rater

SETTINGS = dict(discard_fraction=0.5, batch_size=16, seed=5)


def same(expected):
    """Matches a PCollection with the elements expected, in any order."""

    def check(found):
        assert sorted(map(repr, found)) == sorted(map(repr, expected))

    return check


def test_ratings_are_those_of_the_rater(letters):
    path, rows, _ = letters
    texts = [row["text"] for row in rows] + ["", "z" * 500]
    expected = load_rater(path).score_texts(texts)

    def check(found):
        assert len(found) == len(texts)
        by_text = dict(found)
        for row, text in enumerate(texts):
            rating = by_text[text]
            np.testing.assert_allclose(rating.score, expected["score"][row], rtol=1e-6)
            np.testing.assert_allclose(rating.percentile, expected["percentile"][row], rtol=1e-5)
            assert rating.windows == expected["windows"][row]

    with Pipeline() as pipeline:
        rated = pipeline | beam.Create(texts) | RateTexts(path, text=lambda text: text)
        assert_that(rated, check)


def test_the_handler_is_one_of_beams(letters):
    path, rows, _ = letters
    handler = RaterModelHandler(path, min_batch_bytes=7, max_batch_bytes=100)
    settings = handler.batch_elements_kwargs()
    assert (settings["min_batch_size"], settings["max_batch_size"]) == (7, 100)
    assert settings["element_size_fn"]("four") == 4 == settings["element_size_fn"]((0, "four"))
    expected = load_rater(path).score_texts([rows[3]["text"]])
    with Pipeline() as pipeline:
        result = pipeline | beam.Create([rows[3]["text"]]) | RunInference(handler)
        windows = result | beam.Map(lambda rating: rating.windows)
        assert_that(windows, same(expected["windows"].tolist()))
    with pytest.raises(ArtefactError, match="nowhere is not a directory"):
        RaterModelHandler("nowhere").load_model()
    assert RaterModelHandler(path, trusted=True).load_model().trusted
    assert not handler.load_model().trusted


@pytest.mark.parametrize("reference", ["corpus", "artefact", "given"])
def test_filtering_decides_as_without_beam(letters, reference):
    path, rows, _ = letters
    rater = load_rater(path)
    scores = rater.score_texts([row["text"] for row in rows])["score"]
    distribution = {
        "corpus": ReferenceDistribution.from_scores(scores),
        "artefact": rater.document_reference,
        "given": ReferenceDistribution(np.array([100.0, 120.0])),
    }[reference]
    decisions = decide([row["id"] for row in rows], scores, 0.5, 16, 5, reference=distribution)
    keep = decisions.keep
    assert 100 < keep.sum() < 500
    pipeline = Pipeline()
    given = distribution if reference == "given" else reference
    filtered = pipeline | beam.Create(rows) | FilterTexts(path, reference=given, **SETTINGS)
    assert_that(filtered["kept"], same([r for r, k in zip(rows, keep) if k]), label="kept")
    ids = filtered["dropped"] | beam.Map(lambda row: (row["id"], row["source"]))
    expected = [(r["id"], r["source"]) for r, k in zip(rows, keep) if not k]
    assert_that(ids, same(expected), label="dropped")
    windows = filtered["scores"] | beam.Map(lambda row: row["windows"]) | beam.CombineGlobally(sum)
    assert_that(windows, same([sum(-(-len(r["text"]) // 16) for r in rows)]), label="windows")
    result = pipeline.run()
    result.wait_until_finish()
    counters = {c.key.metric.name: c.result for c in result.metrics().query()["counters"]}
    assert counters["kept"] == keep.sum() and counters["dropped"] == (~keep).sum()
    odd = [row["source"] == "s1" for row in rows]
    assert counters["kept: s1"] == np.sum(keep & odd)
    distributions = result.metrics().query()["distributions"]
    (found,) = [d for d in distributions if d.key.metric.name == "percentile_thousandths: s1"]
    assert found.result.count == sum(odd)
    mean = np.mean(decisions.percentile[odd])
    assert found.result.mean / 1000 == pytest.approx(mean, abs=1e-3)


def test_what_has_no_text_is_an_error_and_not_the_end(letters):
    path, rows, _ = letters
    elements = [rows[0], {"id": "no text"}, {"text": 5}, {"text": b"bytes \xff"}]
    with Pipeline() as pipeline:
        filtered = pipeline | beam.Create(elements) | FilterTexts(path, discard_fraction=0)
        reasons = filtered["errors"] | beam.Map(lambda error: error["reason"])
        assert_that(
            reasons, same(["KeyError: 'text'", "TypeError: the text is a int"]), label="errors"
        )
        assert_that(filtered["kept"], same([elements[0], elements[3]]), label="kept")


def test_windows_of_a_stream_are_decided_one_by_one(letters):
    path, rows, _ = letters
    rows = rows[:60]
    rater = load_rater(path)
    scores = rater.score_texts([row["text"] for row in rows])["score"]
    ids = [row["id"] for row in rows]
    keep = decide(ids, scores, 0.5, 16, 5, reference=rater.document_reference).keep
    expected: dict[int, list[str]] = {}
    for n, id in enumerate(ids):
        if keep[n]:
            expected.setdefault(n // 10 * 10, []).append(id)
    with Pipeline() as pipeline:
        filtered = (
            pipeline
            | beam.Create(list(enumerate(rows)))
            | beam.Map(lambda pair: beam.window.TimestampedValue(pair[1], pair[0]))
            | "Windows" >> beam.WindowInto(beam.window.FixedWindows(10))
            | FilterTexts(path, **SETTINGS)
        )
        kept = filtered["kept"] | beam.Map(
            lambda row, window=beam.DoFn.WindowParam: (int(window.start), row["id"])
        )
        kept = kept | "All" >> beam.WindowInto(beam.window.GlobalWindows())
        assert_that(kept, same([(n, id) for n, found in expected.items() for id in found]))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(discard_fraction=1), "discard_fraction is 1"),
        (dict(method="top"), "method is 'top'"),
        (dict(reference="c4"), "reference is 'c4'"),
    ],
)
def test_bad_settings_are_refused_when_the_pipeline_is_made(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        FilterTexts("somewhere", **{"discard_fraction": 0.5, **settings})
