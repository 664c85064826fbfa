"""The battles, as data. Geometry and limits: Samvelyan et al., The StarCraft Multi-Agent Challenge, 2019, and the map files."""

from dataclasses import replace

from limbeck.envs.smac.battlemap import BattleMap, Group
from limbeck.envs.smac.skirmish import SKIRMISHES, Battle, Skirmish
from limbeck.errors import BadSetting

OCTAGON = ((10, 6, 22, 26), (8, 8, 24, 24), (6, 10, 26, 22))
DIAGONAL = tuple((low, low, low + 10, low + 10) for low in (2, 6, 10, 14, 18, 20))


def _marines(allies: int, enemies: int, limit: int) -> BattleMap:
    return BattleMap((Group("marine", allies),), (Group("marine", enemies),), limit)


def _army(**counts: int) -> tuple[Group, ...]:
    return tuple(Group(kind, number) for kind, number in counts.items())


def _medivac(marauders: int, marines: int, limit: int) -> BattleMap:
    """Two marauders, seven marines and a medivac against as many as said, and a medivac."""
    enemies = _army(marauder=marauders, marine=marines, medivac=1)
    return BattleMap(_army(marauder=2, marine=7, medivac=1), enemies, limit)


def _protoss(allies: tuple[int, int], enemies: tuple[int, int], limit: int) -> BattleMap:
    """(stalkers, zealots) on both sides."""
    armies = [_army(stalker=stalkers, zealot=zealots) for stalkers, zealots in (allies, enemies)]
    return BattleMap(armies[0], armies[1], limit, enemy_type_order=("zealot", "stalker"))


def _kiting(stalkers: int, zealots: int, limit: int) -> BattleMap:
    return BattleMap((Group("stalker", stalkers),), (Group("zealot", zealots),), limit, walkable=((0, 0, 32, 32),))


MAPS: dict[str, BattleMap] = {
    "3m": _marines(3, 3, 60),
    "8m": _marines(8, 8, 120),
    "25m": _marines(25, 25, 150),
    "5m_vs_6m": _marines(5, 6, 70),
    "8m_vs_9m": _marines(8, 9, 120),
    "10m_vs_11m": _marines(10, 11, 150),
    "27m_vs_30m": _marines(27, 30, 180),
    "MMM": _medivac(2, 7, 150),
    "MMM2": _medivac(3, 8, 180),
    "2s3z": _protoss((2, 3), (2, 3), 120),
    "3s5z": _protoss((3, 5), (3, 5), 150),
    "3s5z_vs_3s6z": _protoss((3, 5), (3, 6), 170),
    "3s_vs_3z": _kiting(3, 3, 150),
    "3s_vs_4z": _kiting(3, 4, 200),
    "3s_vs_5z": _kiting(3, 5, 250),
    "1c3s5z": BattleMap(
        allies=(Group("colossus", 1), Group("stalker", 3), Group("zealot", 5)),
        enemies=(Group("colossus", 1), Group("stalker", 3), Group("zealot", 5)),
        limit=180,
    ),
    "2m_vs_1z": BattleMap(
        allies=(Group("marine", 1, (13, 12)), Group("marine", 1, (19, 12))),
        enemies=(Group("zealot", 1),),
        limit=150,
        enemy_point=(16, 19),
        attack_point=((13, 12), (19, 12)),
        walkable=OCTAGON,
    ),
    # Chambers joined by a square of cells at its corners. The outline of the upper one is known to about two cells.
    "corridor": BattleMap(
        allies=(Group("zealot", 6),),
        enemies=(Group("zergling", 24),),
        limit=400,
        ally_point=(19.0397, 19.1198),
        enemy_point=(27.91, 28.24),
        attack_point=(4.47, 4.3298),
        walkable=(
            (2, 2, 12, 12), (12, 12, 14, 14), (14, 14, 26, 16), (14, 16, 28, 18), (14, 18, 30, 24), (16, 24, 30, 26),
            (18, 26, 30, 28), (20, 28, 30, 30),
        ),
        passages=((10, 10, 14, 14), (12, 12, 16, 16)),
    ),
    "6h_vs_8z": BattleMap(
        allies=(Group("hydralisk", 6),),
        enemies=(Group("zealot", 8),),
        limit=150,
        ally_point=(14.5998, 9.49),
        enemy_point=(14.41, 16.7597),
        attack_point=(14.5998, 9.49),
        walkable=((8, 10, 22, 18), (10, 8, 20, 20)),
    ),
    "2s_vs_1sc": BattleMap(
        allies=(Group("stalker", 1, (11.1208, 10.338)), Group("stalker", 1, (16.976, 10.3662))),
        enemies=(Group("spine_crawler", 1),),
        limit=300,
        enemy_point=(13.92, 20.0397),
        attack_point=None,
        walkable=((8, 8, 20, 20), (10, 20, 18, 22), (12, 22, 16, 24)),
    ),
    # A diagonal corridor; its width is a guess.
    "so_many_baneling": BattleMap(
        allies=(Group("zealot", 7),),
        enemies=(Group("baneling", 32),),
        limit=100,
        ally_point=(11.469, 12.0234),
        enemy_point=(27.91, 28.24),
        attack_point=(4.47, 4.3298),
        walkable=DIAGONAL,
    ),
    "bane_vs_bane": BattleMap(
        allies=(Group("baneling", 4, (16, 8)), Group("zergling", 20, (16, 11))),
        enemies=(Group("baneling", 4, (16, 24)), Group("zergling", 20, (16, 21))),
        limit=200,
        attack_point=(16, 8),
        walkable=OCTAGON,
    ),
    "2c_vs_64zg": BattleMap(
        allies=(Group("colossus", 2),),
        enemies=(Group("zergling", 64),),
        limit=400,
        ally_point=(16, 16),
        enemy_point=(16, 9),
        attack_point=None,
        hunts=True,
        walkable=(
            (4, 6, 28, 8), (2, 8, 30, 10), (0, 10, 32, 12), (0, 12, 4, 14), (28, 12, 32, 14), (0, 14, 32, 16), (2, 16, 30, 18),
            (8, 18, 24, 20),
        ),
        cliffs=((4, 12, 28, 14),),
    ),
}  # fmt: skip
# Two battles of the PTDE paper that are no SMAC maps: their geometry is that of the maps that they extend.
MAPS["3s_vs_8z"] = _kiting(3, 8, 350)
MAPS["3s5z_vs_3s7z"] = replace(MAPS["3s5z_vs_3s6z"], enemies=(Group("stalker", 3), Group("zealot", 7)))


def add_map(name: str, battle: Battle) -> None:
    """Makes a battle known as `name` to `make`, and as `smac/name` to everything else.

    Raises:
        BadSetting: there is a map of this name already, or the name is no word.
    """
    if name in MAPS or name in SKIRMISHES:
        raise BadSetting(f"there is a map called {name!r} already; choose another name")
    if not name.replace("_", "").replace("-", "").isalnum():
        raise BadSetting(f"{name!r} is no name for a map; take letters, digits, - and _")
    if isinstance(battle, Skirmish):
        SKIRMISHES[name] = battle
    else:
        MAPS[name] = battle
