"""What a worker process plays: the engine behind the verbs of a host world. Needs numpy and gfootball, not JAX."""

from typing import Any

import numpy as np

from limbeck.envs.football.features import observations, state
from limbeck.envs.football.find import INSTALL
from limbeck.envs.football.rewards import REWARDS
from limbeck.envs.football.scenarios import SCENARIOS, level_of
from limbeck.errors import WorldFailed

ACTIONS = 19
"""the engine's default set: idle, eight directions, three passes, shot, sprint, two releases, slide, dribble, its release"""


class Game:
    """Episodes of one scenario.

    The engine ends an episode after a goal, when the ball is out of play (a foul is too), and when the other team has got it.
    That is the end of the world. The time limit is counted here.

    Args:
        core: the engine, `gfootball.env.football_env_core.FootballEnvCore` or what has its `reset` and `step`.
        config: the engine's configuration, in which it looks up the next episode's seed.
        agents: the agents' places in the team.
        reward: what is paid, a name in `REWARDS`. The team's reward is the sum over its agents.
        episode_limit: steps after which an episode is truncated.
    """

    def __init__(self, core: Any, config: Any, agents: tuple[int, ...], reward: str, episode_limit: int):
        self._core, self._config, self._agents = core, config, agents
        self._reward, self._limit = REWARDS[reward], episode_limit
        self._pitch: Any = None

    def reset(self, seed: int) -> None:
        """A new episode, all of whose chance follows from the seed."""
        self._config["game_engine_random_seed"] = seed
        # Which team is computed first. Left alone, the engine takes it from the first episode's seed and keeps it for all others.
        self._config["reverse_team_processing"] = bool(seed % 2)
        self._core.reset()
        self._pitch = self._core.observation()
        self._steps, self._passed = 0, np.zeros(len(self._agents), int)
        controlled = tuple(self._pitch["left_agent_controlled_player"])
        if controlled != self._agents:
            raise ValueError(f"the engine controls players {controlled} instead of {self._agents}")

    def step(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, bool]]:
        """A tenth of a second of play."""
        self._pitch, score, ended, _ = self._core.step([int(a) for a in action])
        self._steps += 1
        paid, self._passed = self._reward(score, self._pitch, self._agents, self._passed)
        ours, theirs = self._pitch["score"]
        late = not ended and self._steps >= self._limit
        return float(paid.sum()), bool(ended), late, {"won": ours > theirs}

    def observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Observations [N, O], state [S]; every action is always available, and nobody falls."""
        n = len(self._agents)
        return observations(self._pitch, self._agents), state(self._pitch), np.ones((n, ACTIONS), bool), np.ones(n, bool)

    def close(self) -> None:
        """Hands the engine back."""
        self._core.close()


def world(scenario: str, reward: str, episode_limit: int) -> Game:
    """The game that a worker plays; `scenario` is a name in `SCENARIOS`.

    Raises:
        WorldFailed: the engine cannot be loaded.
    """
    agents = SCENARIOS[scenario].agents
    core, config = engine(scenario, len(agents))
    return Game(core, config, agents, reward, episode_limit)


def engine(scenario: str, agents: int) -> tuple[Any, Any]:
    """The game's engine and its configuration, without any of the game's wrappers, which need an older Gym than can be installed.

    Raises:
        WorldFailed: it cannot be loaded.
    """
    try:
        from gfootball.env import config, football_env_core  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise WorldFailed(f"Google Research Football cannot be loaded ({error}); {INSTALL}") from error
    told = config.Config({"level": level_of(scenario), "players": [f"agent:left_players={agents},right_players=0"]})
    return football_env_core.FootballEnvCore(told), told
