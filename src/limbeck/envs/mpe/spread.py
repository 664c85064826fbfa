"""Agents spread over landmarks, one to each, without bumping into each other."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from limbeck.envs.mpe.particles import MOVES, anywhere, contact_force, drift, length, outcome, own_force
from limbeck.errors import BadSetting, check_whole
from limbeck.types import EnvSpec, Observation, Outcome

REACH = 0.3
"""Agents that are nearer collide: two radii of 0.15."""
WORDS = 2
"""numbers that an observation keeps free for what another agent says, which in this world is nothing"""


class SpreadState(NamedTuple):
    """Where everything is."""

    step: Int[Array, ""]
    agents: Float[Array, "N 2"]
    velocity: Float[Array, "N 2"]
    landmarks: Float[Array, "N 2"]


@dataclass(frozen=True)
class SimpleSpread:
    """N agents and N landmarks in the plane; every landmark should have an agent near it, and agents should not collide.

    This is `simple_spread_v3` of `mpe2`, with the moves stay, left, right, down, up. There an agent's reward is

        r_i = (1 - local_ratio) G - local_ratio C_i,

    G being minus the sum over the landmarks of the nearest agent's distance, and C_i the number of agents that i collides with.
    The team's reward is the sum of r_i over the agents. So it is never positive, and nothing but the time limit ends an episode.

    An agent sees, in this order: its velocity, its place, the landmarks and the other agents as seen from there, and two zeros for
    each other agent, which `mpe2` keeps for what that says. Nobody says anything here. The state is all observations, one after
    the other.

    Args:
        agents: how many, and how many landmarks.
        local_ratio: what collisions weigh, and the distances the rest; from 0 to 1.
        episode_limit: steps after which an episode is truncated.
    """

    agents: int = 3
    local_ratio: float = 0.5
    episode_limit: int = 25

    def __post_init__(self):
        check_whole(self, agents=1, episode_limit=1)
        if not 0 <= self.local_ratio <= 1:
            raise BadSetting(f"local_ratio is a number from 0 to 1, not {self.local_ratio}")

    @property
    def spec(self) -> EnvSpec:
        n = self.agents
        size = 4 + 2 * n + (2 + WORDS) * (n - 1)
        return EnvSpec(
            "mpe/simple_spread",
            n_agents=n,
            n_actions=len(MOVES),
            obs_dim=size,
            state_dim=n * size,
            episode_limit=self.episode_limit,
            state_slots=tuple((i * size, (i + 1) * size) for i in range(n)),
            negative_returns=True,
        )

    def reset(self, key: PRNGKeyArray) -> SpreadState:
        places = anywhere(key, 2 * self.agents)
        return SpreadState(jnp.int32(0), places[: self.agents], jnp.zeros((self.agents, 2)), places[self.agents :])

    def step(self, state: SpreadState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[SpreadState, Outcome]:
        force = own_force(action) + contact_force(state.agents, REACH)
        agents, velocity = drift(state.agents, state.velocity, force)
        after = SpreadState(state.step + 1, agents, velocity, state.landmarks)
        return after, outcome(after.step, self.reward(after), self.episode_limit)

    def reward(self, state: SpreadState) -> Float[Array, ""]:
        """The team's reward where everything is."""
        uncovered = length(state.landmarks[:, None] - state.agents[None]).min(axis=1).sum()
        # Each agent is too near to itself as well, which does not count.
        collisions = (length(state.agents[:, None] - state.agents[None]) < REACH).sum() - self.agents
        return -(1 - self.local_ratio) * self.agents * uncovered - self.local_ratio * collisions

    def observe(self, state: SpreadState) -> Observation:
        n = self.agents
        landmarks = (state.landmarks[None] - state.agents[:, None]).reshape(n, -1)
        others = others_of(state.agents[None] - state.agents[:, None]).reshape(n, -1)
        silence = jnp.zeros((n, WORDS * (n - 1)))
        obs = jnp.concatenate([state.velocity, state.agents, landmarks, others, silence], axis=1)
        return Observation(obs, obs.reshape(-1), jnp.ones((n, len(MOVES)), bool), jnp.ones(n, bool))


def others_of(pairs: Float[Array, "N N D"]) -> Float[Array, "N M D"]:
    """The table of pairs without those of an agent with itself; M = N - 1."""
    n = pairs.shape[0]
    earlier = (jnp.arange(n - 1)[None, :] < jnp.arange(n)[:, None])[..., None]
    return jnp.where(earlier, pairs[:, :-1], pairs[:, 1:])
