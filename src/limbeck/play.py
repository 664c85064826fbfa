"""One episode of a policy, recorded to be watched: the first episode that `evaluate` would play with the same key."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from limbeck.envs.base import Environment, batch
from limbeck.evaluate import Progress, advance, begin
from limbeck.types import Outcome, Policy


class Recording(NamedTuple):
    """An episode, and how it ended."""

    moments: list[Any]
    """what was looked at, the first before the first step: one more than there are rewards"""
    rewards: np.ndarray
    won: bool
    terminated: bool
    """False: time was up"""


def record(
    env: Environment, policy: Policy, params: PyTree, key: PRNGKeyArray, look: Callable[[Any], Any] = lambda state: state
) -> Recording:
    """Play one greedy episode in one world.

    It is the first of the episodes that `evaluate` plays with this key, step for step by the same code. (Sums of a single world
    may be rounded differently from those of many: where two actions are worth the same to the last bit, the two can part.)

    Args:
        env: the world.
        policy: who plays; it gets the fields of its view and nothing else.
        params: its parameters.
        key: the same key gives the same episode to every policy, as long as they act alike.
        look: the world's state -> what is kept of every moment, as numpy arrays; by default all of it.
    """
    worlds = batch(env)
    key_act, key_worlds = jax.random.split(key)
    key_act, keys = jax.random.fold_in(key_act, 0), jax.random.split(key_worlds, 1)

    # Keys and parameters are arguments: what is compiled can be kept for the next episode.
    @jax.jit
    def start(keys: Array) -> tuple[Progress, Any]:
        at = begin(worlds, env.spec, policy, keys)
        return at, look(worlds.one(at.state, 0))

    @jax.jit
    def step(params: PyTree, key_act: Array, keys: Array, at: Progress) -> tuple[Progress, Any, Outcome]:
        state, outcome, action, carry = advance(worlds, policy, params, key_act, jnp.float32(0.0), keys, at)
        on = at._replace(state=state, carry=carry, last_action=action, is_first=jnp.zeros_like(at.is_first))
        on = on._replace(iteration=at.iteration + 1, length=at.length + 1)
        return on, look(worlds.one(state, 0)), jax.tree.map(lambda x: x[0], outcome)

    at, seen = start(keys)
    moments, rewards, outcome = [jax.tree.map(_numpy, seen)], [], None
    while outcome is None or not (outcome.terminated | outcome.truncated):
        at, seen, outcome = step(params, key_act, keys, at)
        moments.append(jax.tree.map(_numpy, seen))
        rewards.append(float(outcome.reward))
    return Recording(moments, np.array(rewards), bool(outcome.info["won"]), bool(outcome.terminated))


def _numpy(x: Array) -> Any:
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x)
