"""StarCraft micromanagement: SMAC's interface on a model of the game's combat, in JAX."""

from limbeck.envs.smac.battlemap import BattleMap, Group, load_map
from limbeck.envs.smac.maps import MAPS, add_map
from limbeck.envs.smac.settings import SkirmishSettings, SmacSettings
from limbeck.envs.smac.skirmish import SKIRMISHES, Skirmish
from limbeck.envs.smac.world import Smac, SmacState, Snapshot, make

__all__ = [
    "MAPS",
    "SKIRMISHES",
    "BattleMap",
    "Group",
    "Skirmish",
    "SkirmishSettings",
    "Smac",
    "SmacSettings",
    "SmacState",
    "Snapshot",
    "add_map",
    "load_map",
    "make",
]
