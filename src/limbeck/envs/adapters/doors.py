"""Worlds named by what others call them: `pettingzoo:mpe2.simple_spread_v3`, `lbf:Foraging-8x8-2p-2f-coop-v3`.

A world of this kind is not known before it has been made, so a process makes it once, to be asked for its sizes. Those that are
JAX programs (`jaxmarl:hanabi`) need no process.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

from limbeck.envs.adapters import jaxmarl
from limbeck.envs.adapters.team import Made
from limbeck.envs.host import AnyEnvironment, HostEnv, Processes
from limbeck.envs.process import ask
from limbeck.errors import BadSetting, WorldFailed
from limbeck.types import EnvSpec


@dataclass(frozen=True)
class DoorSettings(Processes, Made):
    """How a team is made of agents (see `Rules`), what the environment is made with (see `Made`), and:

    Args:
        negative_returns: whether returns may be below 0, see `EnvSpec`.
    """

    negative_returns: bool = False


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
    factory: str | Callable[[str, str, Any], AnyEnvironment]
    """what a worker makes its worlds with; or, of worlds that need none, (name, what follows the colon, settings) -> world"""
    settings: type[Made]
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
    "jaxmarl": Door(
        "NAME",
        jaxmarl.world,
        jaxmarl.JaxmarlSettings,
        "jaxmarl",
        "Apache-2.0",
        "jaxmarl",
        {
            "HeuristicEnemySMAX": (5, 10, 127, 120, 100),
            "MPE_simple_spread_v3": (3, 5, 18, 54, 25),
            "hanabi": (2, 21, 658, 1316, 94),
            "overcooked_v2": (2, 6, 600, 1200, 400),
        },
    ),
    "gymnasium": Door("package.module:function", "limbeck.envs.adapters.tuples:world", OwnDoorSettings, "", ""),
}
ON_PYPI = frozenset({"pettingzoo", "mpe2", "lbforaging", "rware", "jaxmarl"})
"""packages that are installed by the names under which they are imported"""


def make(prefix: str, rest: str, **settings: Any) -> AnyEnvironment:
    """The world `rest` behind a door.

    Raises:
        BadSetting: a setting that makes no sense, or no name.
        WorldFailed: it cannot be made on this machine.
    """
    door, name = DOORS[prefix], f"{prefix}:{rest}"
    chosen = door.settings(**settings)
    if not rest or (door.form.endswith(":function") and ":" not in rest):
        raise BadSetting(f"'{name}' is no world; its name must be {prefix}:{door.form}")
    require = partial(_require, door, rest)
    require()
    if isinstance(chosen, DoorSettings) and isinstance(door.factory, str):
        return _hosted(name, rest, door.factory, chosen, require)
    assert callable(door.factory)
    return door.factory(name, rest, chosen)


def _hosted(name: str, rest: str, factory: str, chosen: DoorSettings, require: Callable[[], None]) -> HostEnv:
    rules = {each: getattr(chosen, each) for each in ("reward", "state", "episode_limit")}
    job: dict[str, Any] = {"name": rest, "options": dict(chosen.options), "rules": rules}
    if isinstance(chosen, OwnDoorSettings):
        job["won"] = chosen.won
    facts = _facts(name, factory, json.dumps(job), chosen.timeout, (os.getcwd(), *sys.path))
    slots = facts["state_slots"]
    ours = {"name": name, "state_slots": slots and tuple(map(tuple, slots)), "negative_returns": chosen.negative_returns}
    spec = EnvSpec(**facts | ours)
    return HostEnv(spec, factory, job, require=require, **chosen.processes)


@lru_cache(maxsize=64)
def _facts(name: str, factory: str, job: str, timeout: float, path: tuple[str, ...]) -> dict[str, Any]:
    """What the world says about itself; asked once, since a run makes its world several times."""
    return ask(name, factory, json.loads(job), timeout)


def _require(door: Door, rest: str) -> None:
    package = door.needed(rest)
    if package in sys.modules or importlib.util.find_spec(package) is not None:
        return
    if package in ON_PYPI:
        raise WorldFailed(f"{package} is not installed; it comes with pip install {package}, or with limbeck[{door.extra}]")
    raise WorldFailed(f"there is no module {package} to take a world from; put its folder on PYTHONPATH, or install it")
