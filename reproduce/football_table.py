"""Win rates at football: QMIX, PTDE's teachers with unified and with personalised information (GIU, GIP), the latter's student.

    python reproduce/football_table.py                 many hours; runs that are there are not repeated, one cut off goes on
    python reproduce/football_table.py --steps 100000 --seeds 1 --episodes 128 --student-rows 60000 --out runs/football_short

The game has to be there: bash src/limbeck/envs/football/install.sh. Each run is an ordinary run folder under `--out`.
"""

import dataclasses
from pathlib import Path
from typing import Any

import campaign
from rich.console import Console

from limbeck import runs
from limbeck.plots import draw
from limbeck.runs import RunConfig

TEACHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "QMIX": ("qmix", {}),
    "GIU teacher": ("ptde", {"personaliser": "giu"}),
    "GIP teacher": ("ptde", {"personaliser": "gip"}),
}
DISTILLED, STUDENT = "GIP teacher", "GIP student"
PUBLISHED = {
    # Chen et al., arXiv 2210.08872, table 3: mean and standard deviation over seeds.
    "academy_3_vs_1_with_keeper": ("60.9 ± 25.0", "66.2 ± 25.6", "85.8 ± 3.2", "81.8 ± 5.6"),
    "academy_3_vs_2_with_keeper": ("49.1 ± 20.0", "41.5 ± 20.1", "66.4 ± 20.9", "73.2 ± 13.8"),
    "academy_counterattack_easy": ("36.5 ± 16.5", "83.9 ± 7.5", "83.9 ± 3.5", "73.4 ± 17.6"),
    "academy_counterattack_hard": ("18.4 ± 17.4", "46.2 ± 24.0", "63.6 ± 7.4", "51.7 ± 5.3"),
    "academy_run_pass_and_shoot_with_keeper": ("53.3 ± 20.1", "68.7 ± 7.2", "77.9 ± 8.2", "77.5 ± 5.5"),
}


@dataclasses.dataclass(frozen=True)
class Options(campaign.Plan):
    """What the reproduction can be told."""

    out: str = "runs/football_table"
    scenarios: tuple[str, ...] = ("academy_3_vs_1_with_keeper",)
    reward: str = "checkpoints"
    steps: int = 2_000_000
    workers: int = 8
    """processes that play side by side"""
    per_process: int = 1
    """worlds in each"""
    eps_steps: int = 50_000
    """over which exploration falls"""
    evaluations: int = 5
    student_rows: int = 600_000
    """decisions of the teacher that its student learns from; three of them are a step"""
    student_updates: int = 20_000
    picture: str | None = None
    """where the learning curves go; None: into `out`"""


def main(options: Options) -> None:
    console = Console()
    found: dict[tuple[str, str], list[dict]] = {}
    for seed in options.every_seed:
        for scenario in options.scenarios:
            for name in (*TEACHERS, STUDENT):
                path = path_of(name, scenario, seed, options)
                row = campaign.played(config(name, scenario, seed, options), path, options.episodes, console)
                found.setdefault((scenario, name), []).append(row)
    panels = campaign.panels({each: curves(each, options) for each in options.scenarios}, "test_win_rate", "test_return")
    draw(panels, Path(options.picture or f"{options.out}/curves.png"), size=(3.6, 2.8))
    rows = []
    for scenario in options.scenarios:
        cells = [campaign.cell([100 * each["win_rate"] for each in found[scenario, name]]) for name in (*TEACHERS, STUDENT)]
        kept = campaign.percent(campaign.kept(found[scenario, STUDENT], found[scenario, DISTILLED]))
        rows.append([scenario, f"{options.steps:,}", *cells, kept])
        returns = [campaign.cell([each["return"] for each in found[scenario, name]], 2) for name in (*TEACHERS, STUDENT)]
        rows.append(["*return*", "", *returns, ""])
        if scenario in PUBLISHED:
            rows.append(["*the paper*", "10,000,000", *PUBLISHED[scenario], "-"])
    head = ["scenario", "steps", *TEACHERS, STUDENT, "student / teacher"]
    campaign.write(options.page, campaign.markdown(head, rows), "football", console)


def curves(scenario: str, options: Options) -> dict[str, list]:
    """What the teams wrote down while they learned; the student has no steps of its own."""
    seeds = options.every_seed
    return {name: [campaign.metrics(path_of(name, scenario, seed, options)) for seed in seeds] for name in TEACHERS}


def path_of(name: str, scenario: str, seed: int, options: Options) -> Path:
    """The run's folder."""
    return Path(options.out) / f"{name.replace(' ', '-').lower()}-{scenario}-{seed}"


def config(name: str, scenario: str, seed: int, options: Options) -> RunConfig:
    """What is run: limbeck's defaults, but for what the options say. A student's needs its teacher's run."""
    common: dict[str, Any] = {"seed": seed, "worlds": options.workers * options.per_process, "checkpoint_seconds": 120.0}
    if name == STUDENT:
        settings = {"rows": options.student_rows, "updates": options.student_updates}
        return runs.of_student(path_of(DISTILLED, scenario, seed, options), settings=settings, evaluations=2, **common)
    method, settings = TEACHERS[name]
    return RunConfig(
        method,
        f"football/{scenario}",
        env_settings={"reward": options.reward, "workers": options.workers, "per_process": options.per_process},
        settings=settings | {"eps_steps": options.eps_steps},
        steps=options.steps,
        evaluations=options.evaluations,
        **common,
    )


if __name__ == "__main__":
    campaign.start(main, Options)
