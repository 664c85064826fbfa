"""What a battle is made of, as data: armies, places, terrain and limits; from Python or from a JSON file."""

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from limbeck.envs.smac import terrain
from limbeck.envs.smac.terrain import SIZE, Rectangle
from limbeck.envs.smac.units import LIBERTY
from limbeck.errors import BadSetting, unknown

MOST_UNITS = 64
"""of a side: an index of that size fits into the opponent's choice of targets"""

Point = tuple[float, float]


class Group(NamedTuple):
    """Units of one kind that appear together."""

    kind: str
    number: int
    point: Point | None = None
    """around which; None is the army's own point"""


@dataclass(frozen=True)
class BattleMap:
    """One battle. What makes no sense is refused with one line.

    Args:
        allies, enemies: the armies, as groups `(kind, number)` or `(kind, number, point)`, in the order in which SMAC numbers
            the kinds.
        limit: steps until an episode is truncated.
        ally_point, enemy_point: around which the armies appear.
        attack_point: where the enemy army is sent; two points stand for a random place between them, drawn for every episode; None:
            it waits where it appeared.
        hunts: whether the enemies were sent after the allies themselves, wherever those are.
        walkable: rectangles whose union may be walked on.
        passages: ground that bodies may cross, though no order to move may name it: where cells that touch only at a corner are
            meant to be a way through.
        cliffs: ground that only units which climb may cross.
        ally_shields, enemy_shields: whether the side is Protoss, which is what SMAC's shield features depend on. None: if it has
            units with shields.
        enemy_type_order: the kinds in the order of the enemies' type one-hot; the allies' order is that of `allies`. SMAC counts
            stalkers before zealots for allies but after them for enemies, because the allies are copies with other identities.
            None: that of `enemies`. There are no type features where all units of either side are alike.
    """

    allies: tuple[Group, ...]
    enemies: tuple[Group, ...]
    limit: int
    ally_point: Point = (9.0, 16.0)
    enemy_point: Point = (23.0, 16.0)
    attack_point: Point | tuple[Point, Point] | None = (9.0, 16.0)
    hunts: bool = False
    walkable: tuple[Rectangle, ...] = ((0, 8, 32, 24),)
    passages: tuple[Rectangle, ...] = ()
    cliffs: tuple[Rectangle, ...] = ()
    ally_shields: bool | None = None
    enemy_shields: bool | None = None
    enemy_type_order: tuple[str, ...] | None = None

    def __post_init__(self):
        for side in ("allies", "enemies"):
            object.__setattr__(self, side, _army(side, getattr(self, side)))
        for ground in ("walkable", "passages", "cliffs"):
            object.__setattr__(self, ground, _rectangles(ground, getattr(self, ground)))
        if not isinstance(self.limit, int) or self.limit < 1:
            raise BadSetting(f"limit is {self.limit!r}; it must be a whole number of steps, 1 or more")
        for name in ("ally_point", "enemy_point"):
            object.__setattr__(self, name, _point(name, getattr(self, name)))
        object.__setattr__(self, "attack_point", _attack_point(self.attack_point))
        for side, kinds in (("ally", self.ally_kinds()), ("enemy", self.enemy_kinds())):
            if getattr(self, f"{side}_shields") is None:
                object.__setattr__(self, f"{side}_shields", any(LIBERTY[kind].shield > 0 for kind in kinds))
        if self.enemy_type_order is None:
            object.__setattr__(self, "enemy_type_order", tuple(dict.fromkeys(self.enemy_kinds())))
        if set(self.enemy_type_order or ()) != set(self.enemy_kinds()):
            raise BadSetting(f"enemy_type_order is {self.enemy_type_order}; it must name each kind of enemy once")
        self._check_places()

    def _check_places(self) -> None:
        """Everybody appears on walkable ground, and all of that is one piece."""
        if not self.walkable:
            raise BadSetting("walkable is empty; give at least one rectangle (x0, y0, x1, y1)")
        cells = terrain.cells(self.walkable)
        for side in (self.groups(True), self.groups(False)):
            for group in side:
                x, y = group.point or (0, 0)
                if not cells[int(x), int(y)]:
                    raise BadSetting(f"the {group.kind}s' point ({x:g}, {y:g}) is not on walkable ground")
        if not terrain.connected(cells | terrain.cells(self.passages)):
            raise BadSetting("the walkable ground is in several pieces; join them, if need be by a passage")

    @property
    def type_bits(self) -> int:
        """Length of the type one-hot in observations and state; 0 where all units of a side are alike."""
        most = max(len(self.ally_type_order), len(self.enemy_type_order or ()))
        return most if most > 1 else 0

    @property
    def ally_type_order(self) -> tuple[str, ...]:
        """The kinds in the order of the allies' type one-hot."""
        return tuple(dict.fromkeys(self.ally_kinds()))

    @property
    def n_orders(self) -> int:
        """Orders that name a unit: one per enemy, and more where a healer has more friends than that."""
        healed = [index + 1 for index, kind in enumerate(self.ally_kinds()) if not LIBERTY[kind].heal]
        heals = len(healed) < len(self.ally_kinds())
        return max(len(self.enemy_kinds()), healed[-1] if heals else 0)

    @property
    def n_allies(self) -> int:
        """N."""
        return sum(group.number for group in self.allies)

    @property
    def n_enemies(self) -> int:
        """E."""
        return sum(group.number for group in self.enemies)

    def groups(self, allied: bool) -> tuple[Group, ...]:
        """A side's groups, each with its point."""
        groups, point = (self.allies, self.ally_point) if allied else (self.enemies, self.enemy_point)
        return tuple(group if group.point else group._replace(point=point) for group in groups)

    def ally_kinds(self) -> tuple[str, ...]:
        """One unit name per agent."""
        return tuple(group.kind for group in self.allies for _ in range(group.number))

    def enemy_kinds(self) -> tuple[str, ...]:
        """One unit name per enemy."""
        return tuple(group.kind for group in self.enemies for _ in range(group.number))


def load_map(path: str | Path) -> tuple[str, BattleMap]:
    """A battle from a JSON file: an object with the fields of `BattleMap`, and its `name` (else the file's own).

    Raises:
        BadSetting: it is no such file, or the battle is impossible; the message names the file.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadSetting(f"{path} is no readable JSON file: {error}") from error
    if not isinstance(data, dict):
        raise BadSetting(f"{path} must hold an object with the fields of a map, not a {type(data).__name__}")
    name = data.pop("name", path.stem)
    known = [field.name for field in fields(BattleMap)]
    try:
        for key in data:
            if key not in known:
                raise unknown("field", key, known)
        for key in ("allies", "enemies", "limit"):
            if key not in data:
                raise BadSetting(f"it says nothing about `{key}`")
        return str(name), BattleMap(**{key: _frozen(value) for key, value in data.items()})
    except (BadSetting, LookupError) as error:
        raise BadSetting(f"{path}: {error}") from error


def _frozen(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def _army(side: str, groups: Any) -> tuple[Group, ...]:
    try:
        army = tuple(Group(*group) for group in groups)
    except TypeError as error:
        raise BadSetting(f"{side} is {groups!r}; it must be a list of (kind, number) or (kind, number, point)") from error
    for kind, count, _ in army:
        if kind not in LIBERTY:
            raise unknown("unit", str(kind), LIBERTY)
        if not isinstance(count, int) or count < 1:
            raise BadSetting(f"{side} has {count!r} {kind}s; it must be a whole number, 1 or more")
    if not 1 <= sum(group.number for group in army) <= MOST_UNITS:
        raise BadSetting(f"{side} has {sum(group.number for group in army)} units; it must be 1 to {MOST_UNITS}")
    if all(LIBERTY[group.kind].heal for group in army):
        raise BadSetting(f"{side} has nobody who can fight")
    kinds = [group.kind for group in army]
    if any(kind in kinds[:i] and kinds[i - 1] != kind for i, kind in enumerate(kinds)):
        raise BadSetting(f"{side} lists {', '.join(kinds)}; groups of one kind must follow each other")
    return tuple(Group(kind, count, None if at is None else _point(f"the {kind}s' point", at)) for kind, count, at in army)


def _point(name: str, point: Any) -> Point:
    try:
        x, y = map(float, point)
    except (TypeError, ValueError) as error:
        raise BadSetting(f"{name} is {point!r}; it must be a point (x, y)") from error
    if not (math.isfinite(x) and math.isfinite(y) and 0 <= x < SIZE and 0 <= y < SIZE):
        raise BadSetting(f"{name} is ({x:g}, {y:g}), which is outside the map of {SIZE} x {SIZE} cells")
    return x, y


def _attack_point(point: Any) -> Any:
    if point is None:
        return None
    if isinstance(point, tuple | list) and len(point) == 2 and all(isinstance(each, tuple | list) for each in point):
        return _point("attack_point", point[0]), _point("attack_point", point[1])
    return _point("attack_point", point)


def _rectangles(name: str, rectangles: Any) -> tuple[Rectangle, ...]:
    try:
        ground = tuple((int(x0), int(y0), int(x1), int(y1)) for x0, y0, x1, y1 in rectangles)
    except (TypeError, ValueError) as error:
        raise BadSetting(f"{name} is {rectangles!r}; it must be a list of rectangles (x0, y0, x1, y1)") from error
    for x0, y0, x1, y1 in ground:
        if not (0 <= x0 < x1 <= SIZE and 0 <= y0 < y1 <= SIZE):
            raise BadSetting(f"{name} has the rectangle {(x0, y0, x1, y1)}; it must be 0 <= x0 < x1 <= {SIZE}, and so for y")
    return ground
