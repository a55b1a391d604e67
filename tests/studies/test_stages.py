"""Stages: done once, timed, reused, and resumed after an interruption."""

import json

import numpy as np
import pytest

from dr_keras.studies.stages import MemoryPeak, Stages


def test_a_finished_stage_is_not_run_again(tmp_path):
    calls, said = [], []
    first = Stages(tmp_path, said.append)
    assert first.run("work", lambda: calls.append(1) or {"figure": 3}) == {"figure": 3}
    again = Stages(tmp_path, said.append)
    assert again.run("work", lambda: calls.append(1) or {"figure": 4}) == {"figure": 3}
    assert calls == [1]
    assert "done before" in said[-1]
    assert again.timings() == first.timings()


def test_an_interrupted_stage_leaves_no_record_and_its_time_counts(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path, lambda line: None).run("work", interrupted)
    assert not (tmp_path / "stages" / "work.json").exists()
    (tmp_path / "stages" / "interrupted-work.json").write_text('{"seconds": 100.0}')
    stages = Stages(tmp_path, lambda line: None)
    assert stages.run("work", lambda: None) == {}
    assert stages.timings()["work"]["seconds"] >= 100
    assert not (tmp_path / "stages" / "interrupted-work.json").exists()
    stored = json.loads((tmp_path / "stages" / "work.json").read_text())
    assert stored["peak_memory_bytes"] > 0


def test_memory_peak_sees_what_was_freed_again():
    with MemoryPeak(interval=0.01) as nothing:
        pass
    with MemoryPeak(interval=0.01) as peak:
        block = np.ones(30_000_000)  # 240 MB
        block += 1
        del block
    assert peak.bytes > nothing.bytes + 100_000_000
