"""Acting by chance: each agent by itself draws an action with the probability that its logits give it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from limbeck.nets.agents import Agent
from limbeck.nets.greedy import UNAVAILABLE, greedy
from limbeck.nets.unroll import decide
from limbeck.types import Decision, Policy


def log_policy(logits: Float[Array, "*b A"], avail_actions: Array, temperature: float = 1.0) -> Float[Array, "*b A"]:
    """Log-probabilities over the available actions; what is not available has none to speak of."""
    return jax.nn.log_softmax(jnp.where(avail_actions, logits, UNAVAILABLE) / temperature)


def draw(logits: Float[Array, "*b A"], avail_actions: Array, key: PRNGKeyArray, explore: Array) -> Array:
    """explore = 1: a draw from the policy; 0: its most probable action; between them, a draw at that temperature (Gumbel)."""
    return greedy(logits + explore * jax.random.gumbel(key, logits.shape), avail_actions)


def softmax_policy(agent_of: Callable[[PyTree], Agent], view: tuple[str, ...], init_carry: Callable[[int], PyTree]) -> Policy:
    """The policy of an agent that sits somewhere in the parameters and puts out logits; see `draw`."""

    def act(params: PyTree, carry: Array, decision: Decision, key: PRNGKeyArray, explore: Array) -> tuple[Array, Array]:
        key_net, key_draw = jax.random.split(key)
        logits, carry = decide(agent_of(params), carry, decision, key_net)
        return draw(logits, decision.avail_actions, key_draw, explore), carry

    return Policy(act, view, agent_of, init_carry)
