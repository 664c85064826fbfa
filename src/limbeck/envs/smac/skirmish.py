"""Battles whose armies and places are drawn anew for every episode, in the manner of SMACv2, as data.

Ellis et al., SMACv2: An Improved Benchmark for Cooperative Multi-Agent Reinforcement Learning, 2022: kinds, weights, sizes, limit
and the two ways in which armies appear. The physics and the unit tables are those of the other maps.
"""

from dataclasses import dataclass
from typing import ClassVar

from limbeck.envs.smac.battlemap import MOST_UNITS, BattleMap
from limbeck.envs.smac.terrain import SIZE, Rectangle
from limbeck.envs.smac.units import LIBERTY
from limbeck.errors import BadSetting, unknown


@dataclass(frozen=True)
class Skirmish:
    """A battle whose units are drawn. What makes no sense is refused with one line.

    The enemies are the same as the agents, kind by kind; further ones are drawn in the same way. No team consists of its `company`
    alone. All of the map may be walked on. The enemies are sent after the agents, wherever those are; whoever has nobody to attack
    goes to the middle of where they appeared.

    Args:
        kinds: what a unit may be, in the order of the type one-hot.
        weights: how often; only ratios matter.
        n_allies, n_enemies: the sizes of the armies.
        limit: steps until an episode is truncated.
    """

    kinds: tuple[str, ...]
    weights: tuple[float, ...]
    n_allies: int
    n_enemies: int
    limit: int = 200

    walkable: ClassVar[tuple[Rectangle, ...]] = ((0, 0, SIZE, SIZE),)
    passages: ClassVar[tuple[Rectangle, ...]] = ()
    cliffs: ClassVar[tuple[Rectangle, ...]] = ()

    def __post_init__(self):
        for kind in self.kinds:
            if kind not in LIBERTY:
                raise unknown("unit", str(kind), LIBERTY)
        if len(set(self.kinds)) < len(self.kinds) or not self.kinds:
            raise BadSetting(f"kinds is {self.kinds}; it must name at least one kind of unit, each once")
        for name in ("n_allies", "n_enemies"):
            number = getattr(self, name)
            if not isinstance(number, int) or not 1 <= number <= MOST_UNITS:
                raise BadSetting(f"{name} is {number!r}; it must be a whole number of units, 1 to {MOST_UNITS}")
        if not isinstance(self.limit, int) or self.limit < 1:
            raise BadSetting(f"limit is {self.limit!r}; it must be a whole number of steps, 1 or more")
        self.shares(self.weights)

    def shares(self, weights: tuple[float, ...]) -> tuple[float, ...]:
        """Weights of the kinds, made to sum up to 1.

        Raises:
            BadSetting: there are too few or too many, or nobody is left who can make up a team.
        """
        if len(weights) != len(self.kinds):
            raise BadSetting(f"weights has {len(weights)} numbers; it must have one for each of {', '.join(self.kinds)}")
        able = [weight for kind, weight in zip(self.kinds, weights, strict=True) if kind not in self.company]
        if not sum(able) > 0:
            raise BadSetting(f"weights is {list(weights)}: no team may consist of {' or '.join(self.company) or 'nobody'} alone")
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def company(self) -> tuple[str, ...]:
        """The kinds of which alone no team consists: those who heal or blow themselves up."""
        return tuple(kind for kind in self.kinds if LIBERTY[kind].heal or LIBERTY[kind].blast)

    @property
    def numbering(self) -> tuple[str, ...]:
        """The kinds in the order in which units are numbered: by their identities in the game, which follow the alphabet."""
        return tuple(sorted(self.kinds))

    @property
    def type_bits(self) -> int:
        """Length of the type one-hot; every unit has one."""
        return len(self.kinds)

    @property
    def ally_type_order(self) -> tuple[str, ...]:
        """The kinds in the order of the type one-hot."""
        return self.kinds

    @property
    def enemy_type_order(self) -> tuple[str, ...]:
        """The same."""
        return self.kinds

    @property
    def ally_shields(self) -> bool:
        """Whether the side is Protoss."""
        return any(LIBERTY[kind].shield > 0 for kind in self.kinds)

    @property
    def enemy_shields(self) -> bool:
        """The same: it is."""
        return self.ally_shields

    @property
    def n_orders(self) -> int:
        """Orders that name a unit: one per enemy, and more where a healer may have more friends than that."""
        heals = any(LIBERTY[kind].heal for kind in self.kinds)
        return max(self.n_enemies, self.n_allies if heals else 0)


Battle = BattleMap | Skirmish

RACES = {
    "protoss": (("stalker", "zealot", "colossus"), (0.45, 0.45, 0.1)),
    "terran": (("marine", "marauder", "medivac"), (0.45, 0.45, 0.1)),
    "zerg": (("zergling", "hydralisk", "baneling"), (0.45, 0.45, 0.1)),
}
"""kinds and weights as published, each in the order of the type one-hot"""
SIZES = ((5, 5), (10, 10), (10, 11), (20, 20), (20, 23))
"""the published sizes: agents, enemies"""
SKIRMISHES: dict[str, Skirmish] = {
    f"{race}_{allies}_vs_{enemies}": Skirmish(kinds, weights, allies, enemies)
    for race, (kinds, weights) in RACES.items()
    for allies, enemies in SIZES
}
