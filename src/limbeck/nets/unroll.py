"""The only file that walks the time axis: batched encode, sequential core, batched head."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.nets.agents import Agent
from limbeck.types import Decision

CHUNK = 16
"""Decisions encoded at once. Small enough for the working set to stay in a core's cache, large enough for big matrix products."""


def decide(agent: Agent, hidden: Float[Array, "B N H"], decision: Decision, key: PRNGKeyArray) -> tuple[Array, Array]:
    """One decision of B worlds -> (q [B, N, A], hidden [B, N, H])."""
    drive, extra = agent.encode(decision, key)
    hidden = agent.step(drive, _reset(hidden, decision.is_first))
    return agent.head(hidden, extra), hidden


def unroll(
    agent: Agent, hidden: Float[Array, "B N H"], decisions: Decision, key: PRNGKeyArray, chunk: int = CHUNK
) -> tuple[Float[Array, "L B N A"], Float[Array, "L B N H"], Any]:
    """L decisions [L, B, ...] in order, from the hidden state before the first -> q, hidden state and `extra` of each.

    The hidden state is reset exactly where `is_first` is set. Chunks of `chunk` decisions run as one batched product each.
    """
    length = decisions.is_first.shape[0]
    n_chunks, rest = divmod(length, chunk)
    key_chunks, key_rest = jax.random.split(key)

    def run(hidden: Array, at: tuple[Decision, PRNGKeyArray]) -> tuple[Array, tuple[Array, Array, Any]]:
        some, key = at
        drive, extra = agent.encode(some, key)

        def step(hidden: Array, at: tuple[Any, Array]) -> tuple[Array, Array]:
            drive, is_first = at
            hidden = agent.step(drive, _reset(hidden, is_first))
            return hidden, hidden

        hidden, hiddens = jax.lax.scan(step, hidden, (drive, some.is_first))
        return hidden, (agent.head(hiddens, extra), hiddens, extra)

    parts = []
    if n_chunks:
        whole = jax.tree.map(lambda x: x[: n_chunks * chunk].reshape(n_chunks, chunk, *x.shape[1:]), decisions)
        hidden, found = jax.lax.scan(run, hidden, (whole, jax.random.split(key_chunks, n_chunks)))
        parts.append(jax.tree.map(lambda x: x.reshape(n_chunks * chunk, *x.shape[2:]), found))
    if rest:
        parts.append(run(hidden, (jax.tree.map(lambda x: x[n_chunks * chunk :], decisions), key_rest))[1])
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *each: jnp.concatenate(each), *parts)


def _reset(hidden: Float[Array, "B N H"], is_first: Array) -> Array:
    return jnp.where(is_first[:, None, None], 0.0, hidden)
