"""Worlds by name: `make("smac/3s_vs_5z")`. A world outside the package joins with one call of `register`."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from limbeck.envs.base import Environment
from limbeck.envs.host import AnyEnvironment, HostEnv
from limbeck.errors import BadSetting, LimbeckError, unknown

UNKNOWN = "-"
"""the licence of a world that was registered from outside"""


class World(NamedTuple):
    """An entry of the register."""

    build: Callable[..., AnyEnvironment]
    """(**settings) -> world"""
    settings: tuple[str, ...]
    """the names that `build` accepts"""
    needs: tuple[str, ...] = ()
    """those among them without which it cannot be built"""
    made_of: str = ""
    """what has to be installed to play it, in words"""
    licence: str = "Apache-2.0"
    """of what is played; limbeck's own, unless it is somebody else's"""


def make(name: str, **settings: Any) -> Any:
    """The world called `name`: an `Environment`, or a `HostEnv` if it lives in processes of its own.

    Args:
        name: one of `names()`; or one behind a door, such as `pettingzoo:mpe2.simple_spread_v3` (`adapters.doors`).
        settings: the world's own settings, such as `sight_range=6`.

    Raises:
        UnknownName: no world or no setting is called so; the message lists those that exist, the nearest first.
        BadSetting: the world refuses a value, or cannot do without one that is missing.
        LimbeckError: the world's data cannot be read, or what it is made of is not installed.
    """
    worlds = _neighbours(name)
    if name not in worlds:
        raise unknown("world", name, [*names(), *doors()])
    world = worlds[name]
    for setting in settings:
        if setting not in world.settings:
            raise unknown(f"setting of {name}", setting, world.settings)
    for setting in world.needs:
        if setting not in settings:
            raise BadSetting(f"{name} needs the setting {setting}, as in --env-set {setting}=...")
    try:
        return world.build(**settings)
    except (TypeError, ValueError) as error:
        if isinstance(error, LimbeckError) or not settings:  # with nothing but defaults it is a bug, not the user's mistake
            raise
        raise BadSetting(f"{name} with {settings}: {error}") from error


def settings_of(name: str) -> tuple[str, ...]:
    """The settings that `make(name, ...)` accepts; none for a name that it does not know."""
    worlds = _neighbours(name)
    return worlds[name].settings if name in worlds else ()


def needs_of(name: str) -> tuple[str, ...]:
    """The settings that `make(name, ...)` cannot do without; none for a name that it does not know."""
    worlds = _neighbours(name)
    return worlds[name].needs if name in worlds else ()


def names() -> list[str]:
    """All worlds that `make` knows by a name of limbeck's own."""
    return sorted([*(name for load in _BUILT_IN.values() for name in load()), *_REGISTERED])


def entry(name: str) -> World:
    """What the register says about one of `names()`."""
    return _neighbours(name)[name]


def doors() -> list[str]:
    """The forms of the names that others have given: `make` knows these worlds too, as far as they are installed."""
    from limbeck.envs.adapters.doors import DOORS

    return sorted(f"{prefix}:{door.form}" for prefix, door in DOORS.items())


def register(name: str, factory: Callable[..., AnyEnvironment], members: Iterable[str] = ()) -> None:
    """Makes a world from outside the package known to `make`, the command line and the contract test.

    Args:
        name: `family/world`; or `family/` for several worlds at once, which `members` lists.
        factory: `(**settings) -> world`, or `(member, **settings) -> world` for several. The names of its parameters are the
            settings that `make` accepts.
        members: the worlds of `family/`.

    Raises:
        BadSetting: the name is taken, or has no family.
    """
    family, slash, member = name.partition("/")
    if not family or not slash:
        raise BadSetting(f"a world's name is 'family/world', not '{name}'")
    parameters = _parameters(factory)
    if member:
        new = {name: World(factory, parameters, licence=UNKNOWN)}
    else:
        new = {name + each: World(partial(factory, each), parameters[1:], licence=UNKNOWN) for each in members}
    if not new:
        raise BadSetting(f"'{name}' registers nothing; name the worlds of the family as `members`")
    taken = sorted(new.keys() & _family(family).keys())
    if taken:
        raise BadSetting(f"a world called '{taken[0]}' exists already; choose another name")
    _REGISTERED.update(new)


def _neighbours(name: str) -> dict[str, World]:
    """The worlds among which one of this name would be."""
    prefix, colon, rest = name.partition(":")
    if colon:
        from limbeck.envs.adapters.doors import DOORS, make

        if prefix in DOORS:
            return {name: World(partial(make, prefix, rest), _parameters(DOORS[prefix].settings))}
    return _family(name.partition("/")[0])


def _family(prefix: str) -> dict[str, World]:
    built_in = _BUILT_IN[prefix]() if prefix in _BUILT_IN else {}
    return built_in | {name: world for name, world in _REGISTERED.items() if name.startswith(prefix + "/")}


def _parameters(function: Callable) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def _probe() -> dict[str, World]:
    from limbeck.envs import probe

    return {f"probe/{name}": World(build, _parameters(build)) for name, build in probe.WORLDS.items()}


def _football() -> dict[str, World]:
    from limbeck.envs.football.scenarios import SCENARIOS
    from limbeck.envs.football.world import FootballSettings, make

    def build(scenario: str, **settings: Any) -> HostEnv:
        return make(scenario, FootballSettings(**settings))

    parameters = _parameters(FootballSettings)
    return {f"football/{name}": World(partial(build, name), parameters, made_of="extra football, see docs") for name in SCENARIOS}


def _mpe() -> dict[str, World]:
    from limbeck.envs import mpe

    return {f"mpe/{name}": World(build, _parameters(build)) for name, build in mpe.WORLDS.items()}


def _predator_prey() -> dict[str, World]:
    from limbeck.envs.predator_prey import PredatorPrey

    return {"predator_prey/8v8": World(PredatorPrey, _parameters(PredatorPrey))}


def _ranking() -> dict[str, World]:
    from limbeck.envs import ranking

    return {
        "ranking/files": World(ranking.from_files, _parameters(ranking.RankingFileSettings), needs=("path",)),
        "ranking/synthetic": World(ranking.synthetic, _parameters(ranking.SyntheticSettings)),
    }


def _smac() -> dict[str, World]:
    from limbeck.envs import smac
    from limbeck.envs.smac.settings import SkirmishSettings, SmacSettings

    def build(map_name: str, kind: type[SmacSettings], **settings: Any) -> Environment:
        return smac.make(map_name, kind(**settings))

    families = ((smac.MAPS, SmacSettings), (smac.SKIRMISHES, SkirmishSettings))
    return {f"smac/{name}": World(partial(build, name, kind), _parameters(kind)) for battles, kind in families for name in battles}


def _starcraft() -> dict[str, World]:
    from limbeck.envs.smac.maps import MAPS
    from limbeck.envs.starcraft.world import StarcraftSettings, make

    def build(map_name: str, **settings: Any) -> HostEnv:
        return make(map_name, StarcraftSettings(**settings))

    game = partial(World, settings=_parameters(StarcraftSettings), made_of="a game, see docs", licence="its own")
    return {f"starcraft/{name}": game(partial(build, name)) for name in MAPS}


# Loaded when first asked for, so that a small world does not wait for a large one's imports.
_BUILT_IN: dict[str, Callable[[], dict[str, World]]] = {
    "football": _football,
    "mpe": _mpe,
    "predator_prey": _predator_prey,
    "probe": _probe,
    "ranking": _ranking,
    "smac": _smac,
    "starcraft": _starcraft,
}
_REGISTERED: dict[str, World] = {}
