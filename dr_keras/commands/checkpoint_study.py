"""Do raters get better with meta-steps, and with larger inner models?

Meta-trains a rater with inner models of several sizes, trains language models on what checkpoints
of each keep, and shows the improvement on the unfiltered corpus, in loss and in the likelihood of
right answers, against meta-steps. results.json and report.html in --base_dir say so; a second call
goes on where the first one stopped. For instance

  --gin_file=experiments/checkpoints_minutes.gin --base_dir=runs/checkpoints
"""

from collections.abc import Sequence

from dr_keras.commands import common, flags


@common.verb("checkpoint-study", common.Task.COMPARE, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints the improvement by inner model and meta-step, and where the report is."""
    arguments, base_dir = flags.study_arguments(parser, argv)
    from dr_keras.report.page import write_report  # after the quiet start-up
    from dr_keras.report.sections.checkpoints import as_text
    from dr_keras.studies.checkpoints import CheckpointStudy

    common.parse_gin(arguments)
    found = CheckpointStudy().run(base_dir, write_report)
    print(f"\n{as_text(found)}\n\n{found.answer.text}\n")
    print(f"report:  {base_dir / 'report.html'}\nfigures: {base_dir / 'results.json'}")
