"""Win rates of VDN, QMIX, the PTDE teacher and its student on four battles, three seeds each, as docs/results.md shows them.

    python reproduce/smac_table.py                     about an hour on two cores; runs that are there already are not repeated

Each run is an ordinary run folder under `runs/smac_table`. The last evaluation has 512 greedy episodes per seed.
"""

import dataclasses
from pathlib import Path
from typing import Any

import campaign
from rich.console import Console

from limbeck import runs
from limbeck.runs import RunConfig

STEPS = {"smac/3s_vs_5z": 600_000, "smac/3m": 300_000, "smac/2s3z": 150_000, "smac/5m_vs_6m": 100_000}
LONG = {"smac/3m": 1_000_000}
"""QMIX alone, until it has learned the map"""
METHODS = ("vdn", "qmix", "ptde", "ptde-student")
TITLES = {"vdn": "VDN", "qmix": "QMIX", "ptde": "PTDE teacher", "ptde-student": "PTDE student"}
PUBLISHED = {
    # Chen et al., arXiv 2210.08872, table 2: the real game, 2.05M steps, 3 seeds.
    "smac/3s_vs_5z": {"qmix": "12.8 ± 16.5", "ptde": "99.2 ± 0.6", "ptde-student": "88.7 ± 2.7"},
    "smac/5m_vs_6m": {"qmix": "58.6 ± 6.8", "ptde": "80.6 ± 0.8", "ptde-student": "69.0 ± 8.8"},
}


@dataclasses.dataclass(frozen=True)
class Options(campaign.Battles):
    """What the reproduction can be told."""

    out: str = "runs/smac_table"
    maps: tuple[str, ...] = tuple(STEPS)
    worlds: int = 16


def main(options: Options) -> None:
    console = Console()
    found: dict[tuple[str, str], list[dict]] = {}
    for name in options.maps:
        for seed in options.every_seed:
            for method in METHODS:
                path = Path(options.out) / f"{method}-{name.replace('/', '-')}-{seed}"
                found.setdefault((name, method), []).append(one(name, method, seed, path, options, console))
        for seed in options.every_seed if name in LONG else ():
            path = Path(options.out) / f"qmix-{name.replace('/', '-')}-long-{seed}"
            found.setdefault((name, "long"), []).append(one(name, "qmix", seed, path, options, console, LONG[name]))
    campaign.write(options.page, table(found, options), "results", console)


def one(name: str, method: str, seed: int, path: Path, options: Options, console: Console, steps: int | None = None) -> dict:
    """A run and its evaluation, unless they are there."""
    return campaign.played(config(name, method, seed, options, steps or STEPS[name]), path, options.episodes, console)


def config(name: str, method: str, seed: int, options: Options, steps: int) -> RunConfig:
    """What is run: the methods' defaults, for the same number of steps."""
    common: dict[str, Any] = {"seed": seed, "worlds": options.worlds, "checkpoint_seconds": 600.0}
    if method != "ptde-student":
        return RunConfig(method, name, steps=steps // options.shorten, evaluations=5, **common)
    teacher = Path(options.out) / f"ptde-{name.replace('/', '-')}-{seed}"
    return runs.of_student(teacher, evaluations=2, settings={"updates": 20_000}, **common)


def table(found: dict[tuple[str, str], list[dict]], options: Options) -> str:
    """Markdown: mean over seeds with a 95 % interval (bootstrap over seeds), and each seed."""
    head = ["map", "steps", *(TITLES[m] for m in METHODS), "student / teacher"]
    rows = []
    for name in options.maps:
        cells = [cell([row["win_rate"] for row in found[name, m]]) for m in METHODS]
        kept = campaign.percent(campaign.kept(found[name, "ptde-student"], found[name, "ptde"]))
        rows.append([name, f"{STEPS[name] // options.shorten:,}", *cells, kept])
        if name in LONG:
            rates = [row["win_rate"] for row in found[name, "long"]]
            rows.append([name, f"{LONG[name] // options.shorten:,}", "-", cell(rates), "-", "-", "-"])
        if name in PUBLISHED:
            paper = [PUBLISHED[name].get(m, "-") for m in METHODS]
            rows.append(["*the paper, real game*", "2,050,000", *paper, "-"])
    return campaign.markdown(head, rows)


def cell(rates: list[float]) -> str:
    """Percent."""
    return campaign.cell([100 * rate for rate in rates])


if __name__ == "__main__":
    campaign.start(main, Options)
