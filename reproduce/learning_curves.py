"""Learning curves of QMIX, the PTDE teacher and its student on five battles, three seeds each, as docs/results.md shows them.

    python reproduce/learning_curves.py                hours on two cores; runs that are there already are not repeated

Each run is an ordinary run folder under `runs/learning_curves`, with an evaluation in 32 greedy episodes ten times on its way. The
last one has 512.
"""

import dataclasses
from pathlib import Path
from typing import Any

import campaign
from rich.console import Console

from limbeck import runs
from limbeck.plots import Panel, draw
from limbeck.runs import RunConfig

STEPS = {
    "smac/2s_vs_1sc": 1_000_000,
    "smac/3s5z": 100_000,
    "smac/MMM2": 100_000,
    "smac/3s5z_vs_3s6z": 100_000,
    "smac/6h_vs_8z": 100_000,
}
METHODS = {"qmix": "QMIX", "ptde": "PTDE teacher", "ptde-student": "PTDE student"}


@dataclasses.dataclass(frozen=True)
class Options(campaign.Battles):
    """What the reproduction can be told."""

    out: str = "runs/learning_curves"
    maps: tuple[str, ...] = tuple(STEPS)
    worlds: int = 32
    student_updates: int = 10_000
    picture: str | None = None
    """where the curves go; None: into `out`"""


def main(options: Options) -> None:
    console = Console()
    found: dict[tuple[str, str], list[dict]] = {}
    for seed in options.every_seed:
        for name in options.maps:
            for method in METHODS:
                path = folder(method, name, seed, options)
                row = campaign.played(config(method, name, seed, options), path, options.episodes, console)
                found.setdefault((name, method), []).append(row)
    draw(panels(options), Path(options.picture or f"{options.out}/curves.png"), size=(3.6, 2.8))
    campaign.write(options.page, table(found, options), "curves", console)


def folder(method: str, name: str, seed: int, options: Options) -> Path:
    """Where a run is kept."""
    return Path(options.out) / f"{method}-{name.replace('/', '-')}-{seed}"


def config(method: str, name: str, seed: int, options: Options) -> RunConfig:
    """What is run: the methods' defaults, for the same number of steps."""
    common: dict[str, Any] = {
        "seed": seed, "worlds": options.worlds, "evaluations": 10, "evaluation_episodes": 32, "checkpoint_seconds": 600.0,
    }  # fmt: skip
    if method != "ptde-student":
        return RunConfig(method, name, steps=STEPS[name] // options.shorten, **common)
    updates = {"updates": options.student_updates // options.shorten}
    return runs.of_student(folder("ptde", name, seed, options), settings=updates, **common)


def panels(options: Options) -> list[list[Panel]]:
    """A row for what wins, one for what is returned, and one for the students, each with a panel per battle."""

    def curves(name: str, *methods: str) -> dict[str, list]:
        seeds = options.every_seed
        return {METHODS[m]: [campaign.metrics(folder(m, name, seed, options)) for seed in seeds] for m in methods}

    return [
        *campaign.panels({name: curves(name, "qmix", "ptde") for name in options.maps}, "test_win_rate", "test_return"),
        [Panel(curves(name, "ptde-student"), "test_return", "updates") for name in options.maps],
    ]


def table(found: dict[tuple[str, str], list[dict]], options: Options) -> str:
    """Markdown: at the end, wins in percent and returns, of each method."""
    head = ["map", "steps", *(f"{title}: {what}" for title in METHODS.values() for what in ("wins, %", "return"))]
    rows = []
    for name in options.maps:
        row = [name, f"{STEPS[name] // options.shorten:,}"]
        for method in METHODS:
            seeds = found[name, method]
            row += [campaign.cell([100 * each["win_rate"] for each in seeds]), campaign.cell([each["return"] for each in seeds], 1)]
        rows.append(row)
    return campaign.markdown(head, rows)


if __name__ == "__main__":
    campaign.start(main, Options)
