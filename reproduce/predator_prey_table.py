"""Predator and prey: VDN, QPLEX and weighted QMIX, each by itself and as the base of DDN; a table, and curves.

python reproduce/predator_prey_table.py            about an hour on two cores; runs that are there are not repeated
"""

import dataclasses
from pathlib import Path
from typing import Any

import campaign
from rich.console import Console

from limbeck.envs import registry
from limbeck.envs.hunters import baselines
from limbeck.evaluate import evaluate
from limbeck.plots import learning_curves
from limbeck.runs import RunConfig

BASES = ("vdn", "qplex", "cw-qmix")


@dataclasses.dataclass(frozen=True)
class Options(campaign.Plan):
    """What the reproduction can be told."""

    out: str = "runs/predator_prey_table"
    env: str = "predator_prey/8v8"
    steps: int = 1_000_000
    worlds: int = 64
    updates: int = 2
    """per 32 steps of all worlds"""
    eps_steps: int = 600_000
    """over which exploration falls: after the usual 50,000, all have learned never to catch"""
    penalty: float = -2.0
    picture: str | None = None
    """where the curves go; None: into `out`"""


def main(options: Options) -> None:
    console = Console()
    found: dict[str, list[dict[str, dict]]] = {}
    curves: dict[str, list[list[dict[str, Any]]]] = {}
    for seed in options.every_seed:
        for base in BASES:
            for method in (base, "ddn"):
                name = base if method == base else f"{base} + DDN"
                path = Path(options.out) / f"{name.replace(' + ', '-')}-{seed}"
                found.setdefault(name, []).append(
                    campaign.judged(config(method, base, seed, options), path, options.episodes, console)
                )
                curves.setdefault(name, []).append(campaign.metrics(path))
    rows = [[name, *cells(seeds)] for name, seeds in found.items()]
    env = registry.make(options.env, penalty=options.penalty)
    scripts: Any = baselines(env)
    for row in evaluate(env, scripts, options.episodes).rows:
        rows.append([f"*{row['name']}*, by script", "-", f"{row['return']:.1f}"])
    picture = Path(options.picture or f"{options.out}/curves.png")
    learning_curves(curves, picture, "test_return", title="predator and prey, greedy student")
    head = ["method", "teacher's return", "student's return"]
    campaign.write(options.page, campaign.markdown(head, rows), "predator-prey", console)


def config(method: str, base: str, seed: int, options: Options) -> RunConfig:
    """A run with limbeck's defaults, but for the rhythm of updates, which suits many worlds."""
    return RunConfig(
        method,
        options.env,
        env_settings={"penalty": options.penalty},
        settings={"mixer": base, "updates": options.updates, "eps_steps": options.eps_steps},
        steps=options.steps,
        seed=seed,
        worlds=options.worlds,
        evaluations=20,
        checkpoint_seconds=600.0,
    )


def cells(seeds: list[dict[str, dict]]) -> list[str]:
    """Teacher and student; a base is a student without a teacher."""
    teachers = [each["teacher"]["return"] for each in seeds if "teacher" in each]
    students = [(each.get("student") or each["greedy"])["return"] for each in seeds]
    return [campaign.cell(teachers, 1) if teachers else "-", campaign.cell(students, 1)]


if __name__ == "__main__":
    campaign.start(main, Options)
