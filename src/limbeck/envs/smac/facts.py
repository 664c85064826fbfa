"""A map, a balance table and the settings, turned into the arrays that the engine reads."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.envs.smac import terrain
from limbeck.envs.smac.battlemap import BattleMap, Group, Point
from limbeck.envs.smac.bodies import Bodies
from limbeck.envs.smac.settings import SmacSettings
from limbeck.envs.smac.terrain import SIZE, Rectangle
from limbeck.envs.smac.units import BALANCES, UnitType, hit_damage
from limbeck.errors import BadSetting

LOOPS_PER_STEP = 8
"""SMAC's step_mul"""
FORMATIONS = 64
"""how many different packings of the armies a battle may start from"""
SPAWN_JITTER = 0.25
"""by how much each army as a whole may be moved at the start"""
MIN_ENEMY_SCAN = 5.0
"""even short weapons look for targets this far, edge to edge"""


@dataclass(frozen=True, eq=False)
class Facts(ABC):
    """What the engine asks about the units of a battle. U units, the N allies first, then the E enemies.

    Answers are constants `[U]` where every unit is always of the same kind (`FixedFacts`), and arrays per world, `[U, *b]`, where
    kinds are drawn for every episode (`DrawnFacts`): the engine is one and the same. `loops_per_tick` is 1 unless coarser physics
    was asked for.
    """

    n_allies: int
    n_enemies: int
    loops_per_tick: float
    floors: np.ndarray
    """[R, 4, kinds] rectangles x0, y0, x1, y1: whoever is of a kind may have its centre in one of them"""
    routes: np.ndarray | None
    """ways around walls, see `terrain.routes`; None on a map without walls"""
    attack_point: Point | tuple[Point, Point] | None
    hunts: bool

    @property
    def n_units(self) -> int:
        """U."""
        return self.n_allies + self.n_enemies

    @property
    def allies(self) -> slice:
        """Their part of the axis of units."""
        return slice(0, self.n_allies)

    @property
    def enemies(self) -> slice:
        """Their part of the axis of units."""
        return slice(self.n_allies, self.n_units)

    @abstractmethod
    def of(self, now: Bodies) -> "Facts":
        """The facts of these bodies."""

    @abstractmethod
    def ways(self, unit: int) -> tuple[UnitType, ...]:
        """What a unit may be."""

    @abstractmethod
    def each(self, fact: Callable[[UnitType], float]) -> Any:
        """A number of every unit: [U]."""

    @abstractmethod
    def pairs(self, fact: Callable[[UnitType, UnitType], float], units: slice, others: slice) -> Any:
        """A number of every pair of units: [units, others]."""

    @abstractmethod
    def ground(self) -> Any:
        """[R, 4, U] rectangles: everybody may have its centre in one of them."""

    def column(self, field: str) -> Any:
        """One fact of every unit: [U]."""
        return self.each(lambda kind: getattr(kind, field))

    def marks(self, field: str) -> Any:
        """Whose fact of that name is neither 0 nor False: [U] bool."""
        return self.each(lambda kind: getattr(kind, field) != 0) != 0

    def are(self, name: str) -> Any:
        """Who is of that kind: [U] bool."""
        return self.each(lambda kind: kind.name == name) != 0

    @property
    def heals(self) -> Any:
        """Who heals: [U] bool."""
        return self.marks("heal")

    @property
    def biological(self) -> Any:
        """Who can be healed: [U] bool."""
        return self.each(lambda kind: "bio" in kind.attributes) != 0

    def can_hit(self, attackers: slice, targets: slice) -> Any:
        """Whose weapon reaches whom at all, [attackers, targets] bool."""
        return self.marks("hits_air")[attackers][:, None] | ~self.marks("air")[targets][None]

    def hit(self, attackers: slice, targets: slice) -> Any:
        """What a hit carries, [attackers, targets]."""
        return self.pairs(hit_damage, attackers, targets)

    def reach(self, units: slice, others: slice, at_least: float = 0.0) -> Any:
        """Centre distance at which a weapon reaches, [units, others]: range is measured from edge to edge."""
        return self.pairs(lambda unit, other: max(unit.range, at_least) + unit.radius + other.radius, units, others)


@dataclass(frozen=True, eq=False)
class FixedFacts(Facts):
    """The facts of units that are the same in all episodes, as constants."""

    kinds: tuple[UnitType, ...]
    """what everybody is, [U]"""
    formations: np.ndarray
    """[F, 2, U] starting positions, each side's kinds sorted by x, then y"""

    def of(self, now: Bodies) -> "FixedFacts":
        return self

    def ways(self, unit: int) -> tuple[UnitType, ...]:
        return (self.kinds[unit],)

    def each(self, fact: Callable[[UnitType], float]) -> np.ndarray:
        return np.array([fact(kind) for kind in self.kinds], np.float32)

    def pairs(self, fact: Callable[[UnitType, UnitType], float], units: slice, others: slice) -> np.ndarray:
        return np.array([[fact(unit, other) for other in self.kinds[others]] for unit in self.kinds[units]], np.float32)

    def ground(self) -> np.ndarray:
        return self.floors


def build(battle: BattleMap, settings: SmacSettings) -> FixedFacts:
    """The facts of `battle` under `settings`."""
    table = BALANCES[settings.balance]
    allies, enemies = ([table[name] for name in names] for names in (battle.ally_kinds(), battle.enemy_kinds()))
    walkable = terrain.cells(battle.walkable)
    crossable = walkable | terrain.cells(battle.passages)
    bounds = ground([*allies, *enemies], crossable, crossable | terrain.cells(battle.cliffs))
    random = np.random.default_rng(0)  # part of the map: the same formations in every process
    floor = terrain.maximal(walkable)
    sides = [[(group, table[group.kind]) for group in battle.groups(allied)] for allied in (True, False)]
    formations = [np.concatenate([army(side, floor, random) for side in sides], axis=1) for _ in range(FORMATIONS)]
    return FixedFacts(
        kinds=(*allies, *enemies),
        n_allies=len(allies),
        n_enemies=len(enemies),
        loops_per_tick=LOOPS_PER_STEP / settings.ticks_per_step,
        floors=bounds,
        routes=terrain.routes(crossable) if terrain.has_detours(crossable) else None,
        attack_point=battle.attack_point,
        hunts=battle.hunts,
        formations=np.stack(formations).astype(np.float32),
    )


def ground(units: list[UnitType], flat: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """Where the centre of everybody's body may be, [R, 4, U]: on the flat, for climbers on the rough too, for flyers everywhere."""
    floors = {"walks": terrain.maximal(flat), "climbs": terrain.maximal(rough), "flies": [(0, 0, SIZE, SIZE)]}
    used = [roomy(floors["flies" if unit.air else "climbs" if unit.climbs else "walks"], unit) for unit in units]
    most = max(map(len, used))
    rectangles = [[*floor, *[floor[-1]] * (most - len(floor))] for floor in used]  # the same again, so that all have as many
    inwards = np.array([1, 1, -1, -1])[:, None] * np.array([unit.separation for unit in units])
    return (np.array(rectangles).transpose(1, 2, 0) + inwards).astype(np.float32)


def roomy(floor: list[Rectangle], unit: UnitType) -> list[Rectangle]:
    """The rectangles that a unit fits into."""
    wide = [(x0, y0, x1, y1) for x0, y0, x1, y1 in floor if min(x1 - x0, y1 - y0) >= 2 * unit.separation]
    if not wide:
        raise BadSetting(f"the walkable ground is nowhere wide enough for a {unit.name}")
    return wide


def army(side: list[tuple[Group, UnitType]], floor: list[Rectangle], random: np.random.Generator) -> np.ndarray:
    """A side, the groups of every point packed around it, [2, units]; units of a kind are numbered by x, then y."""
    parts, kinds = [], []
    for point in dict.fromkeys(group.point for group, _ in side):
        units = [unit for group, unit in side if group.point == point for _ in range(group.number)]
        parts.append(formation(units, point or (0.0, 0.0), floor, random))
        kinds += [unit.name for unit in units]
    return in_order(np.concatenate(parts, axis=1), kinds, [group.kind for group, _ in side])


def formation(units: list[UnitType], point: Point, floor: list[Rectangle], random: np.random.Generator) -> np.ndarray:
    """Units packed around a point, [2, units]: hexagonal, turned and shuffled at random."""
    walkers = [unit for unit in units if not unit.air] or units
    spacing = 2 * max(unit.separation for unit in walkers) + 0.05
    reach = int(np.ceil(np.sqrt(len(units)))) + 3
    places = np.zeros((2, 0))
    while places.shape[1] < len(units) and reach < 4 * SIZE:  # a narrow place needs a wider search
        places, reach = lattice(spacing, reach, point, floor, random), 2 * reach
    if places.shape[1] < len(units):
        raise BadSetting(f"there is walkable room for {places.shape[1]} units around {point}, not for {len(units)}")
    nearest = np.argsort(((places - np.array(point)[:, None]) ** 2).sum(axis=0))[: len(units)]
    return places[:, random.permutation(nearest)]


def lattice(spacing: float, reach: int, point: Point, floor: list[Rectangle], random: np.random.Generator) -> np.ndarray:
    """The places of a hexagonal lattice around a point, turned at random, that are on the floor, [2, places]."""
    i, j = (grid.ravel() for grid in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    even = np.stack([i + j / 2, j * np.sqrt(0.75)]) * spacing + random.uniform(-spacing / 2, spacing / 2, (2, 1))
    angle = random.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    places = turn @ even + np.array(point)[:, None]
    inside = np.zeros(places.shape[1], bool)
    margin = spacing / 2 + SPAWN_JITTER
    for x0, y0, x1, y1 in floor:
        low, high = np.array([[x0], [y0]]) + margin, np.array([[x1], [y1]]) - margin
        inside |= ((places >= low) & (places <= high)).all(axis=0)
    return places[:, inside]


def in_order(places: np.ndarray, kinds: list[str], order: list[str]) -> np.ndarray:
    """Places sorted as SMAC numbers units: by kind, x, y."""
    return places[:, np.lexsort((places[1], places[0], [order.index(kind) for kind in kinds]))]
