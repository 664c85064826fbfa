"""A latent that is sent only now and then: COPA's coach speaks every T steps, and its players keep what it said last."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from limbeck.errors import BadSetting
from limbeck.nets.personalise import PersonalisedAgent
from limbeck.types import Decision

LONGEST = 2048
"""steps that the clock counts exactly in half precision, in which a replay may keep it"""


class Broadcast(eqx.Module):
    """A personalised agent whose z is renewed at the steps 0, `interval`, 2 `interval`, ... of an episode and held in between.

    All that is held is part of the hidden state, [h, z, steps since z was renewed], which is zero at the first decision of an
    episode: the clock then asks for a new z. Latents are computed for every decision, since those of a segment are one product, and
    most are not looked at; what is saved is what has to be sent.
    """

    agent: PersonalisedAgent
    interval: int = eqx.field(static=True)

    def __init__(self, agent: PersonalisedAgent, interval: int):
        if not 1 <= interval <= LONGEST:
            raise BadSetting(f"interval is {interval}; a latent can be renewed every 1 to {LONGEST} steps")
        self.agent = agent
        self.interval = interval

    @property
    def carry_dim(self) -> int:
        """H + Z + 1: the recurrent state, the latent held, and the clock."""
        return self.agent.carry_dim + self.agent.latent_dim + 1

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[tuple[Any, Array], None]:
        """Decisions -> the core's drive and a new z for each, should it be due."""
        return self.agent.encode(decisions, key), None

    def step(self, drive: tuple[Any, Array], hidden: Array) -> Array:
        """One step of the core and of the clock."""
        of_core, new = drive
        h, held, clock = self._parts(hidden)
        z = jnp.where(clock == 0, new, held)
        clock = jnp.where(clock == self.interval - 1, 0.0, clock + 1)
        return jnp.concatenate([self.agent.step(of_core, h), z, clock], axis=-1)

    def head(self, hidden: Array, extra: Any) -> Array:
        """Hidden [..., N, H + Z + 1] -> q [..., N, A], from the z that is held."""
        h, z, _ = self._parts(hidden)
        return self.agent.head(h, z)

    def _parts(self, hidden: Array) -> tuple[Array, Array, Array]:
        of_core = self.agent.carry_dim
        return hidden[..., :of_core], hidden[..., of_core:-1], hidden[..., -1:]
