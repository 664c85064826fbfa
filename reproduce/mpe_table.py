"""Returns in the particle worlds: random play, teams by script, and what methods learn; a table.

python reproduce/mpe_table.py --page docs/worlds.md            minutes on one core; runs that are there are not repeated
"""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import campaign
import jax.numpy as jnp
import numpy as np
from jax import Array
from rich.console import Console

from limbeck.envs import registry
from limbeck.envs.mpe.particles import FRICTION, MOVES, SECONDS, WILL, length
from limbeck.evaluate import AT_RANDOM, evaluate
from limbeck.runs import RunConfig
from limbeck.types import Decision, Policy

N = 3
WORLDS = ("simple_spread", "simple_reference", "simple_speaker_listener")
ORDERS = np.array(list(itertools.permutations(range(N))))


@dataclasses.dataclass(frozen=True)
class Run:
    """One cell of the table."""

    world: str
    method: str
    steps: int
    worlds: int
    settings: dict[str, Any]


VDN = {"segment": 25, "updates": 4}
MAPPO = {"segment": 25, "chunk": 25, "lr": 1e-3, "critic_lr": 1e-3, "gamma": 0.9}
RUNS = (
    Run("simple_spread", "vdn", 400_000, 32, VDN),
    Run("simple_spread", "vdn", 400_000, 32, VDN | {"gamma": 0.9}),
    Run("simple_spread", "mappo", 400_000, 32, MAPPO),
    Run("simple_spread", "mappo", 2_000_000, 128, MAPPO),
    Run("simple_spread", "mappo", 10_000_000, 128, MAPPO | {"gamma": 0.95, "epochs": 10}),
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the reproduction can be told."""

    out: str = "runs/mpe_table"
    seed: int = 0
    episodes: int = 2048
    page: str | None = None
    """a page (docs/worlds.md) between whose markers the table goes; None: print it only"""


def main(options: Options) -> None:
    console = Console()
    rows = []
    for world in WORLDS:
        env = registry.make(f"mpe/{world}")
        teams = {"random play": AT_RANDOM} | (scripts() if world == "simple_spread" else {})
        for row in evaluate(env, teams, options.episodes).rows:
            rows.append([f"`{world}`", row["name"], "-", cell(row)])
        for run in (each for each in RUNS if each.world == world):
            gamma = run.settings.get("gamma", 0.99)
            path = Path(options.out) / f"{run.world}-{run.method}-{gamma}-{run.steps}-{options.seed}"
            config = RunConfig(
                run.method,
                f"mpe/{world}",
                settings=run.settings,
                steps=run.steps,
                seed=options.seed,
                worlds=run.worlds,
                evaluations=10,
            )
            found = campaign.played(config, path, options.episodes, console)
            rows.append([f"`{world}`", f"{run.method}, gamma {gamma}", f"{run.steps:,}", cell(found)])
    head = ["world", "team", "steps", "return, 95 % interval over episodes"]
    campaign.write(options.page, campaign.markdown(head, rows), "mpe", console)


def cell(row: dict[str, Any]) -> str:
    """A return and its interval."""
    return f"{row['return']:.1f} [{row['return_ci'][0]:.1f}, {row['return_ci'][1]:.1f}]"


# -- teams by script, for simple_spread ------------------------------------------------------------------------------------


def scripts() -> dict[str, tuple[Policy, dict]]:
    """Nobody goes anywhere; each to its nearest landmark; agent i to landmark i; all so that the sum of their ways is shortest."""
    own = jnp.arange(N)

    def nowhere(landmarks: Array) -> Array:
        return jnp.zeros_like(landmarks[:, :, 0])

    def nearest(landmarks: Array) -> Array:
        return jnp.take_along_axis(landmarks, length(landmarks).argmin(-1)[..., None, None], axis=2)[:, :, 0]

    def numbered(landmarks: Array) -> Array:
        return landmarks[:, own, own]

    def dealt_out(landmarks: Array) -> Array:
        ways = length(landmarks)
        # All see the same landmarks and each other, so each could work this out; here all the observations are read at once.
        order = jnp.asarray(ORDERS)[jnp.stack([ways[:, own, each].sum(-1) for each in ORDERS], -1).argmin(-1)]
        return jnp.take_along_axis(landmarks, order[:, :, None, None], axis=2)[:, :, 0]

    found = {
        "nobody goes anywhere": nowhere,
        "each to its nearest landmark": nearest,
        "agent i to landmark i": numbered,
        "shortest ways": dealt_out,
    }
    return {f"script, {name}": _policy(target) for name, target in found.items()}


def _policy(target: Callable[[Array], Array]) -> tuple[Policy, dict]:
    def act(params: Any, carry: Any, decision: Decision, key: Array, explore: Array) -> tuple[Array, Any]:
        obs = decision.obs
        landmarks = obs[..., 4 : 4 + 2 * N].reshape(*obs.shape[:-1], N, 2)
        return towards(target(landmarks), obs[..., :2]).astype(jnp.int32), carry

    return Policy(act, ("obs", "avail_actions"), lambda params: params, lambda worlds: ()), {}


def towards(goal: Array, velocity: Array) -> Array:
    """The move after which a particle that only coasts comes to rest nearest to the goal."""
    then = (1 - FRICTION) * velocity[..., None, :] + SECONDS * WILL * jnp.asarray(MOVES)[None, None]
    rest = goal[..., None, :] - SECONDS * velocity[..., None, :] - SECONDS / FRICTION * then
    return length(rest).argmin(-1)


if __name__ == "__main__":
    campaign.start(main, Options)
