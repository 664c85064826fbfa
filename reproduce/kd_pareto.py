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

from limbeck import runs
from limbeck.errors import unknown
from limbeck.plots import pareto

ROW = "KD-MARL"


@dataclasses.dataclass(frozen=True)
class Options(kd_table.Options):
    """What the reproduction can be told, beside what the table can."""

    task: str = "3m"
    each: tuple[int, ...] = (4, 8, 16, 24, 40, 64, 96)
    """the students' widths"""
    picture: str | None = None
    """where the picture goes; None: into `out`"""


def main(options: Options) -> None:
    console = Console()
    if options.task not in kd_table.TASKS:
        raise unknown("task", options.task, kd_table.TASKS)
    teachers, found = [], {width: [] for width in options.each}
    for seed in range(options.seeds):
        path = kd_table.teacher_path(options.task, seed, options)
        config = kd_table.teacher_config(options.task, seed, options)
        teachers.append(campaign.played(config, path, kd_table.episodes(options), console))
        for width, seeds in found.items():
            seeds.append(student(width, seed, path, options, console))
    points = {width: (fmean(each["flops"] for each in seeds), campaign.retained(seeds)) for width, seeds in found.items()}
    drawn = {str(width): (flops, kept) for width, (flops, kept) in points.items() if kept is not None}
    title = f"{kd_table.TASKS[options.task].env}, teacher {options.hidden} wide"
    pareto(drawn, Path(options.picture or f"{options.out}/pareto.png"), title)
    head = ["width", "parameters", "FLOPs per decision", "times fewer", "wins, %, or return", "kept, %"]
    lines = [[f"teacher, {options.hidden}", *line("parameters", teachers), "1", kd_table.score(teachers), "100"]]
    for width, (flops, kept) in points.items():
        fewer, seeds = teachers[0]["flops"] / flops, found[width]
        lines.append([str(width), *line("parameters", seeds), f"{fewer:.1f}", kd_table.score(seeds), campaign.percent(kept, "")])
    campaign.write(options.page, campaign.markdown(head, lines), "pareto", console)


def student(width: int, seed: int, teacher: Path, options: Options, console: Console) -> dict[str, Any]:
    """One of them, judged."""
    own = dataclasses.replace(options, widths=str(width))
    settings = kd_table.student_settings(options.task, ROW, teacher, own)
    config = runs.of_student(teacher, settings=settings, **kd_table.told(options.task, seed))
    return campaign.judged(config, kd_table.student_path(teacher, ROW, own), kd_table.episodes(options), console)["student"]


def line(what: str, seeds: list[dict[str, Any]]) -> list[str]:
    """What a network holds, and what a decision costs."""
    return [f"{seeds[0][each]:,.0f}" for each in (what, "flops")]


if __name__ == "__main__":
    campaign.start(main, Options)
