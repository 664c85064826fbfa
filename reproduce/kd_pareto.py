"""What small students keep: KD-MARL students of several widths, all of one MAPPO teacher, retention against FLOPs per decision.

python reproduce/kd_pareto.py                 hours on two cores; runs that are there already are not repeated

Each run is an ordinary run folder under `runs/kd_pareto`. A student and its teacher play the same greedy episodes. On the curve are
the students that no cheaper one equals.
"""

import dataclasses
from pathlib import Path
from statistics import fmean
from typing import Any

import campaign
import tyro
from rich.console import Console

from limbeck import runs
from limbeck.cli import prepare_devices
from limbeck.plots import pareto
from limbeck.runs import RunConfig

Rows = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Options:
    """What the reproduction can be told."""

    out: str = "runs/kd_pareto"
    env: str = "smac/3m"
    steps: int = 1_000_000
    """of the teacher"""
    hidden: int = 256
    """the teacher's width"""
    widths: tuple[int, ...] = (4, 8, 16, 24, 40, 64, 96)
    """the students'"""
    kind: str = "gru"
    """gru, or mlp: students without memory"""
    updates: int = 6000
    """of each student"""
    rows: int = 200_000
    """decisions of the teacher that a student learns from"""
    seeds: int = 3
    episodes: int = 512
    worlds: int = 32
    page: str | None = None
    """a page (docs/results.md) between whose markers the table goes; None: print it only"""
    picture: str | None = None
    """where the picture goes; None: into `out`"""


def main(options: Options) -> None:
    console = Console()
    found: dict[int, list[Rows]] = {width: [] for width in options.widths}
    teachers = []
    for seed in range(options.seeds):
        path = teacher(seed, options)
        teachers.append(campaign.played(teacher_config(seed, options), path, options.episodes, console))
        for width in options.widths:
            settings = {"widths": str(width), "kinds": options.kind, "updates": options.updates, "rows": options.rows}
            config = runs.of_student(path, settings=settings, **common(seed, options.worlds))
            student = path.with_name(f"{path.name}-{options.kind}{width}-{options.updates}")
            found[width].append(campaign.judged(config, student, options.episodes, console))
    all_ = {f"{width}": point(seeds) for width, seeds in found.items()}
    points = {width: (flops, kept) for width, (flops, kept) in all_.items() if kept is not None}
    pareto(points, Path(options.picture or f"{options.out}/pareto.png"), f"{options.env}, teacher {options.hidden} wide")
    campaign.write(options.page, table(teachers, found, options), "pareto", console)


def common(seed: int, worlds: int) -> dict[str, Any]:
    """What all runs are told."""
    return {"seed": seed, "worlds": worlds, "evaluations": 2, "evaluation_episodes": 64, "checkpoint_seconds": 600.0}


def teacher(seed: int, options: Options) -> Path:
    """Where a teacher is kept."""
    return Path(options.out) / f"mappo{options.hidden}-{options.env.replace('/', '-')}-{options.steps}-{seed}"


def teacher_config(seed: int, options: Options) -> RunConfig:
    """limbeck's MAPPO, of the width asked for."""
    return RunConfig("mappo", options.env, settings={"hidden": options.hidden}, steps=options.steps, **common(seed, options.worlds))


def point(seeds: list[Rows]) -> tuple[float, float | None]:
    """FLOPs per decision, and the share of the teacher's wins that is kept: all the students' over all the teachers'."""
    kept = campaign.kept([each["student"] for each in seeds], [each["teacher"] for each in seeds])
    return fmean(each["student"]["flops"] for each in seeds), kept


def table(teachers: list[Rows | dict[str, Any]], found: dict[int, list[Rows]], options: Options) -> str:
    """Markdown: a row for the teacher and one for every width."""
    first = teachers[0]
    wins = campaign.cell([100 * each["win_rate"] for each in teachers])
    rows = [[f"teacher, {options.hidden}", f"{first['parameters']:,}", f"{first['flops']:,.0f}", "1", wins, "100"]]
    for width, seeds in found.items():
        spent = seeds[0]["student"]
        flops, kept = point(seeds)
        rows.append([
            f"{options.kind}, {width}",
            f"{spent['parameters']:,}",
            f"{flops:,.0f}",
            f"{first['flops'] / flops:.1f}",
            campaign.cell([100 * each["student"]["win_rate"] for each in seeds]),
            campaign.percent(kept, ""),
        ])  # fmt: skip
    return campaign.markdown(["width", "parameters", "FLOPs per decision", "times fewer", "wins, %", "kept, %"], rows)


if __name__ == "__main__":
    prepare_devices()
    main(tyro.cli(Options))
