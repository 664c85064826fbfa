"""Predator and prey at its smallest: hunting together pays, trying alone is punished."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from limbeck.errors import BadSetting
from limbeck.types import EnvSpec, Observation, Outcome

CATCH = 3
MOVES = np.array([-1, 1, 0, 0])
"""left, right, stay, catch; nobody gets past the ends of the line"""


class HuntState(NamedTuple):
    """Who stands in which cell."""

    step: Int[Array, ""]
    agents: Int[Array, "2"]
    prey: Int[Array, ""]


@dataclass(frozen=True)
class Hunt:
    """Two agents on a line of cells and a prey that stands still; it is caught when both, beside or upon it, catch at once.

    That is worth 1 and ends the episode. A catch alone costs `punishment` and the hunt goes on; never to catch costs nothing.
    Beside a partner who still tries everything, a catch is punished three times before it pays once. A value that has no room for
    "it depends on what the other does" (VDN, QMIX) therefore turns against catching before both have learnt to do it together:
    relative overgeneralisation, as in the predator-prey of DCG and weighted QMIX. Who never catches returns 0, more than at random.

    An agent sees its cell, where the prey is, and its partner up to `sight` cells away. That is enough: both go to the prey's cell
    and catch as soon as they see each other there. The state lists all three.
    """

    cells: int = 5
    punishment: float = 1.0
    sight: int = 1
    limit: int = 10

    optimum = 1.0
    local_optimum = 1.0

    def __post_init__(self):
        if self.cells < 1:
            raise BadSetting(f"cells is at least 1, not {self.cells}")
        if self.sight < 0:
            raise BadSetting(f"sight is at least 0, not {self.sight}")
        if not 0 <= self.punishment < float("inf"):
            raise BadSetting(f"punishment is a finite number from 0, not {self.punishment}")
        if self.limit < self.cells:
            raise BadSetting(
                f"limit is at least the number of cells, {self.cells}, for the far end to be in reach, not {self.limit}"
            )

    @property
    def random_return(self) -> float:
        """Backwards through the steps, for all places [prey, one agent, the other] at once."""
        here = np.eye(self.cells)
        near = here + np.eye(self.cells, k=1) + np.eye(self.cells, k=-1)
        catch = near / 4
        ways = sum(here[np.clip(np.arange(self.cells) + move, 0, self.cells - 1)] for move in MOVES[:CATCH])
        moves = (1 - catch)[..., None] / 3 * ways + catch[..., None] * here  # [prey, from, to]
        both = catch[:, :, None] * catch[:, None, :]
        alone = catch[:, :, None] + catch[:, None, :] - 2 * both
        value = np.zeros_like(both)
        for _ in range(self.limit):
            value = both - self.punishment * alone + moves @ value @ moves.swapaxes(1, 2) - both * value
        return float(value.mean())

    @property
    def spec(self) -> EnvSpec:
        slots = [(i * self.cells, (i + 1) * self.cells) for i in range(3)]
        return EnvSpec(
            "probe/hunt",
            n_agents=2,
            n_actions=4,
            obs_dim=self.cells + (2 * self.cells - 1) + (2 * self.sight + 1),
            state_dim=3 * self.cells,
            episode_limit=self.limit,
            state_slots=tuple(slots[:2]),
            other_slots=tuple(slots[2:]),
            has_win=True,
            unit_scale=True,
        )

    def reset(self, key: PRNGKeyArray) -> HuntState:
        cells = jax.random.randint(key, (3,), 0, self.cells)
        return HuntState(jnp.int32(0), cells[:2], cells[2])

    def step(self, state: HuntState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[HuntState, Outcome]:
        catching = (action == CATCH) & self._near(state)
        caught = catching.all()
        reward = jnp.where(caught, 1.0, -self.punishment * catching.sum())
        agents = jnp.clip(state.agents + jnp.asarray(MOVES)[action], 0, self.cells - 1)
        after = HuntState(state.step + 1, agents, state.prey)
        return after, Outcome(reward, caught, ~caught & (after.step == self.limit), {"won": caught})

    def observe(self, state: HuntState) -> Observation:
        cells = jax.nn.one_hot(jnp.append(state.agents, state.prey), self.cells)
        to_prey = jax.nn.one_hot(state.prey - state.agents + self.cells - 1, 2 * self.cells - 1)
        to_partner = state.agents[::-1] - state.agents
        partner = jax.nn.one_hot(to_partner + self.sight, 2 * self.sight + 1)  # no one at all where the partner is out of sight
        avail_actions = jnp.ones((2, 4), bool).at[:, CATCH].set(self._near(state))
        obs = jnp.concatenate([cells[:2], to_prey, partner], axis=1)
        return Observation(obs, cells.reshape(-1), avail_actions, jnp.ones(2, bool))

    def _near(self, state: HuntState) -> Array:
        return jnp.abs(state.agents - state.prey) <= 1
