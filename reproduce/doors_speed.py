"""Steps per second of worlds that others have written: their own loop, the same in limbeck's hands, the collector's by workers.

    python reproduce/doors_speed.py                    a minute; `taskset -c 0` in front of it keeps it on one core
    python reproduce/doors_speed.py --worlds football/academy_3_vs_1_with_keeper football/academy_counterattack_hard

The packages have to be there: pip install 'limbeck[pettingzoo,lbf,rware]', and what football's script builds. All actions are
random and legal.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import limbeck as lb
from limbeck.envs.adapters.team import Team
from limbeck.envs.football.game import ACTIONS, Game
from limbeck.envs.host import HostEnv
from limbeck.envs.worker import build
from limbeck.envs.workers import Workers
from limbeck.hosted import collect, compiled, start

SEGMENT = 50


@dataclass(frozen=True)
class Options:
    """What the measurement can be told."""

    worlds: tuple[str, ...] = ("lbf:Foraging-8x8-2p-2f-coop-v3", "rware:rware-tiny-2ag-v2", "pettingzoo:mpe2.simple_spread_v3")
    workers: tuple[int, ...] = (1, 2, 4)
    seconds: float = 2.0
    """of each of three stretches, of which the middle one counts"""


def rate(work: Callable[[], int], seconds: float) -> float:
    """Steps per second; `work` makes some steps, and says how many."""
    work()
    found = []
    for _ in range(3):
        begun, steps = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            steps += work()
        found.append(steps / (time.perf_counter() - begun))
    return sorted(found)[1]


def bare(env: HostEnv, seconds: float) -> float:
    """The environment's own loop: whatever its interface, nothing is read but the flags."""
    world, chance = build(env.factory, dict(env.settings)), np.random.default_rng(0)
    return rate(bare_match(world, chance) if isinstance(world, Game) else bare_team(world, chance), seconds)


def bare_match(game: Game, chance: np.random.Generator) -> Callable[[], int]:
    """Whole episodes of the football engine, up to the same time limit."""

    def episode() -> int:
        game._config["game_engine_random_seed"] = int(chance.integers(2**31))
        game._core.reset()
        steps, over = 0, False
        while not over and steps < game._limit:
            _, _, over, _ = game._core.step([int(chance.integers(ACTIONS)) for _ in game._agents])
            steps += 1
        return steps

    return episode


def bare_team(team: Team, chance: np.random.Generator) -> Callable[[], int]:
    """Whole episodes of the environment behind a door."""
    table, own = team._table, team._table.env
    names = getattr(own, "possible_agents", None)

    def episode() -> int:
        own.reset(seed=int(chance.integers(2**31)))
        steps, over = 0, False
        while not over:
            action = [int(chance.integers(space.n)) for space in table.acts]
            _, _, ended, late, _ = own.step(dict(zip(names, action, strict=True)) if names else action)
            steps, over = steps + 1, not own.agents if names else ended or late
        return steps

    return episode


def adapted(env: HostEnv, seconds: float) -> float:
    """The same in limbeck's hands, in this process."""
    team, chance = build(env.factory, dict(env.settings)), np.random.default_rng(0)

    def episode() -> int:
        team.reset(int(chance.integers(2**31)))
        steps, over = 0, False
        while not over:
            avail = team.observe()[2]
            _, terminated, truncated, _ = team.step(np.where(avail, chance.random(avail.shape), -1).argmax(-1))
            steps, over = steps + 1, terminated or truncated
        return steps

    return rate(episode, seconds)


def act_at_random(params, carry, decision, key, explore):
    noise = jax.random.uniform(key, decision.avail_actions.shape)
    return jnp.where(decision.avail_actions, noise, -1.0).argmax(-1), carry


def collected(env: HostEnv, workers: int, seconds: float) -> float:
    """The learner's collector, with so many workers."""
    act = compiled(act_at_random)
    with Workers(env, workers, 0) as processes:
        worlds = start(processes, jnp.zeros((workers, env.spec.n_agents)))

        def segment() -> int:
            nonlocal worlds
            worlds, *_ = collect(processes, act, (), worlds, jax.random.key(0), 0.0, SEGMENT)
            return SEGMENT * workers

        return rate(segment, seconds)


def main(options: Options) -> None:
    """Prints the table."""
    table = Table("world", "its own loop", "in limbeck", *(f"{n} workers" for n in options.workers), title="steps per second")
    for name in options.worlds:
        env = lb.make(name)
        rates = [bare(env, options.seconds), adapted(env, options.seconds)]
        rates += [collected(env, n, options.seconds) for n in options.workers]
        table.add_row(name, *(f"{each:,.0f}" for each in rates))
    Console(width=120).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
