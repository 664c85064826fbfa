"""Steps per second of worlds that others have written: their own loop, the same in limbeck's hands, and the collector's share.

For each number of processes: as many that run the world's own loop, all at once; then the collector with so many, each with one or
several worlds, where the learner acts, and where the workers do, a segment ahead; in turns, so that a machine that is busy with
other things slows all of them. The share is the median of rounds' ratios.

    python reproduce/doors_speed.py                    six minutes; `taskset -c 0` in front of it keeps it on one core
    python reproduce/doors_speed.py --worlds football/academy_3_vs_1_with_keeper football/academy_counterattack_hard

The packages have to be there: pip install 'limbeck[pettingzoo,lbf,rware]', and what football's script builds. All actions are
random and legal.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor as Pool
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import product
from multiprocessing import get_context
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import limbeck as lb
from limbeck import acting
from limbeck.envs.acting import ActingWorkers
from limbeck.envs.adapters.team import Team
from limbeck.envs.football.game import ACTIONS, Game
from limbeck.envs.host import HostEnv
from limbeck.envs.worker import build
from limbeck.envs.workers import Workers
from limbeck.errors import in_one_line
from limbeck.hosted import collect, compiled, start

SEGMENT = 50


@dataclass(frozen=True)
class Options:
    """What the measurement can be told."""

    worlds: tuple[str, ...] = ("lbf:Foraging-8x8-2p-2f-coop-v3", "rware:rware-tiny-2ag-v2", "pettingzoo:mpe2.simple_spread_v3")
    workers: tuple[int, ...] = (1, 2, 4)
    per_process: tuple[int, ...] = (1, 8)
    """worlds that share a process"""
    acting: tuple[str, ...] = ("learner", "workers")
    """who computes the actions"""
    seconds: float = 2.0
    """of each stretch"""
    rounds: int = 5
    """stretches of each kind; the middle one counts"""


def rate(work: Callable[[], int], seconds: float) -> float:
    """Steps per second; `work` makes some steps, and says how many."""
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        steps += work()
    return steps / (time.perf_counter() - begun)


@cache
def loop(name: str, own: bool) -> Callable[[], int]:
    """The world of this process, its first episode behind it: in its own loop, or in limbeck's hands."""
    env, chance = lb.make(name), np.random.default_rng(os.getpid())
    assert isinstance(env, HostEnv)
    world = build(env.factory, dict(env.settings))
    bare = bare_match if isinstance(world, Game) else bare_team
    work = (bare if own else adapted)(world, chance)
    work()
    return work


def timed(name: str, own: bool, seconds: float) -> float:
    """A stretch of it, for a process of a pool. None at all, if no seconds are given: it is only made ready."""
    work = loop(name, own)
    return rate(work, seconds) if seconds else 0.0


def bare_match(game: Game, chance: np.random.Generator) -> Callable[[], int]:
    """Whole episodes of the football engine, up to the same time limit, and drawn as `Game.reset` draws them.

    It is an eighth slower where the other team is computed first, and by itself does that in all episodes or in none.
    """

    def episode() -> int:
        game._config["game_engine_random_seed"] = seed = int(chance.integers(2**31))
        game._config["reverse_team_processing"] = bool(seed % 2)
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


def adapted(team: Any, chance: np.random.Generator) -> Callable[[], int]:
    """Whole episodes in limbeck's hands, in this process."""

    def episode() -> int:
        team.reset(int(chance.integers(2**31)))
        steps, over = 0, False
        while not over:
            avail = team.observe()[2]
            _, terminated, truncated, _ = team.step(np.where(avail, chance.random(avail.shape), -1).argmax(-1))
            steps, over = steps + 1, terminated or truncated
        return steps

    return episode


def act_at_random(params, carry, decision, key, explore):
    noise = jax.random.uniform(key, decision.avail_actions.shape)
    return jnp.where(decision.avail_actions, noise, -1.0).argmax(-1), carry


class Collector:
    """The learner's collector in n worlds; `stack` ends their processes."""

    def __init__(self, env: HostEnv, n: int, stack: ExitStack):
        key, carry = jax.random.key(0), jnp.zeros((n, env.spec.n_agents))
        self._known, self._act = acting.Known((), key, 0.0), compiled(act_at_random)
        if env.acting == "workers":
            self._workers = acting.start_workers(env, n, 0, act_at_random, self._known, carry, SEGMENT, ahead=True)
        else:
            self._workers = Workers(env, n, 0)
        self._worlds = start(stack.enter_context(self._workers), carry)
        if isinstance(self._workers, ActingWorkers):
            acting.send(self._workers, self._known, self._worlds)

    def segment(self) -> int:
        """One of every world, with a chance of its own; how many steps that is."""
        self._known = self._known._replace(key=jax.random.fold_in(self._known.key, 0))
        if isinstance(self._workers, ActingWorkers):
            acting.send(self._workers, self._known)
            self._worlds, *_ = acting.collect(self._workers, self._worlds)
        else:
            self._worlds, *_ = collect(self._workers, self._act, (), self._worlds, self._known.key, 0.0, SEGMENT)
        return SEGMENT * self._workers.n

    def stretch(self, seconds: float) -> float:
        """Steps per second."""
        self.segment()  # workers that act have played it while nobody looked
        speed = rate(self.segment, seconds)
        self._workers.first([slice(None)])  # they leave the cores to the next stretch
        return speed


def measured(name: str, n: int, options: Options) -> list[tuple[str, list[float]]]:
    """By worlds in each of n processes, and who acts: own loop and limbeck's, one in each process; collector; its share of each."""
    found: dict[tuple[int, str], list[list[float]]] = {each: [] for each in product(options.per_process, options.acting)}
    with ExitStack() as stack:
        pools = [stack.enter_context(Pool(1, mp_context=get_context("spawn"))) for _ in range(n)]  # each has to have a world
        work = {}
        for each in found:
            env = lb.make(name, per_process=each[0], acting=each[1])
            assert isinstance(env, HostEnv)
            work[each] = Collector(env, n * each[0], stack)
        for turn in range(options.rounds + 1):  # the first is to get ready
            seconds = options.seconds if turn else 0.0
            loops = [sum(each.result() for each in [p.submit(timed, name, own, seconds) for p in pools]) for own in (True, False)]
            for each, rounds in found.items():
                collects = work[each].stretch(seconds)
                if turn:
                    rounds.append([*loops, collects, collects / loops[0], collects / loops[1]])
    return [(f"{n} x {each}, {who}", list(np.median(rounds, axis=0))) for (each, who), rounds in found.items()]


def main(options: Options) -> None:
    """Prints the table."""
    head = ("world", "processes x worlds, who acts", "own loops", "in limbeck", "collector", "of own loops", "of limbeck's")
    table = Table(*head, title="steps per second")
    for name in options.worlds:
        for n in options.workers:
            for processes, (*rates, of_own, of_ours) in measured(name, n, options):
                table.add_row(name, processes, *(f"{each:,.0f}" for each in rates), f"{of_own:.0%}", f"{of_ours:.0%}")
    Console(width=120).print(table)


if __name__ == "__main__":
    with in_one_line("doors_speed"):
        main(tyro.cli(Options))
