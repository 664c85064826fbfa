"""MAPPO on battles: what limbeck's defaults win there, and what more updates with larger steps do; three seeds.

    python reproduce/mappo_table.py --page docs/results.md       minutes a run on one core; runs that are there are not repeated

Each run is an ordinary run folder under `runs/mappo_table`.
"""

import dataclasses
from pathlib import Path

import campaign
from rich.console import Console

from limbeck.methods.mappo import PRESETS
from limbeck.runs import RunConfig

STEPS = {"smac/3m": 1_000_000, "smac/2s3z": 1_000_000}
RECIPES = {"defaults": {}, "battle": PRESETS["battle"]}


@dataclasses.dataclass(frozen=True)
class Options(campaign.Battles):
    """What the reproduction can be told."""

    out: str = "runs/mappo_table"
    maps: tuple[str, ...] = tuple(STEPS)
    worlds: int = 32


def main(options: Options) -> None:
    console = Console()
    lines = []
    for name in options.maps:
        steps = STEPS[name] // options.shorten
        wins = [
            campaign.cell([100 * won(name, steps, recipe, seed, options, console) for seed in options.every_seed])
            for recipe in RECIPES
        ]
        lines.append([name, f"{steps:,}", *wins])
    head = ["map", "steps", "limbeck's defaults", "`--preset battle`"]
    campaign.write(options.page, campaign.markdown(head, lines), "mappo", console)


def won(name: str, steps: int, recipe: str, seed: int, options: Options, console: Console) -> float:
    """The share of greedy episodes."""
    path = Path(options.out) / f"{recipe}-{name.replace('/', '-')}-{steps}-{seed}"
    often = {"evaluations": 10, "evaluation_episodes": 64, "checkpoint_seconds": 600.0}
    config = RunConfig("mappo", name, settings=RECIPES[recipe], steps=steps, seed=seed, worlds=options.worlds, **often)
    return campaign.played(config, path, options.episodes, console)["win_rate"]


if __name__ == "__main__":
    campaign.start(main, Options)
