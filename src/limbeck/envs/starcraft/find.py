"""Which game is there to play. Looks without importing, so that it can be asked at any time."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from limbeck.errors import BadSetting, WorldFailed

VARIABLE = "LIMBECK_STARCRAFT"
GAMES: Mapping[str, str] = {"smac": "smac/env/starcraft2", "smacv2": "smacv2/env/starcraft2", "smaclite": "smaclite/env"}
"""packages by name, and a folder that tells them from others of the same name"""
BLIZZARD = ("smac", "smacv2")
"""those that need StarCraft II itself"""
INSTALL = (
    "install SMAC (github.com/oxwhirl/smac), SMACv2 or SMAClite, and set SC2PATH to the folder of StarCraft II; "
    f"or name a factory of your own in {VARIABLE}, as package.module:function"
)


def find(game: str = "auto") -> str:
    """The game to play: a name in `GAMES`, or `package.module:function`.

    Args:
        game: one of these; `auto` is what the variable `LIMBECK_STARCRAFT` says, else the first of `GAMES` that is installed.

    Raises:
        WorldFailed: there is none, or StarCraft II itself is not where `SC2PATH` says.
        BadSetting: the name means nothing.
    """
    chosen = os.environ.get(VARIABLE, "") if game == "auto" else game
    chosen = chosen or next((name for name in GAMES if _installed(name)), "")
    if not chosen:
        other = "the package `smac` that is installed is another one (an AutoML tool): " if _found("smac") else ""
        raise WorldFailed(f"there is no StarCraft to play; {other}{INSTALL}")
    if ":" in chosen:
        if not _found(chosen.partition(":")[0].partition(".")[0]):
            raise WorldFailed(f"the game '{chosen}' cannot be imported; it must be package.module:function, on the Python path")
        return chosen
    if chosen not in GAMES:
        raise BadSetting(f"there is no game called '{chosen}'; take auto, {', '.join(GAMES)}, or package.module:function")
    if not _installed(chosen):
        raise WorldFailed(f"{chosen} is not installed; {INSTALL}")
    if chosen in BLIZZARD:
        _check_blizzard()
    return chosen


def _found(package: str) -> Path | None:
    """The folder that holds a package, or module."""
    spec = importlib.util.find_spec(package) if package not in sys.modules else sys.modules[package].__spec__
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ())
    return Path(places[0]).parent if places else Path(spec.origin or ".").parent


def _installed(game: str) -> bool:
    place = _found(game)
    return place is not None and (place / GAMES[game]).is_dir()


def _check_blizzard() -> None:
    """On Linux the game is wherever it was unpacked. (Elsewhere its installer leaves a note that PySC2 finds.)"""
    place = Path(os.environ.get("SC2PATH") or Path.home() / "StarCraftII").expanduser()
    if sys.platform.startswith("linux") and not (place / "Versions").is_dir():
        raise WorldFailed(f"StarCraft II is not in {place}: unpack its Linux package, and set SC2PATH to its folder")
