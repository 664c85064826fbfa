"""A map, a balance table and the settings, turned into the arrays that the engine reads."""

from dataclasses import dataclass

import numpy as np

from limbeck.envs.smac.maps import BattleMap
from limbeck.envs.smac.settings import SmacSettings
from limbeck.envs.smac.units import BALANCES, UnitType, hit_damage

LOOPS_PER_STEP = 8
"""SMAC's step_mul"""
FORMATIONS = 64
"""how many different packings of the armies a battle may start from"""
SPAWN_JITTER = 0.25
"""by how much each army as a whole may be moved at the start"""
MIN_ENEMY_SCAN = 5.0
"""even short weapons look for targets this far, edge to edge"""


@dataclass(frozen=True, eq=False)
class Facts:
    """Constant arrays of one battle. U units, the N allies first, then the E enemies. `loops_per_tick` is 1
    unless coarser physics was asked for.
    """

    kinds: tuple[UnitType, ...]
    n_allies: int
    loops_per_tick: float
    walkable: tuple[tuple[int, int, int, int], ...]
    attack_point: tuple[float, float]
    formations: np.ndarray
    """[K, 2, U] starting positions, each side's kinds sorted by x, then y"""

    @property
    def n_units(self) -> int:
        """U."""
        return len(self.kinds)

    @property
    def n_enemies(self) -> int:
        """E."""
        return self.n_units - self.n_allies

    @property
    def allies(self) -> slice:
        """Their part of the axis of units."""
        return slice(0, self.n_allies)

    @property
    def enemies(self) -> slice:
        """Their part of the axis of units."""
        return slice(self.n_allies, self.n_units)

    def column(self, field: str) -> np.ndarray:
        """One fact of every unit: [U]."""
        return np.array([getattr(kind, field) for kind in self.kinds], np.float32)

    def hit(self, attackers: slice, targets: slice) -> np.ndarray:
        """What a hit carries, [attackers, targets]."""
        return np.array([[hit_damage(a, t) for t in self.kinds[targets]] for a in self.kinds[attackers]], np.float32)

    def reach(self, units: slice, others: slice, at_least: float = 0.0) -> np.ndarray:
        """Centre distance at which a weapon reaches, [units, others]: range is measured from edge to edge."""
        return np.array(
            [[max(u.range, at_least) + u.radius + o.radius for o in self.kinds[others]] for u in self.kinds[units]], np.float32
        )


def build(battle: BattleMap, settings: SmacSettings) -> Facts:
    """The facts of `battle` under `settings`."""
    table = BALANCES[settings.balance]
    allies, enemies = ([table[name] for name in names] for names in (battle.ally_kinds(), battle.enemy_kinds()))
    kinds = (*allies, *enemies)
    random = np.random.default_rng(0)  # part of the map: the same formations in every process
    sides = ((allies, battle.ally_point), (enemies, battle.enemy_point))
    formations = [
        np.concatenate([formation(units, point, battle.walkable, random) for units, point in sides], axis=1)
        for _ in range(FORMATIONS)
    ]
    return Facts(
        kinds=kinds,
        n_allies=len(allies),
        loops_per_tick=LOOPS_PER_STEP / settings.ticks_per_step,
        walkable=battle.walkable,
        attack_point=battle.attack_point,
        formations=np.stack(formations).astype(np.float32),
    )


def formation(units: list[UnitType], point: tuple[float, float], walkable: tuple, random: np.random.Generator) -> np.ndarray:
    """Units packed around a point, [2, units]: hexagonal, turned and shuffled at random, then sorted as SMAC numbers them."""
    spacing = 2 * max(unit.separation for unit in units) + 0.05
    reach = int(np.ceil(np.sqrt(len(units)))) + 3
    i, j = (grid.ravel() for grid in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    lattice = np.stack([i + j / 2, j * np.sqrt(0.75)]) * spacing + random.uniform(-spacing / 2, spacing / 2, (2, 1))
    angle = random.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    places = turn @ lattice + np.array(point)[:, None]
    inside = np.zeros(places.shape[1], bool)
    margin = spacing / 2 + SPAWN_JITTER
    for x0, y0, x1, y1 in walkable:
        low, high = np.array([[x0], [y0]]) + margin, np.array([[x1], [y1]]) - margin
        inside |= ((places >= low) & (places <= high)).all(axis=0)
    places = places[:, inside]
    nearest = np.argsort(((places - np.array(point)[:, None]) ** 2).sum(axis=0))[: len(units)]
    if len(nearest) < len(units):
        raise ValueError(f"there is walkable room for {len(nearest)} units around {point}, not for {len(units)}")
    places = places[:, random.permutation(nearest)]
    kinds = [unit.name for unit in units]
    rank = {name: index for index, name in enumerate(dict.fromkeys(kinds))}
    order = np.lexsort((places[1], places[0], [rank[name] for name in kinds]))
    return places[:, order]
