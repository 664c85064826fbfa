"""The forms of PTDE's personalising module side by side: size, operations, speed and win rate of the teacher.

    python reproduce/personalisers_table.py            about half an hour on two cores; runs that are there are not repeated

The battle is the demo's: 3m with a sight range of 2, where agents see too little to win by themselves.
"""

import dataclasses
from pathlib import Path

import campaign
import jax
from rich.console import Console

from limbeck import runs
from limbeck.cost import cost
from limbeck.methods.ptde import PERSONALISERS
from limbeck.runs import RunConfig


@dataclasses.dataclass(frozen=True)
class Options(campaign.Plan):
    """What the reproduction can be told."""

    out: str = "runs/personalisers_table"
    env: str = "smac/3m"
    sight_range: float = 2.0
    steps: int = 150_000
    worlds: int = 16


def main(options: Options) -> None:
    console = Console()
    found: dict[str, list[dict]] = {}
    for seed in options.every_seed:
        for form in PERSONALISERS:
            path = Path(options.out) / f"{form}-{seed}"
            found.setdefault(form, []).append(campaign.played(config(form, seed, options), path, options.episodes, console))
    rows = []
    slowest = min(each["seconds"] for each in found["gip"])
    for form in PERSONALISERS:
        run = runs.load(Path(options.out) / f"{form}-0")
        policy, params = run.policy()
        spent = cost(policy, jax.tree.map(jax.numpy.asarray, params), runs.make_env(run.config).spec)
        speed = slowest / min(each["seconds"] for each in found[form])
        wins = campaign.cell([100 * each["win_rate"] for each in found[form]])
        rows.append([form, f"{spent.parameters:,}", f"{spent.flops:,.0f}", f"{speed:.2f}", wins])
    head = ["personaliser", "parameters", "FLOPs per decision", "training speed, gip = 1", "teacher's win rate, %"]
    campaign.write(options.page, campaign.markdown(head, rows), "personalisers", console)


def config(form: str, seed: int, options: Options) -> RunConfig:
    """A teacher with limbeck's defaults."""
    return RunConfig(
        "ptde",
        options.env,
        env_settings={"sight_range": options.sight_range},
        settings={"personaliser": form},
        steps=options.steps,
        seed=seed,
        worlds=options.worlds,
        evaluations=3,
        checkpoint_seconds=600.0,
    )


if __name__ == "__main__":
    campaign.start(main, Options)
