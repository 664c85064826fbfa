"""The physics of particle worlds, after the multi-agent particle environments (Lowe et al. 2017, arXiv 1706.02275).

The rules and numbers are those of `mpe2` 1.1, the maintained version of them. In a step of 0.1 seconds a particle travels at the
velocity that it has; then friction takes a quarter of the velocity, and forces change it. So a move shows one step later. The
original program of 2017 changed the velocity first.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from limbeck.types import Outcome

SECONDS = 0.1
"""that a step lasts"""
FRICTION = 0.25
"""the share of its velocity that a particle loses in a step"""
WILL = 5.0
"""the force of a move; all particles have mass 1"""
STIFFNESS = 100.0
"""the force between particles that overlap by 1"""
SOFTNESS = 1e-3
"""over which distance that force begins"""
MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], np.float32)
"""stay, left, right, down, up"""
APART = 1e-12
"""Nobody is nearer than this, for division: two on one spot do not push each other. `mpe2` divides by zero there."""


def anywhere(key: PRNGKeyArray, n: int) -> Float[Array, "K 2"]:
    """Points of the square from -1 to 1, each as likely."""
    return jax.random.uniform(key, (n, 2), minval=-1.0, maxval=1.0)


def drift(
    place: Float[Array, "N 2"], velocity: Float[Array, "N 2"], force: Float[Array, "N 2"]
) -> tuple[Float[Array, "N 2"], Float[Array, "N 2"]]:
    """Places and velocities one step later."""
    return place + SECONDS * velocity, (1 - FRICTION) * velocity + SECONDS * force


def own_force(move: Int[Array, "N"]) -> Float[Array, "N 2"]:
    """The force of one of the five moves."""
    return WILL * jnp.asarray(MOVES)[move]


def contact_force(place: Float[Array, "N 2"], reach: float) -> Float[Array, "N 2"]:
    """How all others push each particle away: hard where they are nearer than `reach`, and softly a little beyond."""
    between = place[:, None] - place[None]
    distance = length(between)
    overlap = SOFTNESS * jax.nn.softplus((reach - distance) / SOFTNESS)
    strength = STIFFNESS * overlap / jnp.maximum(distance, APART)
    return (strength[..., None] * between).sum(axis=1)


def length(vector: Float[Array, "*n 2"]) -> Float[Array, "*n"]:
    """Of vectors in the plane."""
    return jnp.sqrt((vector**2).sum(axis=-1))


def outcome(step: Int[Array, ""], reward: Float[Array, ""], limit: int) -> Outcome:
    """Of a step in a world that only the time limit ends."""
    return Outcome(reward, jnp.array(False), step >= limit, {"won": jnp.array(False)})
