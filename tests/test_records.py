"""Tables that many sittings made: the pages show what is on record, and what is on record is not run again."""

import dataclasses
import json
from pathlib import Path

import pytest
from reproduction import script
from rich.console import Console

from limbeck import runs
from limbeck.errors import BadSetting

campaign, kd_table, kd_pareto = (script(name) for name in ("campaign", "kd_table", "kd_pareto"))
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
RECORDS = str(ROOT / "reproduce" / "records" / "kd.jsonl")


def between(page: Path, mark: str) -> str:
    return page.read_text(encoding="utf-8").partition(f"<!-- {mark} -->")[2].partition(f"<!-- /{mark} -->")[0]


def empty(tmp_path: Path, mark: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(f"<!-- {mark} -->\n<!-- /{mark} -->\n")
    return page


def test_the_page_shows_kd_marls_records(tmp_path):
    page = empty(tmp_path, "kd")
    kd_table.main(kd_table.Options(records=RECORDS, train=False, page=str(page)))
    assert between(page, "kd") == between(PAGE, "kd") and "| KD-MARL |" in between(PAGE, "kd")


def test_the_page_shows_the_curves_records(tmp_path):
    page, picture = empty(tmp_path, "pareto"), tmp_path / "pareto.png"
    widths = (4, 8, 16, 24, 40)
    kd_pareto.main(kd_pareto.Options(records=RECORDS, train=False, widths=widths, page=str(page), picture=str(picture)))
    assert between(page, "pareto") == between(PAGE, "pareto") and picture.exists()


def test_what_is_on_record_is_not_measured_again(tmp_path):
    options = kd_table.Options(records=str(tmp_path / "deep" / "kd.jsonl"))
    row = {"win_rate": 0.5, "flops": 3.0, "seconds": 60.0}
    assert kd_table.measured(Path("runs/one"), options, lambda: {"teacher": row}) == {"teacher": {"win_rate": 0.5, "flops": 3.0}}
    assert kd_table.measured(Path("elsewhere/one"), options, lambda: pytest.fail("run again"))["teacher"]["win_rate"] == 0.5
    assert json.loads(Path(options.records).read_text())["run"] == "one"


def test_without_training_what_is_not_on_record_is_left_out(tmp_path):
    options = kd_table.Options(records=str(tmp_path / "none.jsonl"), train=False, out=str(tmp_path / "runs"))
    assert (
        kd_table.teacher("3m", 0, options, Console()) is None and kd_table.student("3m", "KD-MARL", 0, options, Console()) is None
    )
    assert kd_table.table("3m", [], {"KD-MARL": []}) == [] and not (tmp_path / "runs").exists()


def test_a_folder_is_not_taken_for_a_run_that_was_told_otherwise(tmp_path):
    path = tmp_path / "one"
    config = runs.RunConfig("mappo", "probe/two_step", settings={"hidden": 8, "products": "float32"}, steps=64)
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"config": dataclasses.asdict(config)}))
    (path / "evaluation.json").write_text(json.dumps({"return": 7.0}))
    assert campaign.played(config, path, 16, Console()) == {"return": 7.0}
    assert campaign.played(dataclasses.replace(config, settings={"hidden": 8}), path, 16, Console()) == {"return": 7.0}
    for other in ({"settings": {"hidden": 8, "products": "bfloat16"}}, {"seed": 1}, {"env": "probe/cue"}):
        for judge in (campaign.played, campaign.judged):
            with pytest.raises(BadSetting, match=r"one is there with .* not .*: give another --out"):
                judge(dataclasses.replace(config, **other), path, 16, Console())


def test_rows_are_compared_seed_by_seed_with_all_terms():
    teacher = {"win_rate": 0.5, "return": 1.0, "flops": 300.0, "products": "float32"}
    student = {"win_rate": 0.4, "return": 1.0, "flops": 10.0, "flops_ratio": 30.0}
    kept = [[student | {"retention": share} for share in row] for row in ((0.9, 0.8, 0.7), (0.8, 0.85))]
    found = {"KD-MARL": kept[0], "without KL": [None, *kept[1]]}
    lines = kd_table.table("3m", [teacher, teacher | {"products": "bfloat16"}, teacher], found)
    assert [line[1] for line in lines] == ["teacher (1 of 3 in bfloat16)", "KD-MARL", "without KL"]
    assert [line[4] for line in lines[:2]] == ["", ""] and lines[2][4].startswith("7.5 ") and "(0.0, 15.0)" in lines[2][4]
    assert kd_table.against([student | {"retention": None}], kept[0]) == kd_table.against([None], kept[0]) == "-"
    assert kd_table.label([teacher, None]) == "teacher"
