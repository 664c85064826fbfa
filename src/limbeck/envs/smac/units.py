"""What every kind of unit is worth, as data: two balance tables, both in *normal* game seconds (16 game loops each).

`LIBERTY` is the data set that the SMAC maps depend on; `LADDER` is the later multiplayer balance that most re-implementations use.
A further kind of unit is a further row.
"""

from dataclasses import dataclass, replace

LOOPS_PER_SECOND = 16
MIN_DAMAGE = 0.5
"""a hit that gets past the shield always takes at least this much life"""
SHIELD_REGEN = 2.0
"""shield points per second, once nothing has hurt the unit for `SHIELD_DELAY` seconds"""
SHIELD_DELAY = 10.0
WEAPON_DELAY = (-1.0, 2.0)
"""game loops, uniform: the random part of every weapon cycle"""
RANGE_SLOP = 1.0
"""a swing that has begun still lands when its target gets away by less than this"""
ZERG_REGEN = 0.2734
ENERGY_START, ENERGY_MAX = 50.0, 200.0
ENERGY_REGEN = 0.5625
"""per second"""
ENERGY_TO_START = 5.0
"""what a healer of the opponent must have before it begins with somebody new"""
SWEEP_STEP, SWEEP_POINTS, SWEEP_RADIUS = 0.25, 5, 0.15
"""a beam burns this many points to either side of its target, across the line of fire"""


@dataclass(frozen=True)
class UnitType:
    """The facts of one kind of unit. Distances in map cells, times in normal seconds.

    Args:
        radius: the body, from whose edge ranges are measured.
        separation: the smaller body with which units push each other apart.
        damage: of one hit, before the bonus; `bonus` is added against units with the attribute `bonus_against`.
        hits: strikes per weapon cycle; a second one follows `second_hit` seconds after the first.
        damage_point: time between the start of a swing and the hit; moving before it loses the hit.
        cooldown_scale: game loops by which SMAC divides the weapon cooldown in its state vector; for healers, energy.
        volley: strikes that land at once.
        slop: by how much a target may get away during the swing.
        air: flies: collides with flyers only, and over any ground.
        hits_air: whether the weapon reaches flyers.
        heal: life per second given to a wounded biological friend; whoever heals has no weapon.
        heal_cost: energy per point of life.
        accel: cells per second squared; 0 is full speed at once.
        sweep: whether a strike burns a line of enemies, see `SWEEP_STEP`.
        blast: the radius in which it explodes, when it strikes (which it does not survive) and when it is killed; 0 for none.
        against_structures: damage there instead, where it is not 0.
        climbs: walks over the map's cliffs.
        sight: how far it sees in the game, which counts with `unit_ranges` only.
        order_range: how far SMACv2 lets an order to attack reach; 0 is as far as the weapon.
    """

    name: str
    health: float
    damage: float
    period: float
    range: float
    speed: float
    radius: float
    separation: float
    cooldown_scale: float
    shield: float = 0.0
    armor: float = 0.0
    bonus: float = 0.0
    bonus_against: str = ""
    hits: int = 1
    second_hit: float = 0.0
    damage_point: float = 0.0
    regen: float = 0.0
    attributes: frozenset[str] = frozenset()
    volley: int = 1
    slop: float = RANGE_SLOP
    air: bool = False
    hits_air: bool = False
    heal: float = 0.0
    heal_cost: float = 0.0
    accel: float = 0.0
    sweep: bool = False
    blast: float = 0.0
    against_structures: float = 0.0
    climbs: bool = False
    sight: float = 9.0
    order_range: float = 0.0


def _attributes(*names: str) -> frozenset[str]:
    return frozenset(names)


_LIBERTY = (
    UnitType(
        "marine",
        *(45, 6, 0.8608, 5, 2.25, 0.375, 0.375, 15),
        damage_point=0.05,
        hits_air=True,
        attributes=_attributes("light", "bio"),
    ),
    UnitType(
        "marauder",
        *(125, 10, 1.5, 6, 2.25, 0.5625, 0.5, 25),
        armor=1,
        bonus=10,
        bonus_against="armored",
        sight=10,
        attributes=_attributes("armored", "bio"),
    ),
    UnitType(
        "stalker",
        *(80, 10, 1.44, 6, 2.9531, 0.625, 0.625, 35),
        shield=80,
        armor=1,
        bonus=4,
        bonus_against="armored",
        damage_point=0.167,
        hits_air=True,
        sight=10,
        attributes=_attributes("armored", "mech"),
    ),
    UnitType(
        "zealot",
        *(100, 8, 1.2, 0.1, 2.25, 0.5, 0.375, 22),
        shield=50,
        armor=1,
        hits=2,
        second_hit=0.28,
        attributes=_attributes("light", "bio"),
    ),
    UnitType(
        "hydralisk",
        *(80, 12, 0.83, 5, 2.25, 0.625, 0.5, 10),
        damage_point=0.208,
        hits_air=True,
        regen=ZERG_REGEN,
        attributes=_attributes("light", "bio"),
    ),
    UnitType(
        "zergling",
        *(35, 5, 0.696, 0.1, 2.9531, 0.375, 0.375, 11),
        regen=ZERG_REGEN,
        sight=8,
        attributes=_attributes("light", "bio"),
    ),
    UnitType(
        "medivac",
        *(150, 0, 0, 4, 2.75, 0.75, 0.75, ENERGY_MAX),
        armor=1,
        air=True,
        heal=9,
        heal_cost=0.33,
        accel=2.3125,
        sight=11,
        attributes=_attributes("armored", "mech"),
    ),
    UnitType(
        "colossus",
        *(200, 20, 2.2, 6, 2.25, 1.0, 0.75, 24),
        shield=150,
        armor=1,
        volley=2,
        sweep=True,
        climbs=True,
        sight=10,
        order_range=7,
        attributes=_attributes("armored", "mech", "massive"),
    ),
    UnitType(
        "baneling",
        *(30, 20, 0.833, 0.25, 2.5, 0.375, 0.375, 1),
        bonus=15,
        bonus_against="light",
        blast=2.2,
        against_structures=80,
        regen=ZERG_REGEN,
        sight=8,
        attributes=_attributes("bio"),
    ),
    UnitType(
        "spine_crawler",
        *(300, 25, 1.6, 7, 0, 0.875, 0.875, 26),
        armor=2,
        bonus=5,
        bonus_against="armored",
        damage_point=0.333,
        slop=0,
        regen=ZERG_REGEN,
        sight=11,
        attributes=_attributes("armored", "bio", "structure"),
    ),
)

LIBERTY = {unit.name: unit for unit in _LIBERTY}
LADDER = LIBERTY | {
    "stalker": replace(LIBERTY["stalker"], damage=13, bonus=5, period=1.87),
    "hydralisk": replace(LIBERTY["hydralisk"], health=90, period=0.825),
    "medivac": replace(LIBERTY["medivac"], speed=2.5),
    "colossus": replace(LIBERTY["colossus"], damage=10, bonus=5, bonus_against="light", period=1.5, range=7),
    "baneling": replace(LIBERTY["baneling"], damage=16, bonus=19),
    "spine_crawler": replace(LIBERTY["spine_crawler"], period=1.85),
}
BALANCES = {"liberty": LIBERTY, "ladder": LADDER}


def hit_damage(attacker: UnitType, target: UnitType) -> float:
    """What one hit carries, before shield and armour."""
    if attacker.against_structures and "structure" in target.attributes:
        return attacker.against_structures
    return attacker.damage + (attacker.bonus if attacker.bonus_against in target.attributes else 0.0)
