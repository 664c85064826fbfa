"""What one agent may do and sees, read from spaces of Gymnasium's kind. They are known by their names: nothing is imported."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from limbeck.errors import BadSetting

PARTS = {"observation", "action_mask"}
"""what an observation that is a dictionary is made of"""


def kind_of(space: Any) -> str:
    """Box, Dict, Discrete, Tuple, or whatever else it calls itself."""
    names = [each.__name__ for each in type(space).__mro__]
    return next((name for name in names if name in ("Box", "Dict", "Discrete", "Tuple")), names[0])


def actions_of(agent: Any, space: Any) -> int:
    """How many actions the agent has.

    Raises:
        BadSetting: they cannot be counted.
    """
    if kind_of(space) != "Discrete":
        raise BadSetting(f"the actions of {agent} are a {kind_of(space)} space; limbeck plays with Discrete ones alone")
    return int(space.n)


def first_action(space: Any) -> int:
    """What the environment calls the first of them."""
    return int(getattr(space, "start", 0))


def numbers_of(agent: Any, space: Any) -> int:
    """How many numbers the agent sees.

    Raises:
        BadSetting: what it sees is no array of numbers.
    """
    inner = space
    if kind_of(space) == "Dict":
        parts = set(space.spaces)
        if "observation" not in parts or parts - PARTS:
            raise BadSetting(
                f"{agent} observes a Dict of {', '.join(sorted(map(str, parts)))}; it must be observation and action_mask"
            )
        inner = space.spaces["observation"]
    if kind_of(inner) != "Box":
        raise BadSetting(f"{agent} observes a {kind_of(inner)} space; it must be a Box, or a Dict of observation and action_mask")
    return int(np.prod(inner.shape))


def read(agent: Any, seen: Any, mask: Any, numbers: int, actions: int) -> tuple[np.ndarray, np.ndarray]:
    """What the agent sees in a row, and which actions it may take: all, unless there is a mask in `seen` or beside it.

    Raises:
        ValueError: they do not fit the agent's spaces, or it may do nothing at all.
    """
    if isinstance(seen, Mapping):
        seen, mask = seen["observation"], seen.get("action_mask", mask)
    row = np.asarray(seen, np.float32).ravel()
    free = np.ones(actions, bool) if mask is None else np.asarray(mask).ravel().astype(bool)
    if row.size != numbers:
        raise ValueError(f"{agent} sees {row.size} numbers; by its space there are {numbers}")
    if free.size != actions:
        raise ValueError(f"the action_mask of {agent} has {free.size} entries for {actions} actions")
    if not free.any():
        raise ValueError(f"the action_mask of {agent} leaves it no action")
    return row, free
