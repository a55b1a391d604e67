"""The report says whether the rater is better than chance, and stands without any arm."""

import re

import pytest
import study

from dr_keras.errors import DataError
from dr_keras.report import page
from dr_keras.report.sections import arms
from dr_keras.runs.verdict import JudgedRater, Judgement, sentence
from dr_keras.studies.judged import judged_first, stopped
from dr_keras.studies.results import Results, to_json


def rater(name: str, gain: float | None, outcome: str, **more) -> JudgedRater:
    losses = [None if gain is None else 2.4 - gain, 2.42 - (gain or 0)]
    known = None if gain is None else 0.02
    return JudgedRater(
        name=name, run=".", step=50, losses=losses, gain=gain, standard_error=known,
        threshold=2.9, outcome=outcome, **more,
    )  # fmt: skip


def judged(*raters: JudgedRater, chosen: str | None = None) -> Judgement:
    found = Judgement(
        random=[2.4, 2.42], raters=list(raters), chosen=chosen, helps=chosen is not None, text="",
        updates=200, batch_size=8, discard_fraction=0.5, validation_examples=1024,
        validation_documents=300, unit="nats per token", flops=3 * 10**12, seconds=21.0,
    )  # fmt: skip
    return Judgement.of({**found.as_json(), "text": sentence(found)})


HELPS = judged(
    rater("fitted", 0.1, "better", made_flops=2e12),
    rater("scratch", -0.1, "worse", behind=0.2, behind_error=0.03),
    chosen="fitted",
)
NO = judged(rater("rater", 0.01, "undecided"))


def text_of(results: Results) -> str:
    html = page.render(results, sections=["answer", "protocol", "judgement", "damage", "arms"])
    return re.sub(
        r"\s+", " ", re.sub(r"<style.*?</style>|<svg.*?</svg>|<[^>]+>", " ", html, flags=re.S)
    )


def test_the_judgement_is_a_table_of_raters_beside_chance():
    shown = text_of(study.results(findings={"judgement": HELPS.as_json()}))
    assert "Is the rater better than chance?" in shown
    assert "random choice 2.4100" in shown
    assert "fitted 2.3100 0.1000 ± 0.0200 5.0 2.9 better – 2 TFLOP" in shown
    assert "scratch 2.5100 -0.1000 ± 0.0200 -5.0 2.9 worse 0.2000 ± 0.0300" in shown
    assert "2 pairs of trainings of 200 updates" in shown
    assert "Judging took 21 s and 3 TFLOP." in shown


def test_a_loss_that_is_not_finite_has_no_figure():
    document = judged(rater("rater", None, "worse")).as_json()
    assert "rater not finite not finite" in text_of(study.results(findings={"judgement": document}))


def test_the_answer_begins_with_what_was_known_before():
    verdict = study.results().answer
    assert judged_first(verdict, None) == judged_first(verdict, HELPS) == verdict
    known = judged_first(verdict, NO)
    assert known.text == f"{NO.text} The arms were trained all the same. {verdict.text}"
    assert known.outcome == verdict.outcome
    assert text_of(study.results(answer=known)).split("Do not filter: ")[1].startswith("trained on")


def test_a_study_that_stopped_has_results_and_a_page(tmp_path):
    answer = stopped(NO, "Add --anyway.")
    results = study.results(
        answer=answer, sizes=[], rater=None, findings={"judgement": NO.as_json()}
    )
    results.publish(tmp_path, page.write_report)
    assert Results.load(tmp_path / "results.json") == results
    shown = text_of(results)
    assert shown.count("Do not filter: ") == 2 and "Add --anyway." in shown
    assert "Recommendation: Do not filter." in shown and "Arms and metrics" not in shown
    assert arms.as_text(results) == ""
    for lacking in ("sizes", "rater"):
        document = to_json(study.results())
        document[lacking] = [] if lacking == "sizes" else None
        with pytest.raises(DataError, match=lacking):
            Results.of(document)
