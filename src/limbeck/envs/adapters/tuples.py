"""Gymnasium's environments with a space for every agent, at a table: level-based foraging, robotic warehouses and their like."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from limbeck.envs.adapters.parallel import built, imported, package
from limbeck.envs.adapters.spaces import first_action, kind_of
from limbeck.envs.adapters.team import Moment, Rules, Team
from limbeck.errors import BadSetting, WorldFailed


class Tuples:
    """A `Table` of agents with numbers.

    Rewards and the two flags may be given for each agent, or once for all.

    Args:
        env: the environment.
        finished: whether an end that the environment calls terminated is one, for those that mean the time limit too.
        won: whether an episode that has ended so was won; or the name of what says so in the info.
    """

    def __init__(self, env: Any, finished: Callable[[Any], bool] | None = None, won: bool | str = False):
        self.env, self._finished, self._won = env, finished, won
        self.sees = _each("observation_space", env)
        self.acts = _each("action_space", env)
        self.agents: Sequence[Any] = [f"agent {i}" for i in range(len(self.acts))]
        if len(self.sees) != len(self.acts):
            raise BadSetting(f"the environment has {len(self.sees)} spaces of observations for {len(self.acts)} agents")

    def reset(self, seed: int) -> Moment:
        """A new episode."""
        seen, info = self.env.reset(seed=seed)
        nobody = [False] * len(self.agents)
        return Moment(list(seen), self._masks(info), [0.0] * len(nobody), nobody, nobody, [True] * len(nobody))

    def step(self, actions: Sequence[int | None]) -> Moment:
        """Who has left is said to take its first action: these environments want one from everybody."""
        told = [first_action(space) if action is None else action for action, space in zip(actions, self.acts, strict=True)]
        seen, reward, terminated, truncated, info = self.env.step(told)
        ended, late = self._for_each(terminated), self._for_each(truncated)
        if self._finished is not None and ended.all() and not self._finished(self.env.unwrapped):
            ended, late = late, ended
        won = bool(info.get(self._won, False)) if isinstance(self._won, str) else self._won and bool(ended.all())
        present = [action is not None for action in actions]
        return Moment(list(seen), self._masks(info), list(self._for_each(reward)), list(ended), list(late), present, won)

    def _for_each(self, given: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(given), len(self.agents))

    def _masks(self, info: Mapping[str, Any]) -> Sequence[Any]:
        return list(info["action_mask"]) if "action_mask" in info else [None] * len(self.agents)


def world(name: str, options: Mapping[str, Any], rules: Mapping[str, Any], won: str = "") -> Team:
    """The team of what `name`, a `package.module:function`, makes."""
    module, _, function = name.partition(":")
    env = built(imported(module, function), name, options)
    return Team(Tuples(env, won=won), Rules(**rules), has_win=bool(won))


def foraging(name: str, options: Mapping[str, Any], rules: Mapping[str, Any]) -> Team:
    """Level-based foraging. It is won when all food is eaten; its one flag says that, or that time is up."""
    env = registered("lbforaging", name, options)
    return Team(Tuples(env, finished=lambda env: not env.field.any(), won=True), Rules(**rules), has_win=True)


def warehouse(name: str, options: Mapping[str, Any], rules: Mapping[str, Any]) -> Team:
    """A robotic warehouse. Its one flag says that time is up; or, if asked to, that nothing has been delivered for long."""
    env = registered("rware", name, options)
    return Team(Tuples(env, finished=lambda env: not env.max_steps or env._cur_steps < env.max_steps), Rules(**rules))


def registered(owner: str, name: str, options: Mapping[str, Any]) -> Any:
    """The environment that a package has registered with Gymnasium, as its own constructor makes it.

    Raises:
        WorldFailed: the package or Gymnasium is missing, or has no environment of this name.
    """
    gymnasium = package("gymnasium")
    package(owner)
    try:
        entry = gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise WorldFailed(f"{owner} has no environment called {name}: {error}") from error
    make = entry.entry_point
    if isinstance(make, str):
        module, _, attribute = make.partition(":")
        make = imported(module, attribute)
    return built(make, name, {**entry.kwargs, **options})


def _each(name: str, env: Any) -> list[Any]:
    """The spaces of all agents.

    Raises:
        BadSetting: there is one space for all.
    """
    space = getattr(env, name)
    if isinstance(space, list | tuple):
        return list(space)
    if kind_of(space) == "Tuple":
        return list(space.spaces)
    raise BadSetting(f"the environment's {name} is a {kind_of(space)}; it must be a Tuple with a space for every agent")
