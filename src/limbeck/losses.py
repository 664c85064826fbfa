"""Pure arithmetic on arrays whose first axis is time. Each function has a test computed by hand."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def masked_mean(x: Float[Array, "*s"], mask: Float[Array, "*s"]) -> Float[Array, ""]:
    """Mean of `x` where `mask` is 1; 0 where nothing is."""
    return (x * mask).sum() / jnp.maximum(mask.sum(), 1.0)


def td_lambda(
    reward: Float[Array, "T *b"],
    value_next: Float[Array, "T *b"],
    terminated: Bool[Array, "T *b"],
    mask: Float[Array, "T *b"],
    gamma: float,
    lambda_: float,
) -> Float[Array, "T *b"]:
    """TD(lambda) returns; the value of decision t + 1 is `value_next[t]`.

        G_t = r_t + gamma (1 - terminated_t) ((1 - lambda) v_{t+1} + lambda G_{t+1}),      G_T = v_T

    Where transition t + 1 was truncated (`mask[t + 1] = 0`) its return is unknown, and v_{t+1} stands in for it. The return of a
    masked transition itself means nothing and must not be used. (Sutton and Barto 2018, chapter 12; pymarl2's recipe.)
    """
    discount = gamma * (1.0 - terminated)

    def step(carry: tuple[Array, Array], at: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        g_next, known = carry
        r, d, v, m = at
        g = r + d * ((1.0 - lambda_) * v + lambda_ * jnp.where(known > 0, g_next, v))
        return (g, m), g

    start = (jnp.zeros_like(reward[0]), jnp.zeros_like(mask[0]))
    _, returns = jax.lax.scan(step, start, (reward, discount, value_next, mask), reverse=True)
    return returns
