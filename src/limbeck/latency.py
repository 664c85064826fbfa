"""How long a decision takes: compiled acting in one world, of one agent and of the whole team, in this process.

A number says "on one thread" only in a process that is held to one core before JAX starts: `limbeck.timing` starts such a one.
In a process with a pool of threads, XLA spreads a large product over them, and neither its compiler's option against that nor an
affinity set afterwards changes it.
"""

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from limbeck.cost import decision_shapes
from limbeck.nets.agents import Single
from limbeck.nets.greedy import greedy
from limbeck.nets.teams import Team
from limbeck.types import Decision, EnvSpec, Policy


class Quantiles(NamedTuple):
    """Microseconds."""

    p50: float
    p99: float


class Latency(NamedTuple):
    """Of one decision in one world, the call of the compiled function included."""

    team: Quantiles
    """of all agents together, in one call, on one thread"""
    agent: Quantiles | None
    """of one agent alone, with the state if it reads that; the mean over agents with networks of their own. None where a network
    does not say how one acts without the others"""
    each: tuple[Quantiles, ...] | None
    """of every agent in a team of several networks; None where all share one"""


def latencies(
    policies: Mapping[str, tuple[Policy, PyTree]], spec: EnvSpec, rounds: int = 20, calls: int = 200
) -> dict[str, Latency]:
    """Every policy's latency, greedy. All are timed in turns, so that what else happens on the machine meets all of them.

    Args:
        policies: by name, each with its parameters, which are built into the program as on a device.
        spec: of the world that they act in.
        rounds: of `calls` calls of each. What is given is the median over rounds of a round's p50, and of its p99: a disturbance
            that lasts for less than half of the rounds does not show.
        calls: in a row.
    """
    programs: dict[tuple[str, Any], Callable[[], Any]] = {}
    for name, (policy, params) in policies.items():
        programs[name, None] = _team(policy, params, spec)
        programs |= {(name, who): run for who, run in _agents(policy, params, spec).items()}
    times = timed(programs, rounds, calls)
    found = {}
    for name in policies:
        alone = {i: spent for (of, who), spent in times.items() if of == name and who is not None for i in who}
        each = tuple(alone[i] for i in sorted(alone))
        mean = Quantiles(*np.mean(each, axis=0).tolist()) if each else None
        found[name] = Latency(times[name, None], mean, each if len(set(each)) > 1 else None)
    return found


def timed(programs: Mapping[Any, Callable[[], Any]], rounds: int, calls: int) -> dict[Any, Quantiles]:
    """The time of a call of each, made in turns after as many calls for nothing as a round has."""
    spent = {name: np.zeros((rounds, calls)) for name in programs}
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for round_ in range(-1, rounds):
            for name, run in programs.items():
                for call in range(calls):
                    begun = time.perf_counter_ns()
                    jax.block_until_ready(run())
                    spent[name][round_, call] = time.perf_counter_ns() - begun  # the round -1 is written over by the last
    finally:
        if was_enabled:
            gc.enable()
    typical = {name: [np.median(np.percentile(each, q, axis=1)) / 1000 for q in (50, 99)] for name, each in spent.items()}
    return {name: Quantiles(float(p50), float(p99)) for name, (p50, p99) in typical.items()}


def _team(policy: Policy, params: PyTree, spec: EnvSpec) -> Callable[[], Any]:
    def act(carry: PyTree, decision: Decision, key: Array) -> Any:
        return policy.act(params, carry, decision, key, jnp.float32(0))

    return _compiled(act, policy.init_carry(1), example(policy, spec), jax.random.key(0))


def _agents(policy: Policy, params: PyTree, spec: EnvSpec) -> dict[tuple[int, ...], Callable[[], Any]]:
    """By the agents that share it, every network's program for the first of them alone."""
    agent = policy.agent(params)
    nets = zip(agent.nets, agent.places, strict=True) if isinstance(agent, Team) else [(agent, tuple(range(spec.n_agents)))]
    decision, found = example(policy, spec), {}
    for net, who in nets:
        if not isinstance(net, Single):
            return {}

        def alone(hidden: Array, decision: Decision, key: Array, net: Single = net, i: int = who[0]) -> Any:
            hidden = jnp.where(decision.is_first[:, None, None], 0.0, hidden)
            drive, extra = net.encode_one(decision, i, key)
            hidden = net.step(drive, hidden)
            return greedy(net.head(hidden, extra), decision.avail_actions[:, i : i + 1]), hidden

        found[who] = _compiled(alone, jnp.zeros((1, 1, net.carry_dim)), decision, jax.random.key(0))
    return found


def _compiled(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    program = jax.jit(function).lower(*arguments).compile()
    return lambda: program(*arguments)


def example(policy: Policy, spec: EnvSpec) -> Decision:
    """Some decision in the middle of an episode, as far as the policy may see it."""
    shapes = decision_shapes(policy, spec)
    key = jax.random.key(1)

    def fill(name: str, leaf: Any) -> Any:
        if leaf is None:
            return None
        if leaf.dtype == jnp.float32:
            return jax.random.normal(key, leaf.shape)
        return jnp.full(leaf.shape, name in ("avail_actions", "alive"), leaf.dtype)

    return Decision(**{name: fill(name, leaf) for name, leaf in shapes._asdict().items()})
