import json

import pytest
from PIL import Image
from rich.console import Console

from limbeck import demo
from limbeck.errors import BadSetting
from limbeck.store import RunFolder


def test_the_main_job_leaves_everything_that_it_promises(tmp_path, capsys):
    options = demo.DemoOptions(steps=1024, student_updates=100, student_rows=6000, worlds=4, episodes=8, out=str(tmp_path / "demo"))
    table = demo.run(options, Console(width=120))
    assert [row["name"] for row in table.rows] == list(demo.LABELS.values())
    for row in table.rows:
        low, high = row["win_rate_ci"]
        assert 0 <= low <= row["win_rate"] <= high <= 1
        assert row["episodes"] == 8 and row["parameters"] > 0 and row["flops"] > 0 and row["steps_per_s"] > 0
    teacher, student = table.rows[2], table.rows[3]
    assert student["parameters"] < teacher["parameters"] and student["flops"] < teacher["flops"]
    assert json.loads((tmp_path / "demo" / "table.json").read_text())["rows"] == table.rows
    for name in demo.LABELS:
        run = RunFolder.open(tmp_path / "demo" / name)
        assert run.config["env_settings"] == {"sight_range": 2.0} and run.metrics() and run.checkpoints()
    with Image.open(tmp_path / "demo" / "curves.png") as curves, Image.open(tmp_path / "demo" / "battle.gif") as battle:
        assert curves.width > 500 and battle.n_frames > 1
    assert "QMIX baseline" in (tmp_path / "demo" / "battle.html").read_text()
    assert str(tmp_path / "demo") in capsys.readouterr().out


def test_a_folder_that_is_taken_gets_a_number(tmp_path):
    (tmp_path / "demo").mkdir()
    assert demo._free(tmp_path / "demo") == tmp_path / "demo-2"


def test_the_demo_wants_a_battle(tmp_path):
    with pytest.raises(BadSetting, match="films a battle"):
        demo.run(demo.DemoOptions(env="probe/switch", out=str(tmp_path / "x")), Console())
    assert not (tmp_path / "x").exists()
