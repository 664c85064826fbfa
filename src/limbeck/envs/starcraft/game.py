"""What a worker process plays: SMAC's interface behind the verbs of a host world. Needs numpy and the game, not JAX."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from limbeck.envs.starcraft.find import BLIZZARD, find
from limbeck.errors import BadSetting, WorldFailed

SIGHT, SHOOT = 9.0, 6.0
"""SMAC's own ranges"""


class Game:
    """A battle that something else plays, anything with `get_env_info, reset, step, get_obs, get_state, get_avail_actions, close`.

    It is made at the first reset, since these games take their seed when they are made. Later seeds are ignored.

    Args:
        game: which; see `find`.
        map_name: SMAC's name of the battle.
        sizes: what limbeck expects: n_agents, n_actions, obs_shape, state_shape and episode_limit, as `get_env_info` calls them.
        options: of the game's constructor. One that the game does not know is refused unless it has SMAC's default.
        defaults: SMAC's defaults of these.
        sight_range, shoot_range: other ranges than 9 and 6 need a game with SMAC's methods of these names.
    """

    def __init__(
        self,
        game: str,
        map_name: str,
        sizes: Mapping[str, int],
        options: Mapping[str, Any],
        defaults: Mapping[str, Any],
        sight_range: float = SIGHT,
        shoot_range: float = SHOOT,
    ):
        self._map_name, self._sizes, self._options, self._defaults = map_name, sizes, options, defaults
        self._ranges = {"sight_range": (sight_range, SIGHT), "shoot_range": (shoot_range, SHOOT)}
        self._name = find(game)
        self._make = constructor(self._name)
        self._game: Any = None
        self._steps = 0

    def reset(self, seed: int) -> None:
        """A new battle."""
        if self._game is None:
            self._game = self._begin(seed)
        self._game.reset()
        self._steps = 0

    def step(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, bool]]:
        """SMAC has one flag for the end of the battle, the end of the time and its own failure; here they are told apart."""
        reward, ended, info = self._game.step([int(a) for a in action])
        self._steps += 1
        if ended and "battle_won" not in info and not info.get("episode_limit"):
            return 0.0, False, True, {"won": False, "lost": True}  # the game crashed, and was started anew from within
        won = bool(info.get("battle_won", False))
        late = self._out_of_time(info, won) if ended else self._steps >= self._sizes["episode_limit"]
        return float(reward), bool(ended and not late), late, {"won": won}

    def _out_of_time(self, info: Mapping[str, Any], won: bool) -> bool:
        """Whether it was the time limit that ended the battle. SMAC says so if asked to (which it is); its relatives may not."""
        if "episode_limit" in info:
            return bool(info["episode_limit"])
        return self._steps >= self._sizes["episode_limit"] and not won and bool(self._alive(self._avail()).any())

    def observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Observations, state, available actions, and who is alive: whoever has more to do than nothing."""
        avail = self._avail()
        return np.stack(self._game.get_obs()), np.asarray(self._game.get_state()), avail, self._alive(avail)

    def close(self) -> None:
        """Ends the game."""
        if self._game is not None:
            self._game.close()

    def _avail(self) -> np.ndarray:
        return np.asarray(self._game.get_avail_actions()).astype(bool)

    @staticmethod
    def _alive(avail: np.ndarray) -> np.ndarray:
        """Action 0 is to do nothing, which is for the dead alone."""
        return ~avail[:, 0]

    def _begin(self, seed: int) -> Any:
        known = {"map_name": self._map_name, "seed": seed, "continuing_episode": True}  # the last: to be told of the time limit
        game = self._make(**self._accepted(), **{name: value for name, value in known.items() if self._knows(name)})
        for method, (value, usual) in self._ranges.items():
            if value == usual:
                continue
            if not hasattr(game, f"unit_{method}"):
                raise BadSetting(f"{self._name} cannot be given another {method} than {usual:g}")
            setattr(game, f"unit_{method}", lambda agent_id, value=value: value)
        self._check(game.get_env_info())
        return game

    def _knows(self, name: str) -> bool:
        parameters = inspect.signature(self._make).parameters
        return name in parameters or any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())

    def _accepted(self) -> dict[str, Any]:
        """The options, without those that the game does not have but that would only ask for what SMAC does anyway."""
        strange = [n for n, value in self._options.items() if not self._knows(n) and value != self._defaults.get(n)]
        if strange:
            raise BadSetting(f"{self._name} has no setting {strange[0]}")
        return {name: value for name, value in self._options.items() if self._knows(name)}

    def _check(self, info: Mapping[str, Any]) -> None:
        found = {"episode_limit": self._sizes["episode_limit"], **info}  # not every game has a limit of its own
        wrong = [f"{name} {found.get(name)} instead of {size}" for name, size in self._sizes.items() if found.get(name) != size]
        if wrong:
            raise WorldFailed(
                f"{self._name} plays {self._map_name} with other sizes than limbeck's map of this name: {', '.join(wrong)}"
            )


def constructor(name: str) -> Callable[..., Any]:
    """What makes a game.

    Raises:
        WorldFailed: it cannot be imported.
    """
    module, function = name.partition(":")[::2]
    if not function:
        module, function = (f"{name}.env", "StarCraft2Env") if name in BLIZZARD else ("limbeck.envs.starcraft.lite", "Lite")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise WorldFailed(f"the game {name} cannot be imported: {error}") from error
