"""The moving parts of a battle, units first, and the helpers that this layout needs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

NOWHERE = 1e4
"""coordinate of a target that does not exist: out of everything's reach"""


class Bodies(NamedTuple):
    """All that changes from tick to tick. U units, allies first."""

    pos: Float[Array, "2 U *b"]
    health: Float[Array, "U *b"]
    shield: Float[Array, "U *b"]
    unhurt: Float[Array, "U *b"]
    """loops left until the shield recovers"""
    cooldown: Float[Array, "U *b"]
    """loops until the weapon is ready; below 0 a swing is under way, and its hit comes at minus the damage point"""
    target: Int[Array, "U *b"]
    """index among the other side's units (among its own side's, for a healer), or -1"""
    energy: Float[Array, "U *b"] | None = None
    """what healing takes; None on a map without healers"""
    pace: Float[Array, "U *b"] | None = None
    """cells per second of those that need time to get going; None on a map without them"""
    fuse: Bool[Array, "U *b"] | None = None
    """who was killed in the last tick and explodes in this one; None on a map where nobody explodes"""
    kind: Int[Array, "U *b"] | None = None
    """what everybody is, see `DrawnFacts`; None on a map where that is the same in all episodes"""


class Orders(NamedTuple):
    """What holds for one whole environment step."""

    goal: Float[Array, "2 U *b"]
    """where to walk without a target"""
    walks: Bool[Array, "U *b"]
    """whether to walk there"""
    delay: Float[Array, "U *b"]
    """loops by which this step's shot lengthens the weapon cycle"""


def like(values: np.ndarray | Array, array: Array) -> Array:
    """Constants `[..., U]` with the batch axes of `array` `[..., U, *b]` added as ones. What is known per world has them."""
    if isinstance(values, jax.Array):
        return values
    values = np.asarray(values)
    return jnp.asarray(values.reshape(values.shape + (1,) * (array.ndim - values.ndim)))


def squared(vector: Float[Array, "2 *b"]) -> Float[Array, "*b"]:
    """Squared length."""
    return vector[0] * vector[0] + vector[1] * vector[1]


def certain(values: Any) -> bool:
    """Whether constants are true throughout. What is only known per world never is, so that an `if` stays one of the map's."""
    return not isinstance(values, jax.Array) and bool(np.all(values))


def possible(values: Any) -> bool:
    """Whether some constants are true, or may be."""
    return isinstance(values, jax.Array) or bool(np.any(values))


def worlds_first(array: Array, n_axes: int) -> Array:
    """[..., *b] with `n_axes` own axes -> [*b, ...]."""
    return array.transpose((*range(n_axes, array.ndim), *range(n_axes)))
