"""What small students keep: KD-MARL students of several widths of the teachers of `kd_table.py`, retention against FLOPs.

    python reproduce/kd_pareto.py             hours on two cores; runs that are there already, or the table's, are not repeated

A student and its teacher play the same greedy episodes. On the curve are the students that no cheaper one equals.
"""

import dataclasses
from pathlib import Path
from statistics import fmean
from typing import Any

import campaign
import kd_table
from rich.console import Console

from limbeck.errors import BadSetting, unknown
from limbeck.plots import pareto


@dataclasses.dataclass(frozen=True)
class Options(kd_table.Plan):
    """What the reproduction can be told."""

    task: str = "3m"
    widths: tuple[int, ...] = (4, 8, 16, 24, 40, 64, 96)
    """the students'"""
    picture: str | None = None
    """where the picture goes; None: into `out`"""


def main(options: Options) -> None:
    console = Console()
    if options.task not in kd_table.TASKS:
        raise unknown("task", options.task, kd_table.TASKS)
    teachers, found = [], {width: [] for width in options.widths}
    for seed in options.every_seed:
        teachers.append(kd_table.teacher(options.task, seed, options, console))
        for width, seeds in found.items():
            seeds.append(kd_table.student(options.task, kd_table.WHOLE, seed, of_table(options, width), console))
    teachers, found = kd_table.there(teachers), {width: kd_table.there(seeds) for width, seeds in found.items()}
    found = {width: seeds for width, seeds in found.items() if seeds}
    if not found:
        raise BadSetting(f"no student of {options.task} is on record; without --no-train they are run")
    points = {width: (fmean(each["flops"] for each in seeds), campaign.retained(seeds)) for width, seeds in found.items()}
    drawn = {str(width): (flops, kept) for width, (flops, kept) in points.items() if kept is not None}
    title = f"{kd_table.TASKS[options.task].env}, teacher {options.hidden} wide"
    pareto(drawn, Path(options.picture or f"{options.out}/pareto.png"), title)
    head = ["width", "parameters", "FLOPs per decision", "times fewer", "wins, %, or return", "kept, %"]
    lines = [[f"teacher, {options.hidden}", *costs(teachers), "1", kd_table.score(teachers), "100"]]
    for width, (flops, kept) in points.items():
        fewer, seeds = teachers[0]["flops"] / flops, found[width]
        lines.append([str(width), *costs(seeds), f"{fewer:.1f}", kd_table.score(seeds), campaign.percent(kept, "")])
    campaign.write(options.page, campaign.markdown(head, lines), "pareto", console)


def of_table(options: Options, width: int) -> kd_table.Options:
    """What makes the table train students of that width."""
    shared = {field.name: getattr(options, field.name) for field in dataclasses.fields(kd_table.Plan)}
    return kd_table.Options(**shared, widths=str(width))


def costs(seeds: list[dict[str, Any]]) -> list[str]:
    """What a network holds, and what a decision costs."""
    return [f"{seeds[0][each]:,.0f}" for each in ("parameters", "flops")]


if __name__ == "__main__":
    campaign.start(main, Options)
