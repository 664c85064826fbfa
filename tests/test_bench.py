import json

import pytest
from rich.console import Console

from limbeck import bench


@pytest.fixture
def small(monkeypatch):
    """The same measurements on worlds that take no time."""
    monkeypatch.setattr(bench, "SIMULATE", [("probe/switch", 2), ("probe/matrix", 2)])
    monkeypatch.setattr(bench, "TRAIN", [("probe/switch", 2, ("qmix", "ptde")), ("probe/matrix", 2, ("vdn",))])
    monkeypatch.setattr(
        bench, "SIZES", {**bench.SIZES, "segment": 8, "batch": 2, "buffer": 16, "hidden": 8, "hyper": 8, "embed": 4}
    )
    monkeypatch.setattr(bench, "REPEATS", 2)
    monkeypatch.setattr(bench.jax.config, "update", lambda name, value: None)


def test_every_row_says_what_was_measured_and_how_fast(small, capsys):
    report = bench.run(Console(width=120))
    json.dumps(report, allow_nan=False)
    assert set(report) == {"machine", "versions", "rows"}
    assert report["machine"]["cores"] >= 1 and report["versions"]["jax"]
    for row in report["rows"]:
        assert {"name", "env", "method", "worlds", "steps_per_s", "updates_per_s", "compile_s"} <= set(row)
        assert row["steps_per_s"] > 0 and row["compile_s"] > 0
    assert [row["name"] for row in report["rows"]] == ["simulate"] * 2 + ["train"] * 3
    assert [row.get("to_qmix", 0) > 0 for row in report["rows"][2:]] == [True, True, False]
    assert report["rows"][2]["to_qmix"] == 1
    train = report["rows"][-2]
    # One update for every 8 steps of 2 worlds.
    assert train["steps_per_s"] == pytest.approx(16 * train["updates_per_s"], rel=0.05)
    printed = capsys.readouterr().out
    assert "probe/switch" in printed and "to QMIX" in printed
