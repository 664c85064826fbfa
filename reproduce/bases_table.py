"""All value-decomposition bases on four battles, three seeds, the same budget for all, as docs/results.md shows them.

    python reproduce/bases_table.py                    hours on two cores; runs that are there already are not repeated

Each run is an ordinary run folder under `runs/bases_table`. The last evaluation has 512 greedy episodes per seed.
"""

import dataclasses
from pathlib import Path

import campaign
from rich.console import Console

from limbeck.methods.bases import BASES
from limbeck.runs import RunConfig

STEPS = {"smac/3s_vs_5z": 300_000, "smac/2s3z": 150_000, "smac/5m_vs_6m": 200_000, "smac/3s5z_vs_3s6z": 50_000}
# Hu et al. 2021 (pymarl2's README): the real game, fine-tuned, 10M steps, medians. No number was published for the others.
PUBLISHED = {
    "smac/3s_vs_5z": {"qmix": 100, "vdn": 100, "qatten": 100, "qplex": 100, "ow-qmix": 100},
    "smac/5m_vs_6m": {"qmix": 90, "vdn": 90, "qatten": 90, "qplex": 90, "ow-qmix": 90},
    "smac/3s5z_vs_3s6z": {"qmix": 75, "vdn": 43, "qatten": 62, "qplex": 68, "ow-qmix": 56},
}


@dataclasses.dataclass(frozen=True)
class Options(campaign.Battles):
    """What the reproduction can be told."""

    out: str = "runs/bases_table"
    maps: tuple[str, ...] = tuple(STEPS)
    worlds: int = 32
    methods: tuple[str, ...] = tuple(BASES)


def main(options: Options) -> None:
    console = Console()
    found: dict[tuple[str, str], list[dict]] = {}
    for seed in options.every_seed:
        for name in options.maps:
            for method in options.methods:
                path = Path(options.out) / f"{method}-{name.replace('/', '-')}-{seed}"
                steps = STEPS[name] // options.shorten
                config = RunConfig(
                    method, name, steps=steps, seed=seed, worlds=options.worlds, evaluations=2, checkpoint_seconds=600.0
                )
                found.setdefault((method, name), []).append(campaign.played(config, path, options.episodes, console))
    wins, returns = table(found, options, "win_rate", 100.0), table(found, options, "return", 1.0)
    campaign.write(options.page, f"Win rate, %:\n\n{wins}\n\nReturn:\n\n{returns}", "bases", console)


def table(found: dict[tuple[str, str], list[dict]], options: Options, what: str, scale: float) -> str:
    """A row per method. Win rates have the published ones beside them."""
    published = what == "win_rate"
    head = ["method"]
    for name in options.maps:
        head.append(f"{name.removeprefix('smac/')}, {STEPS[name] // options.shorten // 1000}k steps")
        head += ["*published*"] * (published and name in PUBLISHED)
    rows = []
    for method in options.methods:
        row = [method]
        for name in options.maps:
            row.append(campaign.cell([scale * each[what] for each in found[method, name]], 0 if published else 1))
            if published and name in PUBLISHED:
                row.append(f"*{PUBLISHED[name][method]}*" if method in PUBLISHED[name] else "-")
        rows.append(row)
    return campaign.markdown(head, rows)


if __name__ == "__main__":
    campaign.start(main, Options)
