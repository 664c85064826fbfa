"""Tables that many sittings made: the pages show what is on record, and what is on record is not run again."""

import json
from pathlib import Path

import pytest
from reproduction import script
from rich.console import Console

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
    kd_pareto.main(kd_pareto.Options(records=RECORDS, train=False, seeds=1, widths=widths, page=str(page), picture=str(picture)))
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
