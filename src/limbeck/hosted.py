"""Acting in host worlds: `rollout.collect` and the evaluation's play, for worlds that live in worker processes.

What is collected has the same form and the same alignment in time; acting is compiled, and all workers step at the same time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from limbeck.envs.host import HostEnv
from limbeck.envs.workers import Workers
from limbeck.rollout import Act, EpisodeStats
from limbeck.types import Decision, EnvSpec, Observation, Policy, Segment

Compiled = Callable[..., tuple[Any, PyTree]]
"""(params, carry, decision [B, ...], key, number of the decision, explore) -> (action [B, N], carry)"""


class HostWorlds(NamedTuple):
    """B worlds in progress, with the decision that each waits for: `rollout.Worlds`, but all in numpy, except for the carry."""

    decision: Decision
    carry: PyTree
    episode_return: np.ndarray


def compiled(act: Act) -> Compiled:
    """Acting as a program; each decision has a key of its own."""

    def one(params: PyTree, carry: PyTree, decision: Decision, key: PRNGKeyArray, t: Any, explore: Any) -> tuple[Any, PyTree]:
        return act(params, carry, decision, jax.random.fold_in(key, t), explore)

    return jax.jit(one)


def start(workers: Workers, carry: PyTree) -> HostWorlds:
    """Worlds at their first decision. The workers must not have made a step yet."""
    last_action = np.full((workers.n, workers.env.spec.n_agents), -1, np.int32)
    decision: Any = Decision.about(workers.observe(), last_action, np.ones(workers.n, bool))  # pyright: ignore[reportArgumentType]
    return HostWorlds(decision, carry, np.zeros(workers.n, np.float32))


def collect(
    workers: Workers, act: Compiled, params: PyTree, worlds: HostWorlds, key: PRNGKeyArray, explore: Any, length: int
) -> tuple[HostWorlds, Segment, EpisodeStats]:
    """`length` steps of every world, as one segment [T, B, ...] with T = length.

    Where a worker was lost the transition is masked, as at a time limit, and the decision after it is the first of another episode.
    Lost episodes are none in the statistics.

    Raises:
        WorldFailed: see `Workers.step`.
    """
    carry0, moved, decisions = worlds.carry, [], [worlds.decision]
    finished = np.zeros(3, np.float32)
    for t in range(length):
        action, carry = act(params, worlds.carry, worlds.decision, key, np.int32(t), explore)
        action = np.asarray(action, np.int32)
        outcome, seen = workers.step(action)
        ended = outcome.terminated | outcome.truncated
        total = worlds.episode_return + outcome.reward
        whole = ended & ~outcome.info["lost"]
        finished += [whole.sum(), (whole * total).sum(), (whole & outcome.info["won"]).sum()]
        decision = following(seen, action, ended)
        worlds = HostWorlds(decision, carry, np.where(ended, np.float32(0), total))
        decisions.append(decision)
        moved.append((action, outcome.reward, outcome.terminated, np.float32(1) - outcome.truncated))
    action, reward, terminated, mask = (np.stack(each) for each in zip(*moved, strict=True))
    stacked: Any = jax.tree.map(lambda *each: np.stack(each), *decisions)
    segment: Any = Segment(stacked, action, reward, terminated, mask, carry0)  # pyright: ignore[reportArgumentType]
    return worlds, segment, EpisodeStats(*finished)  # pyright: ignore[reportArgumentType]


def following(seen: Observation, action: np.ndarray, ended: Any) -> Decision:
    """The decision after a step."""
    last: Any = np.where(ended[:, None], np.int32(-1), action)
    return Decision.about(seen, last, ended)


def shapes(spec: EnvSpec, worlds: int, length: int, carry: PyTree) -> Segment:
    """What `collect` returns, as shapes and types."""

    def of(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    n, points = spec.n_agents, (length + 1, worlds)
    decisions = Decision(
        obs=of(jnp.float32, *points, n, spec.obs_dim),
        state=of(jnp.float32, *points, spec.state_dim),
        avail_actions=of(jnp.bool_, *points, n, spec.n_actions),
        alive=of(jnp.bool_, *points, n),
        last_action=of(jnp.int32, *points, n),
        is_first=of(jnp.bool_, *points),
    )
    number, flag = of(jnp.float32, length, worlds), of(jnp.bool_, length, worlds)
    return Segment(decisions, of(jnp.int32, length, worlds, n), number, flag, number, carry)


class Played(NamedTuple):
    """Whole episodes, [E], and how many more were lost with their workers and played again."""

    returns: np.ndarray
    lengths: np.ndarray
    won: np.ndarray
    lost: int


def play(
    env: HostEnv, policy: Policy, act: Compiled, params: PyTree, quota: np.ndarray, key: PRNGKeyArray, explore: float
) -> Played:
    """Every world's first `quota` [B] whole episodes, world by world, in workers of their own."""
    n = len(quota)
    key, key_worlds = jax.random.split(key)
    log: list[list[tuple[float, int, bool]]] = [[] for _ in range(n)]
    params = jax.tree.map(np.asarray, params)  # a learner may have spread them over devices
    with Workers(env, n, seed_of(key_worlds)) as workers:
        worlds, length, t = start(workers, policy.init_carry(n)), np.zeros(n, int), 0
        while any(len(each) < q for each, q in zip(log, quota, strict=True)):
            decision = worlds.decision.within(policy.view)
            action, carry = act(params, worlds.carry, decision, key, np.int32(t), np.float32(explore))
            action = np.asarray(action, np.int32)
            outcome, seen = workers.step(action)
            t, length = t + 1, length + 1
            ended, total = np.asarray(outcome.terminated | outcome.truncated), worlds.episode_return + outcome.reward
            for i in np.flatnonzero(ended & ~outcome.info["lost"]):
                log[i].append((float(total[i]), int(length[i]), bool(outcome.info["won"][i])))
            worlds = HostWorlds(following(seen, action, ended), carry, np.where(ended, np.float32(0), total))
            length[ended] = 0
        lost = len(workers.losses)
    counted = [episode for each, q in zip(log, quota, strict=True) for episode in each[:q]]
    returns, lengths, won = (np.array(each) for each in zip(*counted, strict=True))
    return Played(returns.astype(np.float32), lengths.astype(np.int32), won, lost)


def seed_of(key: PRNGKeyArray) -> int:
    """A number that is as random as the key."""
    return int(jax.random.bits(key, dtype=jnp.uint32))
