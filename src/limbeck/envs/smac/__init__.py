"""StarCraft micromanagement: SMAC's interface on a model of the game's combat, in JAX."""

from limbeck.envs.smac.maps import MAPS, BattleMap
from limbeck.envs.smac.settings import SmacSettings
from limbeck.envs.smac.world import Smac, SmacState, Snapshot, make

__all__ = ["MAPS", "BattleMap", "Smac", "SmacSettings", "SmacState", "Snapshot", "make"]
