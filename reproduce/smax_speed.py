"""How fast battles are simulated here and in SMAX (JaxMARL), on the maps that both have: docs/smac_rules.md shows the table.

    python -m pip install jaxmarl                      into an environment that limbeck is installed in
    python reproduce/smax_speed.py                     some ten minutes on two cores

Random legal play; observations, states and masks are computed, and worlds that have ended start anew. Both run as one compiled loop
with a device for every core. They are measured in turns, stretch by stretch, so that the ratio holds on a machine where others
work. They differ in what they simulate, see docs/smac_rules.md; a step is 8 game loops in both.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import campaign
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from rich.console import Console

from limbeck.envs import registry
from limbeck.envs.base import AutoReset
from limbeck.errors import BadSetting
from limbeck.learn import usable_devices

SAME = ("3m", "2s3z", "3s_vs_5z", "5m_vs_6m", "6h_vs_8z", "3s5z_vs_3s6z", "27m_vs_30m")
DRAWN = {"protoss_5_vs_5": "smacv2_5_units", "protoss_10_vs_10": "smacv2_10_units", "protoss_20_vs_20": "smacv2_20_units"}
"""battles whose armies are drawn: those here with their nearest relatives there, which draw from the units of all races"""

Loop = Callable[[Any, Any, Any], Any]
"""(keys [B], key, steps) -> a number that depends on all that was computed"""


@dataclass(frozen=True)
class Options:
    """What is measured."""

    maps: tuple[str, ...] = (*SAME, *DRAWN)
    worlds: tuple[int, ...] = (8, 64, 1024)
    repeats: int = 5
    seconds: float = 0.7
    """about how long a stretch takes"""
    page: str | None = None
    """a page between whose markers the table goes; None: print it only"""
    out: str | None = None
    """a JSON file for all figures"""


def ours(name: str) -> Loop:
    """The loop over a battle of limbeck."""
    env = AutoReset(registry.make(f"smac/{name}"))

    def loop(keys: Any, key: Any, steps: Any) -> Any:
        def step(i: Any, at: Any) -> Any:
            running, seen, total = at
            noise = jax.random.uniform(jax.random.fold_in(key, i), seen.avail_actions.shape)
            running, outcome, seen = env.step(running, jnp.where(seen.avail_actions, noise, -1.0).argmax(-1))
            return running, seen, total + outcome.reward.sum() + seen.obs.sum() + seen.state.sum()

        return jax.lax.fori_loop(0, steps, step, (*env.reset(keys), jnp.float32(0)))[2]

    return loop


def theirs(name: str) -> Loop:
    """The loop over a battle of SMAX."""
    try:
        import jaxmarl
        from jaxmarl.environments.smax import map_name_to_scenario
    except ImportError as error:
        raise BadSetting("the comparison needs JaxMARL; python -m pip install jaxmarl") from error
    env: Any = jaxmarl.make("HeuristicEnemySMAX", scenario=map_name_to_scenario(name))

    def legal(state: Any, key: Any) -> Any:
        open_ = jnp.stack([jax.vmap(env.get_avail_actions)(state)[agent] for agent in env.agents])
        choice = jnp.where(open_ > 0, jax.random.uniform(key, open_.shape), -1.0).argmax(-1)
        return dict(zip(env.agents, choice, strict=True))

    def loop(keys: Any, key: Any, steps: Any) -> Any:
        def step(i: Any, at: Any) -> Any:
            state, total = at
            key_act, key_step = jax.random.split(jax.random.fold_in(key, i))
            obs, state, reward, _, _ = jax.vmap(env.step)(jax.random.split(key_step, len(keys)), state, legal(state, key_act))
            return state, total + sum(x.sum() for x in (*obs.values(), *reward.values()))

        return jax.lax.fori_loop(0, steps, step, (jax.vmap(env.reset)(keys)[1], jnp.float32(0)))[1]

    return loop


class Runner:
    """A compiled loop, and how many steps of it make a stretch."""

    def __init__(self, loop: Loop, worlds: int, seconds: float):
        mesh = Mesh(np.array(jax.devices()[: usable_devices(worlds)]), ("device",))

        def local(keys: Any, key: Any, steps: Any) -> Any:
            return jax.lax.psum(loop(keys, jax.random.fold_in(key, jax.lax.axis_index("device")), steps), "device")

        sharded = jax.shard_map(local, mesh=mesh, in_specs=(P("device"), P(), P()), out_specs=P(), check_vma=False)
        self.keys, self.worlds, self.steps = jax.random.split(jax.random.key(0), worlds), worlds, 4
        begun = time.perf_counter()
        self.play = jax.jit(sharded).lower(self.keys, jax.random.key(0), 4).compile()
        self.compile_s = time.perf_counter() - begun
        self.stretch(0)
        while (took := self.worlds * self.steps / self.stretch(1)) < seconds / 2:
            self.steps = int(self.steps * min(max(seconds / took, 2), 32))

    def stretch(self, number: int) -> float:
        """Environment steps per second."""
        begun = time.perf_counter()
        jax.block_until_ready(self.play(self.keys, jax.random.key(number), jnp.int32(self.steps)))
        return self.worlds * self.steps / (time.perf_counter() - begun)


def measure(name: str, worlds: int, options: Options) -> dict[str, Any]:
    """Both, in turns."""
    both = [Runner(loop, worlds, options.seconds) for loop in (ours(name), theirs(DRAWN.get(name, name)))]
    speeds = np.array([[each.stretch(2 + i) for each in both] for i in range(options.repeats)])
    mine, its = np.median(speeds, axis=0)
    ratio = statistics.median(speeds[:, 0] / speeds[:, 1])  # of neighbours in time
    compile_s = [round(each.compile_s, 1) for each in both]
    return {"map": name, "worlds": worlds, "limbeck": mine, "smax": its, "ratio": ratio, "compile_s": compile_s}


def table(rows: Sequence[dict[str, Any]], options: Options) -> str:
    """Markdown: steps per second here and there, and how many times as fast, for every number of worlds."""
    head = ["map", *(f"{worlds} worlds: limbeck, SMAX, ratio" for worlds in options.worlds)]
    lines = []
    for name in options.maps:
        cells = [f"{row['limbeck']:,.0f}, {row['smax']:,.0f}, **{row['ratio']:.1f}**" for row in rows if row["map"] == name]
        lines.append([f"`{name}`" + (f" (`{DRAWN[name]}`)" if name in DRAWN else ""), *cells])
    return campaign.markdown(head, lines)


def main(options: Options) -> None:
    console, rows = Console(), []
    for name in options.maps:
        for worlds in options.worlds:
            rows.append(measure(name, worlds, options))
            console.print(json.dumps(rows[-1]), highlight=False, soft_wrap=True)
            jax.clear_caches()
    campaign.write(options.page, table(rows, options), "smax", console)
    console.print(f"{os.cpu_count()} cores, {len(jax.devices())} devices, jax {jax.__version__}", highlight=False)
    if options.out:
        Path(options.out).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    campaign.start(main, Options)
