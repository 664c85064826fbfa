"""SMAClite behind SMAC's interface. It is a Gymnasium environment (Gym, before 2024) and leaves the time limit to others."""

import importlib
import sys
from typing import Any

import numpy as np


class Lite:
    """The same verbs as SMAC's.

    Args:
        map_name: SMAC's name of the battle.
        seed: of all chance in it.
    """

    def __init__(self, map_name: str, seed: int):
        importlib.import_module("smaclite")  # registers its battles, with whichever of the two it was written for
        gym = importlib.import_module("gymnasium" if "gymnasium" in sys.modules else "gym")
        self._env: Any = gym.make(f"smaclite/{map_name}-v0", seed=seed).unwrapped
        self._obs: Any = ()

    def get_env_info(self) -> dict[str, int]:
        """The sizes."""
        env = self._env
        return {
            "n_agents": env.n_agents,
            "n_actions": env.n_actions,
            "obs_shape": env.obs_size,
            "state_shape": env.state_size,
        }

    def reset(self) -> None:
        """A new battle. Gymnasium returns a pair, Gym the observations alone."""
        seen = self._env.reset()
        self._obs = seen[0] if isinstance(seen[-1], dict) else seen

    def step(self, actions: list[int]) -> tuple[float, bool, dict[str, bool]]:
        """Half a second of battle."""
        self._obs, reward, ended, *_ = self._env.step(actions)
        return float(reward), bool(ended), {"battle_won": len(self._env.enemies) == 0}

    def get_obs(self) -> list[np.ndarray]:
        """What every agent sees."""
        return list(self._obs)

    def get_state(self) -> np.ndarray:
        """The global state."""
        return self._env.get_state()

    def get_avail_actions(self) -> list[Any]:
        """Who may do what."""
        return self._env.get_avail_actions()

    def close(self) -> None:
        """Nothing is left behind."""
        self._env.close()
