"""Raters that work together: combinations, and a cascade of a student and its teacher."""

import json
import pickle

import numpy as np
import pytest

from dr_keras.commands import filter_corpus, score_corpus
from dr_keras.errors import ConfigurationError
from dr_keras.rating import score_files
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import decide
from dr_keras.serving import loading, several
from dr_keras.serving.cascade import cascade
from dr_keras.serving.loaded_text import LoadedTextRater
from dr_keras.serving.several import combined_raters
import gin

GENERATOR = np.random.default_rng(5)
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))
TEXTS = ["".join(GENERATOR.choice(LETTERS, 16)) for _ in range(400)]


class MeanLetter(LoadedTextRater):
    """A rater by the mean of a text's first letters, whose reference is TEXTS; made at no cost."""

    def __init__(self, path, first):
        self.path, self.first, self.fingerprint = path, first, path[-1] * 64
        self.metadata = {}
        self.document_reference = ReferenceDistribution.from_scores(self._means(TEXTS))

    def __repr__(self):
        return self.path

    def _means(self, texts):
        return np.array([np.mean([ord(c) for c in text[: self.first]]) for text in texts])

    def score_texts(self, texts, scoring=None):
        score = self._means(texts).astype(np.float32)
        percentile = self.document_reference.percentile(score)
        ones = np.ones(len(texts), np.int32)
        return {"score": score, "percentile": percentile, "windows": ones}


# they agree about half of what the second reads
RATERS = {"export/a": MeanLetter("export/a", 8), "export/b": MeanLetter("export/b", 16)}


@pytest.fixture
def raters(monkeypatch):
    """Two raters, which are loaded by their names, too."""
    for module in (loading, several):
        monkeypatch.setattr(module, "load_rater", lambda path, trusted=False: RATERS[path])
    return list(RATERS.values())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "in.jsonl"
    rows = [{"id": f"d{n}", "text": text, "source": "s"} for n, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("by, of", [("minimum", np.min), ("mean", np.mean), ("union", np.max)])
def test_percentiles_are_combined_text_by_text(raters, by, of):
    both = combined_raters(raters, by)
    found = both(TEXTS)
    each = np.stack([rater.score_texts(TEXTS)["percentile"] for rater in raters], axis=1)
    np.testing.assert_array_equal(found["percentiles"], each)
    np.testing.assert_allclose(found["score"], of(each, axis=1), rtol=1e-6)
    assert found["windows"].tolist() == [2] * len(TEXTS)
    facts = both.summarised(found["score"], each)["rank_correlations"]
    ranks = np.argsort(np.argsort(each, axis=0), axis=0)
    assert facts[0][1] == pytest.approx(np.corrcoef(ranks.T)[0, 1], abs=2e-3) and facts[1][1] == 1
    again = pickle.loads(pickle.dumps(both.reload))()
    assert again.fingerprint == both.fingerprint and again.how == both.how
    assert both.fingerprint != combined_raters(raters[::-1], by).fingerprint


def test_a_tightening_threshold_keeps_parts_of_what_it_kept(raters):
    score = combined_raters(raters, "union")(TEXTS)["score"]
    kept = [decide(TEXTS, score, f, method="threshold").keep for f in ("0.25", "0.5", "0.75")]
    assert [int(stage.sum()) for stage in kept] == pytest.approx([300, 200, 100], abs=5)  # of ties
    assert all(early[late].all() for early, late in zip(kept, kept[1:]))


def test_a_cascade_asks_where_the_student_is_not_sure(raters):
    student, teacher = raters
    one = cascade(student, teacher, "0.7", teacher_share=0.3, audit_share=0.0)
    assert one.band == pytest.approx((0.55, 0.85))
    found = one(TEXTS)
    theirs = student.score_texts(TEXTS)["percentile"]
    within = (theirs >= 0.55) & (theirs < 0.85)
    answer = teacher.score_texts(TEXTS)["percentile"]
    np.testing.assert_array_equal(found["score"][~within], theirs[~within])
    np.testing.assert_allclose(found["score"][within], 0.55 + 0.3 * answer[within], atol=1e-6)
    np.testing.assert_array_equal(np.isnan(found["percentiles"][:, 1]), ~within)
    assert found["windows"].tolist() == (1 + within).tolist()
    assert one.summarised(found["score"], found["percentiles"])["agreement"] is None  # none drawn
    assert one([])["score"].shape == (0,)


def test_agreement_is_estimated_from_a_few_and_exact_from_all(raters):
    student, teacher = raters
    alone = teacher.score_texts(TEXTS)["percentile"] >= 0.5
    found = {}
    for audited in (0.3, 1.0):
        one = cascade(student, teacher, "0.5", 0.2, audit_share=audited)
        scored = one(TEXTS)
        facts = found[audited] = one.summarised(scored["score"], scored["percentiles"])
        alike = (scored["score"] >= np.quantile(scored["score"], 0.5)) == alone
    theirs = student.score_texts(TEXTS)["percentile"]
    within = (theirs >= 0.4) & (theirs < 0.6)
    assert facts["agreement"] == pytest.approx(alike.mean(), abs=0.006)
    assert facts["agreement_of_student"] == pytest.approx(alike[~within].mean(), abs=0.01)
    assert facts["audited"] == (~within).sum() and facts["cut_in_band"]
    assert facts["teacher_share"] == pytest.approx(within.mean())
    few = found[0.3]
    assert 60 < few["audited"] < 130  # 96 expected
    off = abs(few["agreement_of_student"] - facts["agreement_of_student"])
    assert 0 < off < 3 * few["standard_error"]
    # what the teacher is asked to measure by changes no score
    plain = cascade(student, teacher, "0.5", 0.2, audit_share=0.0)(TEXTS)["score"]
    np.testing.assert_array_equal(plain, scored["score"])


def test_a_band_lies_within_the_percentiles_and_holds_its_end(raters):
    assert cascade(*raters, "0.95", 0.2).band == pytest.approx((0.8, 1.0))
    assert cascade(*raters, "0.05", 0.2).band == pytest.approx((0.0, 0.2))
    all_of_it = cascade(*raters, "0.5", 1.0, audit_share=0)
    np.testing.assert_allclose(
        all_of_it(TEXTS)["score"], raters[1].score_texts(TEXTS)["percentile"], atol=1e-6
    )


def test_a_corpus_unlike_the_students_is_warned_of(raters, caplog):
    worst = sorted(TEXTS, key=lambda text: sum(map(ord, text[:8])))[:100]
    one = cascade(*raters, "0.9", 0.1)
    scored = one(worst)
    assert not one.summarised(scored["score"], scored["percentiles"])["cut_in_band"]
    assert "is not among the scores that the teacher gave" in caplog.text


def test_commands_score_in_one_pass_and_say_so(raters, corpus, tmp_path, capsys):
    a, b = RATERS
    arguments = ["--rater", a, "--rater", b, "--combine", "minimum", "--input", corpus]
    for name in ("s.parquet", "s.jsonl"):
        gin.clear_config()  # a command has a process of its own
        score_corpus.main([*arguments, "--output", str(tmp_path / name)])
        assert (
            "raters combined by minimum; rank correlations: 1 and 2: 0." in capsys.readouterr().out
        )
        found = score_files.read_scores(str(tmp_path / name))
        about = found.manifest["rater"]
        assert about["combined"] == {"by": "minimum"} and len(about["raters"]) == 2
        np.testing.assert_allclose(found.score, found.percentiles.min(axis=1), rtol=1e-6)
        assert found.percentiles.shape == (400, 2) and np.isnan(found.percentile).all()


def test_a_filter_by_a_cascade_states_what_it_asked(raters, corpus, tmp_path, capsys):
    a, b = RATERS
    arguments = ["--student", a, "--rater", b, "--input", corpus, "--discard_fraction", "0.5"]
    arguments += ["--teacher_share", "0.4", "--method", "threshold"]
    scores = str(tmp_path / "s.parquet")
    filter_corpus.main(
        [*arguments, "--output_dir", str(tmp_path / "out"), "--score_file", scores,
         "--gin_param", "cascade.audit_share = 0.2"]
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "cascade: the teacher scored 39.0% of" in printed and "kept 200 of 400" in printed
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rater"]["combined"]["by"] == "cascade"
    facts = manifest["several_raters"]
    assert facts["cut_in_band"] and 0.6 < facts["agreement"] < 1
    found = score_files.read_scores(scores)
    asked = ~np.isnan(found.percentiles[:, 1])
    assert asked.sum() == round(400 * facts["teacher_share"]) + facts["audited"]


def test_raters_that_cannot_work_together_are_refused(raters, corpus, capsys):
    with pytest.raises(ConfigurationError, match="minimum, mean, union, and not by 'best'"):
        combined_raters(raters, "best")
    with pytest.raises(ConfigurationError, match="give at least two exported raters"):
        combined_raters(raters[:1], "mean")
    with pytest.raises(ConfigurationError, match="is no exported rater of text"):
        combined_raters([raters[0], len], "mean")
    with pytest.raises(ConfigurationError, match="teacher_share is 0: give the share"):
        cascade(*raters, "0.5", 0)
    with pytest.raises(ConfigurationError, match="audit_share is 2"):
        cascade(*raters, "0.5", audit_share=2)
    arguments = ["--student", "export/a", "--input", corpus, "--output_dir", "o"]
    assert filter_corpus.main([*arguments, "--discard_fraction", "0.5"]) == 2
    assert "a cascade is a --student and one --rater" in capsys.readouterr().err
