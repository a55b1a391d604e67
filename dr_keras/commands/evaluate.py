"""Does the filtered corpus train better models for less compute?

The evidence protocol: trains language models of several sizes and seeds on what a rater keeps of a
corpus and on what other ways of choosing keep; results.json and report.html in --base_dir say which
did better, by how much, and what it cost. A second call goes on where the first one stopped; the
same call from other processes or machines that share --base_dir takes its part of the work. For
instance

  --gin_file=experiments/evidence_minutes.gin --base_dir=runs/evidence
"""

from collections.abc import Sequence
import pathlib

from dr_keras.commands import common
from dr_keras.system.extras import require_study_extra


@common.verb("evaluate", common.Task.COMPARE, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints the table of arms, the answer, and where the report is."""
    arguments = parser.parse_args(argv)
    require_study_extra()
    from dr_keras.studies import evidence  # after the quiet start-up

    common.parse_gin(arguments)
    base_dir = pathlib.Path(arguments.base_dir)
    found = evidence.evidence(base_dir)
    print(f"\n{table(found)}\n\n{found['answer']['text']}")
    print(f"recommendation: {found['answer']['recommendation']}\n")
    print(f"report:  {base_dir / 'report.html'}\nfigures: {base_dir / 'results.json'}")
    print(f"curves:  tensorboard --logdir {base_dir / 'summaries'}")


def table(found: dict) -> str:
    """Arms of all sizes as lines of text."""
    lines = [
        f"{'size':8}{'arm':24}{'dropped':>9}{'tokens seen':>14}{'unique':>12}"
        f"{'test loss':>18}{'FLOPs to match':>16}"
    ]
    for size in found["sizes"]:
        for name, arm in size["arms"].items():
            final, budget = arm["final"], arm["budget"]
            spread = "" if final["spread"] is None else f" ± {final['spread']:.4f}"
            share = arm["account"]["flops_share"]
            lines.append(
                f"{size['name']:8}{name:24}{100 * arm['discard_fraction']:>8.1f}%"
                f"{budget['tokens_seen']:>14,.0f}{budget['unique_tokens']:>12,.0f}"
                f"{final['mean']:>9.4f}{spread:9}"
                f"{'never' if share is None else f'{100 * share:.0f}%':>16}"
            )
    for size, arm in found["protocol"]["same_as_unfiltered"]:
        lines.append(f"{size:8}{arm}: on a single pass this is the unfiltered arm; not run")
    return "\n".join(lines)
