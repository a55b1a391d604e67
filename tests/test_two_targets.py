"""tools/two_targets.py: what one rater for the worse of two held-out sets is good for."""

import re

import pytest
import two_targets  # of tools/


def test_lines_and_means():
    found = [{"a": {"a": 1.0, "b": 3.0}}, {"a": {"a": 2.0, "b": 2.0}}]
    assert two_targets.means(found) == {"a": {"a": 1.5, "b": 2.5}}
    assert two_targets.worse(found[0]["a"]) == 3.0
    assert two_targets.line("mean", two_targets.means(found)) == "mean    a: a 1.5000, b 2.5000"


@pytest.mark.long
def test_the_worse_loss_is_lower_than_under_either_set_alone_by_more_than_the_spread(capsys):
    assert two_targets.main([]) == 0
    gains = re.findall(r"(\w+) alone less both: (-?[\d.]+) ± ([\d.]+)", capsys.readouterr().out)
    assert [name for name, _, _ in gains] == ["prose", "code"]
    assert all(float(mean) > float(spread) for _, mean, spread in gains)
