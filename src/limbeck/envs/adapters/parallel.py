"""PettingZoo's parallel environments at a table. Anything that speaks their language will do: PettingZoo itself is not imported."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limbeck.envs.adapters.team import Moment, Rules, Team
from limbeck.errors import BadSetting, WorldFailed


class Parallel:
    """A `Table` of agents with names.

    Args:
        env: the environment; `possible_agents` is the order of the agents.
        won: name in the infos that says of any agent that the episode was won.
    """

    def __init__(self, env: Any, won: str = ""):
        if not hasattr(env, "possible_agents"):
            raise BadSetting("the environment has no `possible_agents`; the team must be known from the beginning")
        self.env, self._won = env, won
        self.agents: Sequence[Any] = list(env.possible_agents)
        self.sees = [env.observation_space(agent) for agent in self.agents]
        self.acts = [env.action_space(agent) for agent in self.agents]

    def reset(self, seed: int) -> Moment:
        """A new episode."""
        seen, infos = self.env.reset(seed=seed)
        return self._moment(seen, {}, {}, {}, infos)

    def step(self, actions: Sequence[int | None]) -> Moment:
        """Those who have left are not mentioned."""
        told = {agent: action for agent, action in zip(self.agents, actions, strict=True) if action is not None}
        return self._moment(*self.env.step(told))

    def _moment(self, seen: Mapping, rewards: Mapping, ended: Mapping, late: Mapping, infos: Mapping) -> Moment:
        about = [infos.get(agent) or {} for agent in self.agents]
        return Moment(
            seen=[seen.get(agent) for agent in self.agents],
            masks=[info.get("action_mask") for info in about],
            reward=[float(rewards.get(agent, 0.0)) for agent in self.agents],
            terminated=[bool(ended.get(agent, False)) for agent in self.agents],
            truncated=[bool(late.get(agent, False)) for agent in self.agents],
            present=[agent in self.env.agents for agent in self.agents],
            won=bool(self._won) and any(bool(info.get(self._won, False)) for info in about),
        )


def world(name: str, options: Mapping[str, Any], rules: Mapping[str, Any], won: str = "") -> Team:
    """The team of an environment: `name` is a module with a `parallel_env`, or a `package.module:function`."""
    module, colon, function = name.partition(":")
    env = built(imported(module, function if colon else "parallel_env"), name, options)
    return Team(Parallel(env, won), Rules(**rules), has_win=bool(won))


def package(name: str) -> Any:
    """A package or module that must be there.

    Raises:
        WorldFailed: it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise WorldFailed(f"{name} cannot be imported: {error}") from error


def imported(module: str, function: str) -> Callable[..., Any]:
    """What makes an environment.

    Raises:
        WorldFailed: it cannot be imported, or is not there.
    """
    inside = package(module)
    if not hasattr(inside, function):
        raise WorldFailed(f"{module} has no {function}")
    return getattr(inside, function)


def built(make: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Any:
    """The environment.

    Raises:
        BadSetting: it refuses its options.
    """
    try:
        return make(**options)
    except TypeError as error:
        raise BadSetting(f"{name} cannot be made with the options {dict(options)}: {error}") from error
