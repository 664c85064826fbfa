"""The facts of units whose kinds are drawn for every episode: the questions of `Facts`, answered world by world."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from limbeck.envs.smac.bodies import Bodies
from limbeck.envs.smac.facts import Facts, FixedFacts
from limbeck.envs.smac.units import UnitType


@dataclass(frozen=True, eq=False)
class DrawnFacts(Facts):
    """Facts by kind, and what everybody is. Where all kinds agree the answer is a constant, so that the engine leaves out what none
    of them can do.
    """

    pool: tuple[UnitType, ...]
    """what a unit may be"""
    kind: Int[Array, "U *b"] | None = None
    """what everybody is, as an index into the pool; None before it is drawn"""

    def of(self, now: Bodies) -> "DrawnFacts":
        return replace(self, kind=now.kind)

    def fixed(self, kind: Sequence[int] | np.ndarray) -> FixedFacts:
        """The facts of one episode, in which everybody's kind [U] is known."""
        kinds = [int(each) for each in kind]
        return FixedFacts(
            n_allies=self.n_allies,
            n_enemies=self.n_enemies,
            loops_per_tick=self.loops_per_tick,
            floors=self.floors[..., kinds],
            routes=self.routes,
            attack_point=self.attack_point,
            hunts=self.hunts,
            kinds=tuple(self.pool[each] for each in kinds),
            formations=np.zeros((0, 2, self.n_units), np.float32),
        )

    def ways(self, unit: int) -> tuple[UnitType, ...]:
        return self.pool

    def each(self, fact: Callable[[UnitType], float]) -> Any:
        return self._chosen(np.array([fact(kind) for kind in self.pool], np.float32), slice(0, self.n_units))

    def pairs(self, fact: Callable[[UnitType, UnitType], float], units: slice, others: slice) -> Any:
        table = np.array([[fact(unit, other) for other in self.pool] for unit in self.pool], np.float32)
        if (table == table[0, 0]).all():
            return np.full((units.stop - units.start, others.stop - others.start, *self._ones), table[0, 0])
        rows = [self._chosen(row, others)[None] for row in table]
        return _select(self._kind[units][:, None], rows)

    def ground(self) -> Any:
        if (self.floors == self.floors[..., :1]).all():
            return np.broadcast_to(self.floors[..., :1], (*self.floors.shape[:2], self.n_units)).reshape(
                *self.floors.shape[:2], self.n_units, *self._ones
            )
        corners = [self._chosen(row, slice(0, self.n_units)) for row in self.floors.reshape(-1, len(self.pool))]
        corners = jnp.stack([jnp.broadcast_to(each, self._kind.shape) for each in corners])
        return corners.reshape(*self.floors.shape[:2], *self._kind.shape)

    @property
    def _kind(self) -> Int[Array, "U *b"]:
        assert self.kind is not None, "what the units are is known for the bodies of an episode only: ask facts.of(bodies)"
        return self.kind

    @property
    def _ones(self) -> tuple[int, ...]:
        """An axis of one for every batch axis: constants stand beside what is known per world."""
        return (1,) * (self._kind.ndim - 1)

    def _chosen(self, values: np.ndarray, units: slice) -> Any:
        """Of one value per kind, that of everybody among the units."""
        if (values == values[0]).all():
            return np.full((units.stop - units.start, *self._ones), values[0])
        return _select(self._kind[units], [np.float32(value) for value in values])


def _select(kind: Array, values: Sequence[Any]) -> Array:
    """`values[kind]`, without a gather, which would not merge into the kernel around it."""
    chosen = values[-1]
    for index in reversed(range(len(values) - 1)):
        chosen = jnp.where(kind == index, values[index], chosen)
    return chosen
