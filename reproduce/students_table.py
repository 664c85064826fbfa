"""Teachers and their students side by side: DDN, PTDE, CTDS and IGM-DA, with QMIX, which has no teacher.

python reproduce/students_table.py            some two hours on two cores; runs that are there are not repeated
"""

import dataclasses
from pathlib import Path
from typing import Any

import campaign
from rich.console import Console

from limbeck import runs
from limbeck.runs import RunConfig

MAPS: dict[str, tuple[str, dict[str, Any], int]] = {
    "3m, sight 2": ("smac/3m", {"sight_range": 2.0}, 100_000),
    "3s_vs_5z": ("smac/3s_vs_5z", {}, 600_000),
}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "QMIX": ("qmix", {}),
    "DDN": ("ddn", {}),
    "PTDE": ("ptde", {}),
    "CTDS": ("ctds", {}),
    "IGM-DA": ("igm-da", {}),
    "IGM-BC": ("igm-da", {"variant": "bc"}),
}
PUBLISHED = {
    ("DDN", "3s_vs_5z"): "97, 93",
    ("PTDE", "3s_vs_5z"): "99, 89",
    ("QMIX", "3s_vs_5z"): "13",
}
"""teacher, student: from the papers' tables, after 2M steps in the real game"""


@dataclasses.dataclass(frozen=True)
class Options(campaign.Plan):
    """What the reproduction can be told."""

    out: str = "runs/students_table"
    maps: tuple[str, ...] = tuple(MAPS)
    worlds: int = 16
    student_updates: int = 20_000
    """of PTDE's student"""


def main(options: Options) -> None:
    console = Console()
    found: dict[tuple[str, str], list[dict[str, dict]]] = {}
    for seed in options.every_seed:
        for battle in options.maps:
            for name in METHODS:
                found.setdefault((battle, name), []).append(both(name, battle, seed, options, console))
    rows = []
    for (battle, name), seeds in found.items():
        row = [battle, name]
        for policy in ("teacher", "student"):
            known = [100 * each[policy]["win_rate"] for each in seeds if policy in each]
            row.append(campaign.cell(known) if known else "-")
        students, teachers = ([each[policy] for each in seeds if policy in each] for policy in ("student", "teacher"))
        row.append(campaign.percent(campaign.kept(students, teachers), ""))
        rows.append([*row, PUBLISHED.get((name, battle), "-")])
    head = ["battle", "method", "teacher wins, %", "student wins, %", "kept, %", "*published*"]
    campaign.write(options.page, campaign.markdown(head, rows), "students", console)


def both(name: str, battle: str, seed: int, options: Options, console: Console) -> dict[str, dict]:
    """Teacher and student of a method; QMIX is a student without a teacher."""
    method, settings = METHODS[name]
    env, world, steps = MAPS[battle]
    path = Path(options.out) / f"{name}-{env.replace('/', '-')}-{steps}-{seed}"
    common: dict[str, Any] = {"seed": seed, "worlds": options.worlds, "evaluations": 2, "checkpoint_seconds": 600.0}
    config = RunConfig(method, env, env_settings=world, settings=settings, steps=steps, **common)
    found = campaign.judged(config, path, options.episodes, console)
    if method == "ptde":
        student = path.with_name(f"{path.name}-student")
        config = runs.of_student(path, settings={"updates": options.student_updates}, **common)
        return campaign.judged(config, student, options.episodes, console)
    return {"student": found["greedy"]} if "greedy" in found else found


if __name__ == "__main__":
    campaign.start(main, Options)
