"""The battles, as data. Geometry and limits: Samvelyan et al., The StarCraft Multi-Agent Challenge, 2019, and the map files."""

from dataclasses import dataclass, replace

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1: the cells x0 <= x < x1, y0 <= y < y1"""
Army = tuple[tuple[str, int], ...]
"""(unit name, how many), in the order in which SMAC numbers the kinds"""

SIZE = 32
"""all maps measure 32 x 32 cells"""


@dataclass(frozen=True)
class BattleMap:
    """One battle.

    Args:
        allies, enemies: the armies.
        limit: steps until an episode is truncated.
        ally_point, enemy_point: around which the armies appear.
        attack_point: where the enemy army is sent.
        walkable: rectangles whose union may be walked on.
        ally_shields, enemy_shields: whether the side is Protoss, which is what SMAC's shield features depend on.
        enemy_type_order: the kinds in the order of the enemies' type one-hot; the allies' order is that of `allies`. SMAC counts
            stalkers before zealots for allies but after them for enemies, because the allies are copies with other identities.
            Empty where there are no type features.
    """

    allies: Army
    enemies: Army
    limit: int
    ally_point: tuple[float, float] = (9.0, 16.0)
    enemy_point: tuple[float, float] = (23.0, 16.0)
    attack_point: tuple[float, float] = (9.0, 16.0)
    walkable: tuple[Rectangle, ...] = ((0, 8, 32, 24),)
    ally_shields: bool = False
    enemy_shields: bool = False
    enemy_type_order: tuple[str, ...] = ()

    @property
    def type_bits(self) -> int:
        """Length of the type one-hot in observations and state; 0 where all units of a side are alike."""
        return len(self.enemy_type_order)

    def ally_kinds(self) -> tuple[str, ...]:
        """One unit name per agent."""
        return tuple(name for name, count in self.allies for _ in range(count))

    def enemy_kinds(self) -> tuple[str, ...]:
        """One unit name per enemy."""
        return tuple(name for name, count in self.enemies for _ in range(count))


def _marines(allies: int, enemies: int, limit: int) -> BattleMap:
    return BattleMap((("marine", allies),), (("marine", enemies),), limit)


def _protoss(allies: tuple[int, int], enemies: tuple[int, int], limit: int) -> BattleMap:
    """(stalkers, zealots) on both sides."""
    kinds = ("stalker", "zealot")
    return BattleMap(
        tuple(zip(kinds, allies, strict=True)),
        tuple(zip(kinds, enemies, strict=True)),
        limit,
        ally_shields=True,
        enemy_shields=True,
        enemy_type_order=("zealot", "stalker"),
    )


def _kiting(stalkers: int, zealots: int, limit: int) -> BattleMap:
    return BattleMap(
        (("stalker", stalkers),),
        (("zealot", zealots),),
        limit,
        walkable=((0, 0, 32, 32),),
        ally_shields=True,
        enemy_shields=True,
    )


MAPS: dict[str, BattleMap] = {
    "3m": _marines(3, 3, 60),
    "8m": _marines(8, 8, 120),
    "25m": _marines(25, 25, 150),
    "5m_vs_6m": _marines(5, 6, 70),
    "8m_vs_9m": _marines(8, 9, 120),
    "10m_vs_11m": _marines(10, 11, 150),
    "27m_vs_30m": _marines(27, 30, 180),
    "2s3z": _protoss((2, 3), (2, 3), 120),
    "3s5z": _protoss((3, 5), (3, 5), 150),
    "3s5z_vs_3s6z": _protoss((3, 5), (3, 6), 170),
    "3s_vs_3z": _kiting(3, 3, 150),
    "3s_vs_4z": _kiting(3, 4, 200),
    "3s_vs_5z": _kiting(3, 5, 250),
    "6h_vs_8z": BattleMap(
        (("hydralisk", 6),),
        (("zealot", 8),),
        150,
        ally_point=(14.5998, 9.49),
        enemy_point=(14.41, 16.7597),
        attack_point=(14.5998, 9.49),
        walkable=((8, 10, 22, 18), (10, 8, 20, 20)),
        enemy_shields=True,
    ),
}
# Two battles of the PTDE paper that are no SMAC maps: their geometry is that of the maps that they extend.
MAPS["3s_vs_8z"] = _kiting(3, 8, 350)
MAPS["3s5z_vs_3s7z"] = replace(MAPS["3s5z_vs_3s6z"], enemies=(("stalker", 3), ("zealot", 7)))
