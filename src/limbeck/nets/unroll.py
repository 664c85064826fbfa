"""The only file that walks the time axis (`coarse.py` walks it faster): batched encode, sequential core, batched head."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from limbeck.nets.agents import Agent
from limbeck.nets.chunks import split
from limbeck.types import Decision

CHUNK = 16
"""Decisions encoded at once. Small enough for the working set to stay in a core's cache, large enough for big matrix products."""


class Values(NamedTuple):
    """What an agent makes of L decisions in a row."""

    q: Float[Array, "L B N A"]
    hidden: Float[Array, "L B N H"]
    extra: Any = None
    """what its head read besides"""


def early(tree: Any) -> Any:
    """Decisions 0 to T - 1, those at which a segment's transitions begin."""
    return jax.tree.map(lambda x: x[:-1], tree)


def late(tree: Any) -> Any:
    """Decisions 1 to T, those at which a segment's transitions end."""
    return jax.tree.map(lambda x: x[1:], tree)


def decide(agent: Agent, hidden: Float[Array, "B N H"], decision: Decision, key: PRNGKeyArray) -> tuple[Array, Array]:
    """One decision of B worlds -> (q [B, N, A], hidden [B, N, H])."""
    drive, extra = agent.encode(decision, key)
    hidden = agent.step(drive, reset(hidden, decision.is_first))
    return agent.head(hidden, extra), hidden


def unroll(agent: Agent, hidden: Float[Array, "B N H"], decisions: Decision, key: PRNGKeyArray, chunk: int = CHUNK) -> Values:
    """L decisions [L, B, ...] in order, from the hidden state before the first.

    The hidden state is reset exactly where `is_first` is set. Chunks of `chunk` decisions run as one batched product each.
    """
    whole, rest = split(decisions, chunk)
    key_chunks, key_rest = jax.random.split(key)

    def run(hidden: Array, at: tuple[Decision, PRNGKeyArray]) -> tuple[Array, Values]:
        some, key = at
        drive, extra = agent.encode(some, key)
        hiddens = walk(agent, drive, hidden, some.is_first)
        return hiddens[-1], Values(agent.head(hiddens, extra), hiddens, extra)

    parts = []
    if whole is not None:
        hidden, found = jax.lax.scan(run, hidden, (whole, jax.random.split(key_chunks, whole.is_first.shape[0])))
        parts.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found))
    if rest is not None:
        parts.append(run(hidden, (rest, key_rest))[1])
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *each: jnp.concatenate(each), *parts)


@runtime_checkable
class Walker(Protocol):
    """An agent with a way of its own to make many steps in a row: drive [L, B, N, ...], hidden before -> hidden after each."""

    def walk(self, drive: Any, hidden: Array, is_first: Array) -> Array: ...


def walk(agent: Any, drive: Any, hidden: Float[Array, "B N H"], is_first: Bool[Array, "L B"]) -> Float[Array, "L B N H"]:
    """The hidden states after each of L steps, from the one before the first."""
    if isinstance(agent, Walker):
        return agent.walk(drive, hidden, is_first)

    def step(hidden: Array, at: tuple[Any, Array]) -> tuple[Array, Array]:
        drive, is_first = at
        hidden = agent.step(drive, reset(hidden, is_first))
        return hidden, hidden

    return jax.lax.scan(step, hidden, (drive, is_first))[1]


def reset(hidden: Float[Array, "B N H"], is_first: Bool[Array, "B"]) -> Float[Array, "B N H"]:
    """Zeros where an episode begins."""
    return jnp.where(is_first[:, None, None], 0.0, hidden)
