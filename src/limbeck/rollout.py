"""Acting in worlds: `collect` makes segments out of continuous streams of experience."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from limbeck.envs.base import AutoReset, Running
from limbeck.types import Decision, Segment

Act = Callable[[PyTree, PyTree, Decision, PRNGKeyArray, Array], tuple[Array, PyTree]]


class Worlds(NamedTuple):
    """B worlds in progress, with the decision that each waits for."""

    running: Running
    decision: Decision
    carry: PyTree
    episode_return: Float[Array, "B"]


class EpisodeStats(NamedTuple):
    """Sums over the episodes that ended in a stretch of collecting."""

    episodes: Float[Array, ""]
    return_sum: Float[Array, ""]
    won_sum: Float[Array, ""]


def start(env: AutoReset, carry: PyTree, key: Key[Array, "B"]) -> Worlds:
    """Worlds at their first decision; `key` is [B]."""
    running, seen = env.reset(key)
    worlds = seen.obs.shape[0]
    last_action = jnp.full((worlds, env.spec.n_agents), -1, jnp.int32)
    decision = Decision.about(seen, last_action, jnp.ones(worlds, bool))
    return Worlds(running, decision, carry, jnp.zeros(worlds))


def collect(
    env: AutoReset, act: Act, params: PyTree, worlds: Worlds, key: PRNGKeyArray, explore: Array, length: int
) -> tuple[Worlds, Segment, EpisodeStats]:
    """`length` steps of every world, as one segment [T, B, ...] with T = length."""

    def step(worlds: Worlds, key: PRNGKeyArray) -> tuple[Worlds, tuple]:
        action, carry = act(params, worlds.carry, worlds.decision, key, explore)
        running, outcome, seen = env.step(worlds.running, action)
        ended = outcome.terminated | outcome.truncated
        total = worlds.episode_return + outcome.reward
        decision = Decision.about(seen, jnp.where(ended[:, None], -1, action), ended)
        finished = jnp.stack([ended, ended * total, ended * outcome.info["won"]]).sum(-1)
        moved = (worlds.decision, action, outcome.reward, outcome.terminated, 1.0 - outcome.truncated, finished)
        return Worlds(running, decision, carry, jnp.where(ended, 0.0, total)), moved

    after, (decisions, action, reward, terminated, mask, finished) = jax.lax.scan(step, worlds, jax.random.split(key, length))
    decisions = jax.tree.map(lambda all_, last: jnp.concatenate([all_, last[None]]), decisions, after.decision)
    segment = Segment(decisions, action, reward, terminated, mask, carry0=worlds.carry)
    return after, segment, EpisodeStats(*finished.sum(0))
