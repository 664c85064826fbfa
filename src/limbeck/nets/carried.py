"""A recurrent network beside those who act, such as a critic: its recurrent state has to be known where a segment begins."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from limbeck.nets.agents import Agent
from limbeck.nets.unroll import decide
from limbeck.types import Decision

Act = Callable[[PyTree, PyTree, Decision, PRNGKeyArray, Array], tuple[Array, PyTree]]


class Carried(NamedTuple):
    """The recurrent states of the agents, and of the critic that is carried along. G is 1 for a team's critic, or N."""

    agent: PyTree
    """[*b, N, H]; or a `Carried`, of agents who have another beside them already"""
    critic: Float[Array, "*b G H"]


def beside(
    act: Act, init_carry: Callable[[int], PyTree], critic_of: Callable[[PyTree], Agent], shape: tuple[int, int]
) -> tuple[Act, Callable[[int], Carried]]:
    """How to act, and to begin, with the recurrent state of a critic carried along.

    Args:
        act: the agents' way, see `Policy.act`.
        init_carry: B -> their recurrent states before the first decision.
        critic_of: the critic in the parameters, or whoever else listens.
        shape: (G, H) of its recurrent state.
    """

    def both(params: PyTree, carry: Carried, decision: Decision, key: PRNGKeyArray, explore: Array) -> tuple[Array, Carried]:
        action, hidden = act(params, carry.agent, decision, key, explore)
        _, judging = decide(critic_of(params), carry.critic, decision, key)
        return action, Carried(hidden, judging)

    return both, lambda worlds: Carried(init_carry(worlds), jnp.zeros((worlds, *shape)))
