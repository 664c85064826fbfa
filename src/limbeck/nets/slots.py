"""The parts of a state that are about one unit each: `EnvSpec.state_slots` and `EnvSpec.other_slots`."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Slots = tuple[tuple[int, int], ...]


def slots_of(state: Float[Array, "*b S"], slots: Slots) -> Float[Array, "*b K W"]:
    """Every slot's part of the state, a row each. All slots must be of one width."""
    start, stop = slots[0][0], slots[-1][1]
    width = slots[0][1] - start
    if slots == tuple((start + i * width, start + (i + 1) * width) for i in range(len(slots))):
        return state[..., start:stop].reshape(*state.shape[:-1], len(slots), width)
    return jnp.stack([state[..., a:b] for a, b in slots], axis=-2)
