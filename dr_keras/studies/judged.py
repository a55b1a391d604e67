"""What the judgement of a run's raters says in the results of the study that made the run."""

import dataclasses

from dr_keras.runs.verdict import Judgement
from dr_keras.studies.sizes import DO_NOT_FILTER, Verdict


def judged_first(verdict: Verdict, judgement: Judgement | None) -> Verdict:
    """The verdict on the arms, after what was known before they were trained: not to filter."""
    if judgement is None or judgement.helps:
        return verdict
    text = f"{judgement.text} The arms were trained all the same. {verdict.text}"
    return dataclasses.replace(verdict, text=text)


def stopped(judgement: Judgement, go_on: str) -> Verdict:
    """The answer of a study that stopped because no rater is better than a random choice.

    Args:
      judgement: which says so.
      go_on: how to go on all the same, a sentence.
    """
    figures = (
        "No corpus was filtered and no arm was trained: nothing that this run has made chooses"
        f" better than chance. {go_on}"
    )
    return Verdict(DO_NOT_FILTER, judgement.text, figures, "Do not filter.")
