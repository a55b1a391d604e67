"""Does the filtered corpus train better models for less compute?

The evidence protocol: trains language models of several sizes and seeds on what a rater keeps of a
corpus and on what other ways of choosing keep; results.json and report.html in --base_dir say which
did better, by how much, and what it cost. A second call goes on where the first one stopped; the
same call from other processes or machines that share --base_dir takes its part of the work. For
instance

  --gin_file=experiments/evidence_minutes.gin --base_dir=runs/evidence
"""

from collections.abc import Sequence

from dr_keras.commands import common, flags


@common.verb("evaluate", common.Task.COMPARE, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints the table of arms, the answer, and where the report is."""
    arguments, base_dir = flags.study_arguments(parser, argv)
    from dr_keras.report.page import write_report  # after the quiet start-up
    from dr_keras.report.sections.arms import as_text
    from dr_keras.studies import evidence

    common.parse_gin(arguments)
    found = evidence.Evidence().run(base_dir, write_report)
    print(f"\n{as_text(found)}\n\n{found.answer.text}")
    print(f"recommendation: {found.answer.recommendation}\n")
    print(f"report:  {base_dir / 'report.html'}\nfigures: {base_dir / 'results.json'}")
    print(f"curves:  tensorboard --logdir {base_dir / 'summaries'}")
