"""Speed and memory on this machine, in one table. Machines are noisy: read ratios, and medians of repeated stretches."""

import dataclasses
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, PRNGKeyArray
from rich.console import Console
from rich.table import Table

from limbeck.envs import registry
from limbeck.envs.base import AutoReset
from limbeck.learn import AXIS, Learner, Phase, usable_devices
from limbeck.methods import METHODS
from limbeck.methods.bases import BASES
from limbeck.methods.mappo import MAPPOSettings
from limbeck.runs import world_for
from limbeck.types import Observation

SIMULATE = [
    ("smac/3s_vs_5z", 8), ("smac/3s_vs_5z", 64), ("smac/5m_vs_6m", 8), ("smac/5m_vs_6m", 64), ("smac/3s5z_vs_3s6z", 8),
    ("smac/3s5z_vs_3s6z", 64), ("predator_prey/8v8", 64),
    ("mpe/simple_spread", 64), ("ranking/synthetic", 64),
]  # fmt: skip
# One update of 32 segments of 128 transitions for every 128 steps of all worlds: the sizes that others publish speeds for.
SIZES = {"segment": 128, "batch": 32, "updates": 1, "buffer": 5000, "hidden": 64, "embed": 32, "hyper": 64}
# The same rhythm for those that learn from what they just collected, four times in four parts.
ON_POLICY = {"segment": 128, "hidden": 128, "epochs": 4, "minibatches": 4}
TRAIN = [
    ("smac/3s_vs_5z", 8, (*BASES, "ptde", "ctds", "igm-da", "ddn")),
    ("smac/3s_vs_5z", 32, ("qmix",)),
    ("smac/3s5z_vs_3s6z", 8, ("qmix",)),
    ("smac/3s_vs_5z", 128, ("qmix", "mappo", "ippo")),
]
"""world, copies of it, methods: the methods of a row are measured in turns, so that their ratios hold on a noisy machine"""
REPEATS = 5

Row = dict[str, Any]


def run(console: Console) -> dict[str, Any]:
    """Measures everything, and prints it as it goes. The result is ready for JSON."""
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are part of what is measured
    machine = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "platform": platform.platform(),
        "devices": [str(device.device_kind) for device in jax.devices()],
    }
    versions = {name: version(name) for name in ("limbeck", "jax", "jaxlib", "equinox", "optax", "numpy")}
    rows: list[Row] = []
    with console.status("measuring") as status:
        for env, worlds in SIMULATE:
            status.update(f"simulate {env}, {worlds} worlds")
            rows.append(simulate(env, worlds))
        for env, worlds, methods in TRAIN:
            status.update(f"train {', '.join(methods)} on {env}, {worlds} worlds")
            rows += train(methods, env, worlds)
    console.print(_table(rows))
    console.print(f"{machine['processor']}, {machine['cores']} cores, {len(jax.devices())} devices", highlight=False)
    console.print(", ".join(f"{name} {number}" for name, number in versions.items()), highlight=False)
    return {"machine": machine, "versions": versions, "rows": rows}


def simulate(name: str, worlds: int, length: int = 256) -> Row:
    """Random legal play, with observations, states and masks computed, and finished worlds reset."""
    env = AutoReset(registry.make(name))
    devices = usable_devices(worlds)
    mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,))

    def local(key: PRNGKeyArray, key_act: PRNGKeyArray) -> Array:
        def step(at: tuple[Any, Observation, Array], key: PRNGKeyArray) -> tuple[tuple[Any, Observation, Array], None]:
            running, seen, total = at
            noise = jax.random.uniform(key, seen.avail_actions.shape)
            running, outcome, seen = env.step(running, jnp.where(seen.avail_actions, noise, -1.0).argmax(-1))
            return (running, seen, total + outcome.reward.sum() + seen.obs.sum() + seen.state.sum()), None

        keys = jax.random.split(jax.random.fold_in(key_act, jax.lax.axis_index(AXIS)), length)
        (_, _, total), _ = jax.lax.scan(step, (*env.reset(key), jnp.float32(0)), keys)
        return jax.lax.psum(total, AXIS)

    play = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(P(AXIS), P()), out_specs=P(), check_vma=False))
    keys = jax.random.split(jax.random.key(0), worlds)
    compiled, compile_s = _timed(lambda: play.lower(keys, jax.random.key(1)).compile())
    seconds = _median(lambda i: compiled(keys, jax.random.key(i)).block_until_ready())
    return {
        "name": "simulate", "env": name, "method": "random", "worlds": worlds, "steps_per_s": round(worlds * length / seconds),
        "updates_per_s": None, "compile_s": round(compile_s, 1), "devices": devices,
    }  # fmt: skip


def train(methods: Sequence[str], name: str, worlds: int, iterations: int = 16) -> list[Row]:
    """Collecting and learning together, at the sizes in `SIZES`; with QMIX among the methods, their speed relative to it."""
    trainings = [_Training(method, name, worlds) for method in methods]
    took: dict[str, list[float]] = {method: [] for method in methods}
    for i in range(1 + REPEATS):
        for each in trainings:
            seconds = _timed(partial(each.advance, iterations))[1] / iterations
            took[each.method] += [seconds] * (i > 0)
    rows = [each.row(statistics.median(took[each.method])) for each in trainings]
    if "qmix" in methods:
        for row in rows:
            pairs = zip(took["qmix"], took[row["method"]], strict=True)  # neighbours in time
            row["to_qmix"] = round(statistics.median(qmix / own for qmix, own in pairs), 2)
    return rows


class _Training:
    """A learner in the middle of its work."""

    def __init__(self, method: str, name: str, worlds: int):
        env = world_for(METHODS[method].world, name, {})
        settings = METHODS[method].settings
        sizes = ON_POLICY if isinstance(settings, MAPPOSettings) else SIZES
        algorithm = METHODS[method].build(env.spec, dataclasses.replace(settings, **sizes))
        self.method, self.name = method, name
        self.learner = Learner(env, algorithm, worlds)
        self.phase = Phase(collect=True, learn=True)
        state = self.learner.init(jax.random.key(0))
        self.buffer_bytes = sum(x.nbytes for x in jax.tree.leaves(state.buffer))
        (self.state, _), self.compile_s = _timed(partial(self.learner.advance, state, 1, self.phase))

    def advance(self, iterations: int) -> Any:
        self.state, report = self.learner.advance(self.state, iterations, self.phase)
        return report

    def row(self, seconds: float) -> Row:
        """What is said about it, given the seconds of an iteration."""
        return {
            "name": "train",
            "env": self.name,
            "method": self.method,
            "worlds": self.learner.worlds,
            "steps_per_s": round(self.learner.steps_per_iteration / seconds),
            "updates_per_s": round(self.learner.algorithm.source.updates / seconds, 2),
            "compile_s": round(self.compile_s, 1),
            "devices": self.learner.devices,
            "buffer_gib": round(self.buffer_bytes / 2**30, 2),
            "peak_rss_gib": round(_peak_rss(), 2),
        }


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    result = jax.block_until_ready(work())
    return result, time.perf_counter() - begun


def _median(work: Callable[[int], Any]) -> float:
    work(0)
    return statistics.median(_timed(partial(work, i))[1] for i in range(1, REPEATS + 1))


def _peak_rss() -> float:
    """GiB of the whole process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _table(rows: list[Row]) -> Table:
    table = Table(title="limbeck bench: environment steps per second, learning included in the train rows")
    for head in ("what", "world", "method", "worlds", "steps/s", "to QMIX", "updates/s", "compile s", "buffer GiB"):
        table.add_column(head, justify="left" if head in ("what", "world", "method") else "right")
    for row in rows:
        updates = "-" if row["updates_per_s"] is None else f"{row['updates_per_s']:.1f}"
        buffer = "-" if "buffer_gib" not in row else f"{row['buffer_gib']:.2f}"
        speed, ratio = f"{row['steps_per_s']:,}", f"{row['to_qmix']:.2f}" if "to_qmix" in row else "-"
        known = (row["name"], row["env"], row["method"], str(row["worlds"]))
        table.add_row(*known, speed, ratio, updates, f"{row['compile_s']:.1f}", buffer)
    return table
