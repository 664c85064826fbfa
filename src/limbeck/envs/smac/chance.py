"""Random numbers for battles: cheap ones, from the raw words of a key."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.envs.smac.bodies import like, worlds_first


def key_words(key: PRNGKeyArray, batch_axes: int) -> Array:
    """The raw words of a key or of a batch of keys, words first: [W, *b] uint32."""
    words = jax.random.key_data(key)
    return worlds_first(words, batch_axes)


def uniform(words: Array, n: int, first: int) -> Float[Array, "n *b"]:
    """`n` numbers in [0, 1) per key; calls whose ranges `first ... first + n` do not meet are independent.

    The counter-based generators of `jax.random` take longer than all the physics of a small battle. A key's words are random and
    used once, so that hashing them with a counter is enough: the finaliser is the `lowbias32` of C. Wellons' hash prospector.
    """
    counter = np.arange(first, first + n, dtype=np.uint32) * np.uint32(0x9E3779B9)
    bits = like(counter, jnp.empty((n, *words.shape[1:])))
    for word in words:
        bits = scramble(bits ^ word[None])
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2.0**-24)


def scramble(bits: Array) -> Array:
    """A bijection of uint32 in which every output bit depends on every input bit."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)
