"""Predator and prey on a grid: two hunters catch together what one alone is punished for trying."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from limbeck.errors import BadSetting, check_whole
from limbeck.types import EnvSpec, Observation, Outcome

COMPASS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
"""(rows, columns) that the first four actions lead: right, down, left, up"""
STAY, CATCH = 4, 5
N_ACTIONS = 6
CHANNELS = 3
"""of a cell: an agent, a prey, and a hare, which the original game has and this one never"""
HUNTERS = 2
"""how many must catch a prey at once"""
GONE = 1 << 24
"""the place of a prey that was caught and, negative, of a frozen agent: beyond every grid, and far from each other"""


class PredatorPreyState(NamedTuple):
    """Who stands where. Places are numbered row by row, `PredatorPrey.width` to a row."""

    step: Int[Array, ""]
    agents: Int[Array, "N"]
    prey: Int[Array, "M"]


@dataclass(frozen=True)
class PredatorPrey:
    """Agents hunt prey on a bounded grid with at most one of them in a cell; a prey is caught when two beside it catch at once.

    This is the game of DCG (Boehmer et al. 2020, arXiv 1910.00091), called `stag_hunt` there and in weighted QMIX's code; by
    default with the sizes and the penalty of DDN (Zhou et al. 2025, arXiv 2502.03125). In a step

    1. the agents move one by one, in an order drawn anew; who finds the cell taken at that moment stays;
    2. the prey that are left have their turns, in an order drawn anew. A prey beside which at least two agents catch is caught:
       this pays `capture_reward`, the prey leaves the grid, and so do its hunters, frozen to the end of the episode. With one
       catcher beside it, `penalty` is charged: for every such prey, even if it is the same agent. A prey that is not caught
       moves to one of the free cells beside it, each as likely, and stays only if there is none.

    The episode is terminated when all prey are caught or all agents are frozen. As every catch freezes two agents at least,
    eight of them can return 40 and no more.

    Actions: right, down, left, up, stay, catch. A move off the grid is not available, one into a taken cell is; catch is available
    beside a prey; a frozen agent can only stay. Who is told what is not available stays.

    An agent sees the `view` x `view` cells around it, three channels to a cell, row by row: agents (itself among them), prey, and
    the original's hares, always empty. Nothing tells it where on the grid it is or where the grid ends. A frozen agent sees
    zeros. The state is the same for the whole grid; it does not tell which agent is which.

    Args:
        size: cells along each side of the grid.
        agents, preys: how many.
        penalty: what catching alone adds to the reward; 0 or negative.
        capture_reward: what a caught prey adds to it.
        episode_limit: steps after which an episode is truncated.
        view: cells along each side of what an agent sees; odd.
    """

    size: int = 10
    agents: int = 8
    preys: int = 8
    penalty: float = -2.0
    capture_reward: float = 10.0
    episode_limit: int = 200
    view: int = 5

    def __post_init__(self):
        check_whole(self, size=1, agents=HUNTERS, preys=1, episode_limit=1, view=1)
        if self.agents + self.preys > self.size**2:
            raise BadSetting(
                f"{self.agents} agents and {self.preys} prey need a cell each; a grid of size {self.size} has {self.size**2}"
            )
        if self.view % 2 == 0 or self.view > 2 * self.size - 1:
            raise BadSetting(f"view is odd and at most {2 * self.size - 1}, which shows all of the grid, not {self.view}")
        if not -math.inf < self.penalty <= 0:
            raise BadSetting(f"penalty is a finite number that is not positive, as it is added to the reward, not {self.penalty}")
        if not 0 < self.capture_reward < math.inf:
            raise BadSetting(f"capture_reward is a finite number above 0, not {self.capture_reward}")

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            f"predator_prey/{self.agents}v{self.preys}",
            n_agents=self.agents,
            n_actions=N_ACTIONS,
            obs_dim=self.view**2 * CHANNELS,
            state_dim=self.size**2 * CHANNELS,
            episode_limit=self.episode_limit,
            unit_scale=True,
            negative_returns=self.penalty < 0,
        )

    @property
    def width(self) -> int:
        """Places in a row: its cells, and behind them so many where nobody ever is that no look to the side meets another row."""
        return self.size + max(self.view // 2, 1)

    @property
    def ways(self) -> Int[np.ndarray, "4"]:
        """What the first four actions add to a place."""
        return (COMPASS @ np.array([self.width, 1])).astype(np.int32)

    def reset(self, key: PRNGKeyArray) -> PredatorPreyState:
        """Everybody on a cell of their own, all such positions being as likely."""
        n_units, cells = self.agents + self.preys, jnp.arange(self.size**2)
        drawn = jax.random.randint(key, (n_units,), cells[:n_units], self.size**2)

        def swap(i: Array, left: Array) -> Array:  # Fisher and Yates's shuffle, as far as it is needed
            return jnp.where(cells == drawn[i], left[i], left).at[i].set(left[drawn[i]])

        cell = jax.lax.fori_loop(0, n_units, swap, cells)[:n_units]
        places = cell // self.size * self.width + cell % self.size
        return PredatorPreyState(jnp.int32(0), places[: self.agents], places[self.agents :])

    def step(self, state: PredatorPreyState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[PredatorPreyState, Outcome]:
        key_agents, key_prey, key_luck = jax.random.split(key, 3)
        agents = self.walk(state, action, jax.random.permutation(key_agents, self.agents))
        order, luck = jax.random.permutation(key_prey, self.preys), jax.random.uniform(key_luck, (self.preys,))
        after, reward = self.hunt(PredatorPreyState(state.step + 1, agents, state.prey), action == CATCH, order, luck)
        terminated = (after.prey == GONE).all() | (after.agents == -GONE).all()
        truncated = ~terminated & (after.step >= self.episode_limit)
        return after, Outcome(reward, terminated, truncated, {"won": jnp.array(False)})

    def walk(self, state: PredatorPreyState, action: Int[Array, "N"], order: Int[Array, "N"]) -> Int[Array, "N"]:
        """The agents' places after they have moved one by one, `order[0]` first."""
        goals = state.agents + jnp.append(jnp.asarray(self.ways), jnp.zeros(2, jnp.int32))[action]
        goals = jnp.where(self._on_grid(goals), goals, state.agents)

        def turn(k: Array, agents: Array) -> Array:
            i = order[k]
            taken = (agents == goals[i]).any() | (state.prey == goals[i]).any()
            return agents.at[i].set(jnp.where(taken, agents[i], goals[i]))

        return jax.lax.fori_loop(0, self.agents, turn, state.agents)

    def hunt(
        self, state: PredatorPreyState, catching: Bool[Array, "N"], order: Int[Array, "M"], luck: Float[Array, "M"]
    ) -> tuple[PredatorPreyState, Float[Array, ""]]:
        """The state after the turns of all prey, `order[0]` first, and the reward.

        Args:
            state: with the agents where they have moved to.
            catching: who catches.
            order: of the turns.
            luck: where among the free cells beside it a prey goes, from 0 to 1.
        """
        ways = jnp.asarray(self.ways)

        def turn(k: Array, at: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            agents, prey, reward = at
            i = order[k]
            beside = prey[i] + ways  # of a prey that is gone, nobody's place and not on the grid
            hunters = catching & (agents[:, None] == beside[None]).any(axis=1)
            caught = hunters.sum() >= HUNTERS
            reward += jnp.where(caught, self.capture_reward, jnp.where(hunters.any(), self.penalty, 0.0))
            everybody = jnp.concatenate([agents, prey])
            free = self._on_grid(beside) & ~(everybody[:, None] == beside[None]).any(axis=0)
            way = jnp.where(_pick(free, luck[i]), ways, 0).sum()
            prey = prey.at[i].set(jnp.where(caught, GONE, prey[i] + way))
            return jnp.where(caught & hunters, -GONE, agents), prey, reward

        start = state.agents, state.prey, jnp.float32(0)
        agents, prey, reward = jax.lax.fori_loop(0, self.preys, turn, start)
        return PredatorPreyState(state.step, agents, prey), reward

    def observe(self, state: PredatorPreyState) -> Observation:
        alive = state.agents >= 0
        reach = np.arange(self.view) - self.view // 2
        around = jax.vmap(lambda place: self._show(state, place + self._places(reach)))(state.agents)
        obs = jnp.where(alive[:, None], around.reshape(self.agents, -1), 0.0)
        grid = self._show(state, jnp.asarray(self._places(np.arange(self.size)))).reshape(-1)
        beside = state.agents[:, None] + jnp.asarray(self.ways)[None]
        near = (beside[:, :, None] == state.prey[None, None]).any(axis=(1, 2))[:, None]
        avail_actions = jnp.concatenate([self._on_grid(beside), jnp.ones_like(near), near], axis=1)
        return Observation(obs, grid, avail_actions, alive)

    def _places(self, along: Int[np.ndarray, "K"]) -> Int[np.ndarray, "K*K"]:
        """A square of places, row by row."""
        return (along[:, None] * self.width + along).reshape(-1).astype(np.int32)

    def _show(self, state: PredatorPreyState, places: Int[Array, "P"]) -> Float[Array, "P C"]:
        """1 where an agent or a prey is."""
        agent, prey = ((places[:, None] == units[None]).any(axis=1) for units in (state.agents, state.prey))
        return jnp.stack([agent, prey, jnp.zeros_like(prey)], axis=1).astype(jnp.float32)

    def _on_grid(self, places: Int[Array, "*p"]) -> Bool[Array, "*p"]:
        """Whether these places are cells."""
        return (places >= 0) & (places < self.size * self.width) & (places % self.width < self.size)


def _pick(free: Bool[Array, "P"], luck: Float[Array, ""]) -> Bool[Array, "P"]:
    """One of the free places, or none where none is free."""
    count = free.cumsum()
    return free & (count == 1 + (luck * count[-1]).astype(jnp.int32))
