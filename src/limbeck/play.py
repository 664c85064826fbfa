"""One episode of a policy, recorded to be watched."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from limbeck.envs.base import Environment
from limbeck.types import Decision, Policy


def record(env: Environment, policy: Policy, params: PyTree, key: PRNGKeyArray) -> tuple[list[Any], bool]:
    """Play one greedy episode in one world.

    Args:
        env: the world.
        policy: who plays; it gets the fields of its view and nothing else.
        params: its parameters.
        key: the same key gives the same episode to every policy, as long as they act alike.

    Returns:
        The world's state at every moment (as numpy arrays), the first before the first step; and whether the episode was won.
    """
    key_reset, key_act, key_env = jax.random.split(key, 3)

    @jax.jit
    def step(state: Any, carry: PyTree, last_action: Array, t: Array) -> tuple[Any, PyTree, Array, Array, Array]:
        seen = jax.tree.map(lambda x: x[None], env.observe(state))
        decision = Decision.about(seen, last_action, (t == 0)[None]).within(policy.view)
        action, carry = policy.act(params, carry, decision, jax.random.fold_in(key_act, t), jnp.float32(0.0))
        state, outcome = env.step(state, action[0], jax.random.fold_in(key_env, t))
        return state, carry, action, outcome.terminated | outcome.truncated, outcome.info["won"]

    state = jax.jit(env.reset)(key_reset)
    carry, last_action = policy.init_carry(1), jnp.full((1, env.spec.n_agents), -1)
    moments, won = [jax.tree.map(_numpy, state)], False
    for t in range(env.spec.episode_limit):
        state, carry, last_action, ended, victory = step(state, carry, last_action, jnp.int32(t))
        moments.append(jax.tree.map(_numpy, state))
        if ended:
            won = bool(victory)
            break
    return moments, won


def _numpy(x: Array) -> Any:
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x)
