"""What the report says of a run's own logs."""

import json

import numpy as np
import pytest

from dr_keras.studies.meta_health import meta_health, quarters


def write(folder, records) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def step(number: int, **more) -> dict:
    members = {"outer_loss": [2.0, 3.0]}
    return {"kind": "step", "meta_step": number, "outer_loss": 2.5, "members": members, **more}


def test_ratios_are_means_over_neighbouring_meta_steps(tmp_path):
    """The first of a run is not known, and single ones are mostly chance."""
    noise = np.where(np.arange(240) % 2, 0.5, -0.3)
    records = [
        step(k, meta_gradient_snr=noise[k], meta_gradient_snr_steps=k / 240 if k else None)
        for k in range(240)
    ]
    write(tmp_path, records)
    found = meta_health(tmp_path)
    assert found["members"] == 2 and list(found["panels"]) == ["signal"]
    across = found["panels"]["signal"]["across members"]
    assert len(across) == 60 and across[0] == pytest.approx([1.5, 0.1])
    np.testing.assert_allclose(np.array(across)[:, 1], 0.1)
    write(tmp_path, records[:110])  # of pairs, not of some pairs and some single ones
    pairs = meta_health(tmp_path)["panels"]["signal"]["across members"]
    assert len(pairs) == 55 and np.ptp(np.array(pairs)[:, 1]) < 1e-9
    over = found["panels"]["signal"]["over steps"]
    assert quarters(over) == pytest.approx((0.125, 0.875), abs=0.01)


def test_held_out_sets_and_sources_are_found_by_their_names(tmp_path):
    names = [f"s/{k}" for k in range(12)]
    logged = {f"score_mean/{name}": 0.1 * k for k, name in enumerate(names)}
    records = [
        step(1, **{"outer_loss/old books": 3.0, "outer_loss/web": 2.0}),
        {"kind": "epoch", "meta_step": 1, "score_spread": 0.5, **logged},
        step(2, **{"outer_loss/old books": 2.5, "outer_loss/web": 1.5}),
        {"kind": "epoch", "meta_step": 2, "score_spread": 0.005, **logged}
        | {"score_mean/s/0": -5.0, "score_mean/s/11": None, "score_length_correlation": -0.9},
    ]
    write(tmp_path, records)
    panels = meta_health(tmp_path)["panels"]
    assert panels["sets"] == {"old books": [[1, 3.0], [2, 2.5]], "web": [[1, 2.0], [2, 1.5]]}
    assert panels["spread"] == {"within a batch": [[1, 0.5], [2, 0.005]]}
    # Eight, those that end furthest from the mean, in the order of the log.
    assert list(panels["sources"]) == ["s/0", *names[5:]]
    said = meta_health(tmp_path)["warnings"]
    assert len(said) == 2 and "prefers short examples" in said[0]


def test_a_run_that_logged_nothing_of_this_has_no_findings(tmp_path):
    assert meta_health(tmp_path) == {}
    write(tmp_path, [step(1), {"kind": "epoch", "meta_step": 1, "validation_loss": 2.0}])
    assert meta_health(tmp_path) == {}
