"""The team behind a door: agents of different sizes side by side, one reward, one end. What a worker process plays.

Needs numpy alone. The environment itself is behind a `Table`, which hides whether its agents have names or numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from limbeck.envs.adapters.spaces import actions_of, first_action, numbers_of, read
from limbeck.errors import BadSetting

REWARDS = {"sum": np.sum, "mean": np.mean}
STATES = ("auto", "observations")
LIMITS = ("max_cycles", "max_steps", "_max_episode_steps", "max_episode_steps", "episode_limit")
"""what environments call the number of steps after which they stop"""


class Moment(NamedTuple):
    """What a reset or a step led to, agent by agent. Those that are not there have None, 0 and False."""

    seen: Sequence[Any]
    masks: Sequence[Any]
    """what is said about available actions beside the observation, if anything"""
    reward: Sequence[float]
    terminated: Sequence[bool]
    truncated: Sequence[bool]
    present: Sequence[bool]
    """who acts at the next step, were it not for the two before"""
    won: bool = False


class Table(Protocol):
    """An environment with its agents in a fixed order, their spaces of observations and those of actions."""

    @property
    def env(self) -> Any: ...
    @property
    def agents(self) -> Sequence[Any]: ...
    @property
    def sees(self) -> Sequence[Any]: ...
    @property
    def acts(self) -> Sequence[Any]: ...

    def reset(self, seed: int) -> Moment: ...
    def step(self, actions: Sequence[int | None]) -> Moment:
        """One step; None is no action, of one who is not there."""
        ...


@dataclass(frozen=True)
class Rules:
    """How a team is made of agents.

    Args:
        reward: the team's is the sum or the mean over all agents; one who has left is paid nothing.
        state: auto is what the environment's `state()` returns, or all observations in a row where it has none; observations is the
            latter in any case.
        episode_limit: steps after which an episode is truncated; None: what the environment says.
    """

    reward: str = "sum"
    state: str = "auto"
    episode_limit: int | None = None

    def __post_init__(self):
        if self.reward not in REWARDS:
            raise BadSetting(f"reward is {self.reward!r}; it must be one of {', '.join(REWARDS)}")
        if self.state not in STATES:
            raise BadSetting(f"state is {self.state!r}; it must be one of {', '.join(STATES)}")
        if self.episode_limit is not None and (type(self.episode_limit) is not int or self.episode_limit < 1):
            raise BadSetting(f"episode_limit is {self.episode_limit!r}; it must be a whole number of at least 1")


@dataclass(frozen=True)
class Made(Rules):
    """The same for an environment that is made by name.

    Args:
        options: what it is made with, by name, as JSON knows it.
    """

    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.options, Mapping):
            form = """--env-set 'options={"name": value}'"""
            raise BadSetting(f"options is {self.options!r}; it must be a table of names and values, as in {form}")


class Team:
    """A host world (see `HostWorld`) of agents that sit at a table.

    Who sees or can do less than others sees zeros, and has actions that are never available. Who has left the episode sees zeros
    and may only take action 0, which nobody is told of. The episode ends when all have left: terminated, unless one of the last was
    cut off by the time limit; or truncated, after `episode_limit` steps.

    Args:
        table: the environment.
        rules: how it is played.
        has_win: whether the table says which episodes were won.
    """

    def __init__(self, table: Table, rules: Rules, has_win: bool = False):
        self._table, self._has_win = table, has_win
        self._reward = REWARDS[rules.reward]
        self._numbers = [numbers_of(*each) for each in zip(table.agents, table.sees, strict=True)]
        self._actions = [actions_of(*each) for each in zip(table.agents, table.acts, strict=True)]
        self._first = [first_action(space) for space in table.acts]
        self._rules = rules
        self._limit: Any = None
        self._state: Callable[[], Any] | None = None

    def facts(self) -> dict[str, Any]:
        """The fields of `EnvSpec`; the state has a slot for each agent if it is made of their observations."""
        self.reset(0)
        obs, state, avail, _ = self.observe()
        (n, width), slots = obs.shape, None
        if self._state is None:
            slots = [[i * width, (i + 1) * width] for i in range(n)]
        sizes = {"n_agents": n, "n_actions": avail.shape[1], "obs_dim": width, "state_dim": state.size}
        return sizes | {"episode_limit": self._limit, "state_slots": slots, "has_win": self._has_win}

    def reset(self, seed: int) -> None:
        """A new episode."""
        moment = self._table.reset(seed)
        self._alive, self._steps = np.array(moment.present, bool), 0
        if self._limit is None:
            self._get_to_know()
        self._look(moment)

    def step(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, bool]]:
        """The team's reward, and whether the world or its time ended."""
        told = [int(a) + first if here else None for a, first, here in zip(action, self._first, self._alive, strict=True)]
        moment = self._table.step(told)
        self._steps += 1
        terminated, truncated = np.array(moment.terminated, bool), np.array(moment.truncated, bool)
        acted, self._alive = self._alive, np.array(moment.present, bool) & ~terminated & ~truncated
        ended = not self._alive.any()
        cut = ended and bool((acted & truncated & ~terminated).any())
        late = cut or (not ended and self._steps >= self._limit)
        self._look(moment)
        return float(self._reward(moment.reward)), ended and not cut, late, {"won": bool(moment.won)}

    def observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Observations [N, O], state [S], available actions [N, A], and who is there [N]."""
        state = self._obs if self._state is None else np.asarray(self._state(), np.float32)
        return self._obs, state.ravel(), self._avail, self._alive

    def close(self) -> None:
        """Whatever the environment has to close."""
        close = getattr(self._table.env, "close", None)
        if close is not None:
            close()

    def _get_to_know(self) -> None:
        """What environments can be asked only after a first reset."""
        env, rules = self._table.env, self._rules
        self._state = state_of(env) if rules.state == "auto" else None
        self._limit = stops_after(rules.episode_limit or limit_of(env))

    def _look(self, moment: Moment) -> None:
        """What all of them see, padded."""
        self._obs = np.zeros((len(self._numbers), max(self._numbers)), np.float32)
        self._avail = np.zeros((len(self._actions), max(self._actions)), bool)
        for i in np.flatnonzero(~self._alive):
            self._avail[i, 0] = True
        for i in map(int, np.flatnonzero(self._alive)):
            numbers, actions = self._numbers[i], self._actions[i]
            row, free = read(self._table.agents[i], moment.seen[i], moment.masks[i], numbers, actions)
            self._obs[i, :numbers], self._avail[i, :actions] = row, free


def layers(env: Any) -> list[Any]:
    """An environment and what it wraps, from the outside in."""
    found: list[Any] = []
    waiting = [env]
    while waiting:
        each = waiting.pop(0)
        if each is None or any(each is other for other in found):
            continue
        found.append(each)
        waiting += [getattr(each, name, None) for name in ("env", "aec_env", "unwrapped")]
    return found


def limit_of(env: Any) -> int | None:
    """After how many steps it stops, if it says so in one of the usual ways."""
    for each in layers(env):
        for name in LIMITS:
            value = getattr(each, name, None)
            if isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0:
                return int(value)
    return None


def stops_after(limit: int | None) -> int:
    """The steps after which an episode is truncated.

    Raises:
        BadSetting: nobody has said.
    """
    if limit is None:
        raise BadSetting("the environment does not say after how many steps it stops; set episode_limit")
    return limit


def state_of(env: Any) -> Callable[[], Any] | None:
    """The environment's `state`, if it is more than a name: PettingZoo's base class has one that is not implemented.

    To be asked after a reset.

    Raises:
        BadSetting: it returns something else than numbers.
    """
    state = next((each.state for each in layers(env) if callable(getattr(each, "state", None))), None)
    if state is None:
        return None
    try:
        np.asarray(state(), np.float32)
    except NotImplementedError:
        return None
    except (TypeError, ValueError) as error:
        raise BadSetting(f"state() of the environment returns no array of numbers; set state=observations ({error})") from error
    return state
