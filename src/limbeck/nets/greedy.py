"""Acting on values: each agent by itself takes the best action that is available to it, or now and then any."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from limbeck.nets.agents import Agent
from limbeck.nets.unroll import decide
from limbeck.types import Decision, EnvSpec, Policy

UNAVAILABLE = -1e9
"""the value of an action that is not available"""


def greedy(q: Float[Array, "*b A"], avail_actions: Array) -> Array:
    """The best available action of every agent."""
    return jnp.where(avail_actions, q, UNAVAILABLE).argmax(-1)


def taken(q: Float[Array, "*b A"], action: Array) -> Float[Array, "*b"]:
    """What stands at the actions that were taken."""
    # Not an indexed read: the gradient of that is a scatter, element by element, which took half of an update on a CPU.
    return jnp.take_along_axis(q, action[..., None], axis=-1)[..., 0]


def best_actions(q: Float[Array, "*b A"], decisions: Decision) -> Array:
    """The same for decisions that are learned from. No gradient."""
    return greedy(jax.lax.stop_gradient(q), decisions.avail_actions)


def start_of(spec: EnvSpec, width: int) -> Callable[[int], Array]:
    """B -> the recurrent states [B, N, width] before the first decision."""
    return lambda worlds: jnp.zeros((worlds, spec.n_agents, width))


def q_policy(agent_of: Callable[[PyTree], Agent], view: tuple[str, ...], init_carry: Callable[[int], PyTree]) -> Policy:
    """The eps-greedy policy of an agent that sits somewhere in the parameters; greedy at eps = 0."""

    def act(params: PyTree, carry: Array, decision: Decision, key: PRNGKeyArray, eps: Array) -> tuple[Array, Array]:
        return eps_greedy(agent_of(params), carry, decision, key, eps)

    return Policy(act, view, agent_of, init_carry)


def eps_greedy(agent: Agent, carry: Array, decision: Decision, key: PRNGKeyArray, eps: Array) -> tuple[Array, Array]:
    """Each agent by itself: a random available action with probability eps, else its best."""
    key_net, key_coin = jax.random.split(key)
    q, carry = decide(agent, carry, decision, key_net)
    return or_anything(greedy(q, decision.avail_actions), decision.avail_actions, key_coin, eps), carry


def or_anything(action: Array, avail_actions: Array, key: PRNGKeyArray, eps: Array) -> Array:
    """Each agent's action [..., N], or with probability eps any of its available ones [..., N, A]."""
    noise = jax.random.uniform(key, (*action.shape, avail_actions.shape[-1] + 1))
    anything = jnp.where(avail_actions, noise[..., 1:], -1.0).argmax(-1)
    return jnp.where(noise[..., 0] < eps, anything, action)
