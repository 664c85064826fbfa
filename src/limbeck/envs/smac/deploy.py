"""How the armies of a map appear: in one of its formations, and sent to a place that may be drawn as well."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from limbeck.envs.smac import engine
from limbeck.envs.smac.bodies import like
from limbeck.envs.smac.chance import uniform
from limbeck.envs.smac.facts import SPAWN_JITTER, FixedFacts


def deploy(facts: FixedFacts, words: Array) -> tuple[Float[Array, "2 U *b"], Float[Array, "2 *b"] | None]:
    """Places of the units of new episodes, from raw random words [W, *b]; and where the enemies are sent, None where that is always
    the same.
    """
    batch = words.shape[1:]
    chance = uniform(words, 5, first=1)
    which = (chance[0] * len(facts.formations)).astype(jnp.int32)
    flat = jnp.asarray(facts.formations.reshape(len(facts.formations), -1))
    pos = jnp.moveaxis(flat[which], -1, 0).reshape((2, facts.n_units, *batch))
    shift = (chance[1:].reshape((2, 2, *batch)) * 2 - 1) * SPAWN_JITTER
    sides = jnp.concatenate([jnp.repeat(shift[:, :1], facts.n_allies, 1), jnp.repeat(shift[:, 1:], facts.n_enemies, 1)], axis=1)
    return engine.confine(facts, pos + sides), _march(facts, uniform(words, 1, first=6)[0])


def _march(facts: FixedFacts, chance: Float[Array, "*b"]) -> Float[Array, "2 *b"] | None:
    """The place that the enemies are sent to, where it is drawn between two points."""
    places = np.array(facts.attack_point or (0, 0), np.float32)
    if places.ndim == 1:
        return None
    return like(places[0], chance[None]) + like(places[1] - places[0], chance[None]) * chance[None]
