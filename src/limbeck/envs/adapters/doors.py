"""Worlds named by what others call them: `pettingzoo:mpe2.simple_spread_v3`, `lbf:Foraging-8x8-2p-2f-coop-v3`.

A world of this kind is not known before it has been made, so a process makes it once, to be asked for its sizes.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple

from limbeck.envs.adapters.team import Rules
from limbeck.envs.host import HostEnv
from limbeck.envs.process import ask
from limbeck.errors import BadSetting, WorldFailed
from limbeck.types import EnvSpec


@dataclass(frozen=True)
class DoorSettings(Rules):
    """How a team is made of agents (see `Rules`), and:

    Args:
        options: what the environment is made with, by name, as JSON knows it.
        negative_returns: whether returns may be below 0, see `EnvSpec`.
        timeout: see `HostEnv`.
        workers: see `HostEnv`.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    negative_returns: bool = False
    timeout: float = 60.0
    workers: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.options, Mapping):
            form = """--env-set 'options={"name": value}'"""
            raise BadSetting(f"options is {self.options!r}; it must be a table of names and values, as in {form}")


@dataclass(frozen=True)
class OwnDoorSettings(DoorSettings):
    """The same for environments that limbeck knows nothing about.

    Args:
        won: what the infos call it that an episode was won; empty: nothing says so.
    """

    won: str = ""


class Door(NamedTuple):
    """A family of worlds that others have written."""

    form: str
    """how its worlds are called, after the colon"""
    factory: str
    settings: type[DoorSettings]
    extra: str
    """what `pip install` has to add, or nothing"""
    licence: str
    package: str = ""
    """what has to be there; empty: what the name begins with"""
    examples: Mapping[str, tuple[int, int, int, int, int]] = {}
    """worlds by name, with agents, actions, obs, state and limit"""

    def needed(self, rest: str) -> str:
        """The package without which a world cannot be made."""
        return self.package or rest.partition(":")[0].partition(".")[0]


DOORS: Mapping[str, Door] = {
    "pettingzoo": Door(
        "package.module",
        "limbeck.envs.adapters.parallel:world",
        OwnDoorSettings,
        "pettingzoo",
        "MIT",
        examples={
            "mpe2.simple_spread_v3": (3, 5, 18, 54, 25),
            "mpe2.simple_speaker_listener_v4": (2, 5, 11, 14, 25),
            "mpe2.simple_reference_v3": (2, 50, 21, 42, 25),
        },
    ),
    "lbf": Door(
        "Foraging-...",
        "limbeck.envs.adapters.tuples:foraging",
        DoorSettings,
        "lbf",
        "MIT",
        "lbforaging",
        {"Foraging-8x8-2p-2f-coop-v3": (2, 6, 12, 24, 50), "Foraging-2s-8x8-2p-2f-coop-v3": (2, 6, 12, 24, 50)},
    ),
    "rware": Door(
        "rware-...",
        "limbeck.envs.adapters.tuples:warehouse",
        DoorSettings,
        "rware",
        "MIT",
        "rware",
        {"rware-tiny-2ag-v2": (2, 5, 71, 142, 500), "rware-tiny-4ag-v2": (4, 5, 71, 284, 500)},
    ),
    "gymnasium": Door("package.module:function", "limbeck.envs.adapters.tuples:world", OwnDoorSettings, "", ""),
}
INSTALL = {"pettingzoo": "pettingzoo", "mpe2": "mpe2", "lbforaging": "lbforaging", "rware": "rware"}
"""packages by the names under which they are imported"""


def make(prefix: str, rest: str, **settings: Any) -> HostEnv:
    """The world `rest` behind a door.

    Raises:
        BadSetting: a setting that makes no sense, or no name.
        WorldFailed: it cannot be made on this machine.
    """
    door, name = DOORS[prefix], f"{prefix}:{rest}"
    chosen = door.settings(**settings)
    if not rest or (door.form.endswith(":function") and ":" not in rest):
        raise BadSetting(f"'{name}' is no world; its name must be {prefix}:{door.form}")
    rules = {each: getattr(chosen, each) for each in ("reward", "state", "episode_limit")}
    job: dict[str, Any] = {"name": rest, "options": dict(chosen.options), "rules": rules}
    if isinstance(chosen, OwnDoorSettings):
        job["won"] = chosen.won
    require = partial(_require, door, rest)
    require()
    facts = _facts(name, door.factory, json.dumps(job), chosen.timeout, (os.getcwd(), *sys.path))
    slots = facts["state_slots"]
    ours = {"name": name, "state_slots": slots and tuple(map(tuple, slots)), "negative_returns": chosen.negative_returns}
    spec = EnvSpec(**facts | ours)
    return HostEnv(spec, door.factory, job, chosen.timeout, chosen.workers, require)


@lru_cache(maxsize=64)
def _facts(name: str, factory: str, job: str, timeout: float, path: tuple[str, ...]) -> dict[str, Any]:
    """What the world says about itself; asked once, since a run makes its world several times."""
    return ask(name, factory, json.loads(job), timeout)


def _require(door: Door, rest: str) -> None:
    package = door.needed(rest)
    if package in sys.modules or importlib.util.find_spec(package) is not None:
        return
    if package in INSTALL:
        raise WorldFailed(
            f"{package} is not installed; it comes with pip install {INSTALL[package]}, or with limbeck[{door.extra}]"
        )
    raise WorldFailed(f"there is no module {package} to take a world from; put its folder on PYTHONPATH, or install it")
