"""Where a battle's time goes: how much faster a step is without one of its stages. docs/smac_rules.md shows the table.

python reproduce/battle_times.py                   some ten minutes on two cores, nearly all of it compilation

Random legal play on one core, as in `reproduce/smax_speed.py`. A stage is replaced by one that leaves everything as it is, the
program compiled anew, and both measured in turns. Stages are computed for all units whatever happens in the battle, so that what a
battle comes to without one of them does not matter. Shares need not sum to 100: kernels of several stages are merged.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import campaign
import jax
import jax.numpy as jnp
from rich.console import Console

from limbeck.envs import registry
from limbeck.envs.base import AutoReset
from limbeck.envs.smac import engine, opponent

STAGES: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "the opponent's choice of targets": (opponent, "retarget", lambda facts, now, aim, struck: now.target[facts.enemies]),
    "bodies pushed apart": (engine, "push", lambda facts, now, strides: jnp.zeros_like(now.pos)),
    "kept on walkable ground": (engine, "confine", lambda facts, pos: pos),
    "hits and recovery": (engine, "damage", lambda facts, now, aim, struck: (now.health, now.shield, now.unhurt)),
    "where targets stand": (engine, "aims", lambda facts, now: now.pos + 1.0),
}
"""by what they do: the module and the function, and one that does nothing in its place"""
LOOK = "observations and states"


@dataclass(frozen=True)
class Options:
    """What is measured."""

    maps: tuple[str, ...] = ("3s_vs_5z", "3s5z_vs_3s6z", "27m_vs_30m", "2c_vs_64zg")
    worlds: int = 64
    steps: int = 256
    """in a stretch"""
    repeats: int = 9
    page: str | None = None
    """a page (docs/smac_rules.md) between whose markers the table goes; None: print it only"""


def main(options: Options) -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are given
    console = Console()
    rows = [row(name, options) for name in options.maps]
    head = ["map", "steps/s on one core", *(f"{stage}, %" for stage in (LOOK, *STAGES)), "compiled in"]
    campaign.write(options.page, campaign.markdown(head, rows), "times", console)


def row(name: str, options: Options) -> list[str]:
    """Of the table."""
    plain, compiled = built(name, options)
    others = {LOOK: built(name, options, look=False)[0]}
    for stage in STAGES:
        with without(stage):
            others[stage] = built(name, options)[0]
    took: dict[str, list[float]] = {stage: [] for stage in ("", *others)}
    for _ in range(options.repeats):
        for stage, run in {"": plain, **others}.items():
            took[stage].append(timed(run)[1])
    whole = statistics.median(took[""])
    shares = [f"{100 * (1 - statistics.median(took[stage]) / whole):.0f}" for stage in others]
    return [f"`{name}`", f"{options.worlds * options.steps / whole:,.0f}", *shares, f"{compiled:.0f} s"]


@contextmanager
def without(stage: str) -> Iterator[None]:
    """The simulator without one of its stages."""
    module, function, instead = STAGES[stage]
    with patch.object(module, function, instead):
        yield


def built(name: str, options: Options, look: bool = True) -> tuple[Callable[[], Any], float]:
    """A stretch of play, ready to run, and the seconds that compiling took. `look`: observations and states are wanted."""
    env = AutoReset(registry.make(f"smac/{name}"))

    def play(keys: Any, key: Any) -> Any:
        def step(i: Any, at: Any) -> Any:
            running, avail, total = at
            noise = jax.random.uniform(jax.random.fold_in(key, i), avail.shape)
            running, outcome, seen = env.step(running, jnp.where(avail, noise, -1.0).argmax(-1))
            wanted = seen.obs.sum() + seen.state.sum() if look else 0.0
            return running, seen.avail_actions, total + outcome.reward.sum() + wanted

        running, seen = env.reset(keys)
        return jax.lax.fori_loop(0, options.steps, step, (running, seen.avail_actions, jnp.float32(0)))[2]

    given = jax.random.split(jax.random.key(0), options.worlds), jax.random.key(1)
    run, seconds = timed(lambda: jax.jit(play).lower(*given).compile())
    run(*given).block_until_ready()
    return partial(run, *given), seconds


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and the seconds that it took."""
    start = time.perf_counter()
    found = jax.block_until_ready(run())
    return found, time.perf_counter() - start


if __name__ == "__main__":
    campaign.start(main, Options)
