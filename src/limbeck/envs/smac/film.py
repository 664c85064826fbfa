"""A battle and what happened in it, as pictures of it need it."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from limbeck.envs.smac.facts import FixedFacts
from limbeck.envs.smac.scenery import Scenery, scenery
from limbeck.envs.smac.style import shape_of, sign_of
from limbeck.envs.smac.terrain import SIZE
from limbeck.envs.smac.units import ENERGY_MAX
from limbeck.envs.smac.world import Smac, Snapshot
from limbeck.errors import BadSetting

MARGIN = 2.5
"""cells around everything that ever happens"""
FLATTEST = 0.55
"""a picture's height is at least this share of its width"""

Window = tuple[float, float, float, float]
"""the part of the map that is shown: x0, y0, x1, y1"""


class Shot(NamedTuple):
    """A weapon that went off, or a healer's beam."""

    unit: int
    target: int
    heals: bool


class Film:
    """A battle and what happened in it.

    Args:
        env: the battle.
        snapshots: one per moment, the first before the first step; or one whose arrays lead with the time axis, as a scan gives
            them.
        rewards: of every step, where the return is to be shown.
        outcome: how it ended, shown at the end: `won`, `lost`, ...
        note: what else is to be known of who plays, such as what they see.
    """

    def __init__(
        self,
        env: Smac,
        snapshots: Sequence[Snapshot] | Snapshot,
        rewards: Iterable[float] = (),
        outcome: str = "",
        note: str = "",
    ):
        moments = [snapshots] if isinstance(snapshots, Snapshot) else list(snapshots)
        if not moments:
            raise BadSetting("there is nothing to show: a film needs at least one snapshot")
        join = np.concatenate if isinstance(snapshots, Snapshot) else np.stack
        fields = zip(*moments, strict=True)
        stacked: list[Any] = [None if field[0] is None else join([np.asarray(each) for each in field]) for field in fields]
        self.env, self.outcome, self.note = env, outcome, note
        self.moments = Snapshot(*stacked)
        first: list[Any] = [None if each is None else each[0] for each in stacked]
        self.facts: FixedFacts = env.facts_of(Snapshot(*first))
        self.pos = _laid_to_rest(np.stack([self.moments.x, self.moments.y], axis=-1).astype(float), self.moments.alive)
        paid = np.cumsum(np.array([*rewards], float))
        self.returns = np.concatenate([[0.0], paid]) if len(paid) else None

    def __len__(self) -> int:
        return len(self.moments.x)

    @property
    def n_allies(self) -> int:
        """How many units are agents; they come first."""
        return self.facts.n_allies

    @property
    def n_units(self) -> int:
        """How many there are on both sides."""
        return len(self.kinds)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """What each unit is."""
        return tuple(kind.name for kind in self.facts.kinds)

    @cached_property
    def sight(self) -> np.ndarray:
        """How far every ally sees."""
        if self.env.settings.unit_ranges:
            return self.facts.column("sight")[: self.n_allies].astype(float)
        return np.full(self.n_allies, float(self.env.settings.sight_range))

    @cached_property
    def scenery(self) -> Scenery:
        """The ground."""
        return scenery(self.env.map)

    @cached_property
    def window(self) -> Window:
        """The part of the map where anything happens."""
        low = np.maximum(np.floor(self.pos.min((0, 1)) - MARGIN), 0)
        high = np.minimum(np.ceil(self.pos.max((0, 1)) + MARGIN), SIZE)
        size = np.maximum(high - low, FLATTEST * (high - low)[::-1])
        low = np.clip((low + high - size) / 2, 0, SIZE - size)
        return float(low[0]), float(low[1]), float(low[0] + size[0]), float(low[1] + size[1])

    @cached_property
    def full(self) -> np.ndarray:
        """What health and shield are at most together: allies, enemies."""
        most = (self.moments.max_health + self.moments.max_shield)[0].astype(float)
        return np.array([most[: self.n_allies].sum(), most[self.n_allies :].sum()])

    def strength(self, t: int) -> np.ndarray:
        """The share of health and shields that each side has left at moment t."""
        left = np.where(self.moments.alive[t], self.moments.health[t] + self.moments.shield[t], 0.0)
        return np.array([left[: self.n_allies].sum(), left[self.n_allies :].sum()]) / self.full

    def standing(self, t: int) -> tuple[int, int]:
        """How many of each side are alive at moment t."""
        alive = self.moments.alive[t]
        return int(alive[: self.n_allies].sum()), int(alive[self.n_allies :].sum())

    def shots(self, t: int) -> list[Shot]:
        """The weapons that went off on the way to moment t."""
        heals = self.facts.heals
        return [Shot(unit, int(target), bool(heals[unit])) for unit, target in enumerate(self.moments.target[t]) if target >= 0]

    def blasts(self, t: int) -> list[int]:
        """Who exploded on the way to moment t: of those who do, whoever died."""
        if t == 0:
            return []
        died = self.moments.alive[t - 1] & ~self.moments.alive[t]
        return [int(unit) for unit in np.flatnonzero(died & self.facts.marks("blast"))]

    def data(self) -> dict[str, Any]:
        """Everything as numbers for the page: places in hundredths of a cell, the rest in whole points, rounded up so that whoever
        is alive has some.
        """
        now = self.moments
        return {
            "map": self.env.spec.name,
            "outcome": self.outcome,
            "note": self.note,
            "allies": self.n_allies,
            "kinds": self.kinds,
            "radius": [kind.radius for kind in self.facts.kinds],
            "blast": [kind.blast for kind in self.facts.kinds],
            "heals": self.facts.heals.tolist(),
            "maxHealth": now.max_health[0].tolist(),
            "maxShield": now.max_shield[0].tolist(),
            "maxEnergy": ENERGY_MAX,
            "scenery": self.scenery._asdict(),
            "sight": self.sight.tolist(),
            "returns": None if self.returns is None else self.returns.round(2).tolist(),
            "x": (100 * self.pos[..., 0]).round().astype(int).tolist(),
            "y": (100 * self.pos[..., 1]).round().astype(int).tolist(),
            "health": np.where(now.alive, np.ceil(now.health), 0).astype(int).tolist(),
            "shield": _points(now.shield),
            "energy": _points(now.energy),
            "shots": [[[shot.unit, shot.target] for shot in self.shots(t)] for t in range(len(self))],
        }


def joint_window(films: Iterable[Film]) -> Window:
    """What has to be shown for all of them to be seen, and to be compared."""
    windows = np.array([film.window for film in films])
    low, high = windows[:, :2].min(axis=0), windows[:, 2:].max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def drawn_as(kinds: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The outline and the letter of each kind."""
    return {kind: {"shape": shape_of(kind), "sign": sign_of(kind)} for kind in dict.fromkeys(kinds)}


def _points(values: Any) -> list[list[int]] | None:
    return np.ceil(values).astype(int).tolist() if values.any() else None


def _laid_to_rest(pos: np.ndarray, alive: Any) -> np.ndarray:
    """Positions [T, U, 2] in which the dead lie where they fell."""
    time = np.arange(len(pos))[:, None]
    fell = np.where(alive.all(axis=0), len(pos) - 1, alive.argmin(axis=0))
    return np.take_along_axis(pos, np.minimum(time, fell)[..., None], axis=0)
