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


def gae(
    reward: Float[Array, "T *b"],
    value: Float[Array, "L *b"],
    terminated: Bool[Array, "T *b"],
    mask: Float[Array, "T *b"],
    gamma: float,
    lambda_: float,
) -> Float[Array, "T *b"]:
    """Generalised advantages (Schulman et al. 2016): the TD(lambda) return less the value, which is the same sum.

        A_t = delta_t + gamma lambda (1 - terminated_t) A_{t+1},      delta_t = r_t + gamma (1 - terminated_t) v_{t+1} - v_t

    Where transition t + 1 was truncated the chain is cut, and v_{t+1} stands for all that would have come. The advantage of a
    masked transition itself means nothing and must not be used.
    """
    return td_lambda(reward, value[1:], terminated, mask, gamma, lambda_) - value[:-1]


def ppo_clip(log_ratio: Float[Array, "*s"], advantage: Float[Array, "*s"], clip: float) -> Float[Array, "*s"]:
    """min(rho A, clip(rho, 1 - clip, 1 + clip) A), to be made large; rho = exp(log_ratio) (Schulman et al. 2017)."""
    ratio = jnp.exp(log_ratio)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)


def huber(error: Float[Array, "*s"], delta: float) -> Float[Array, "*s"]:
    """error^2 / 2 up to delta, and from there on straight with the same slope."""
    size = jnp.abs(error)
    return jnp.where(size <= delta, 0.5 * error**2, delta * (size - 0.5 * delta))


def clipped_value_loss(
    value: Float[Array, "*s"], before: Float[Array, "*s"], target: Float[Array, "*s"], clip: float, delta: float
) -> Float[Array, "*s"]:
    """The larger Huber loss of the value, and of the value kept within `clip` of what it was `before` (PPO2; Yu et al. 2022)."""
    near = before + jnp.clip(value - before, -clip, clip)
    return jnp.maximum(huber(target - value, delta), huber(target - near, delta))


def standardised(x: Float[Array, "*s"], mask: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """(x - mean) / standard deviation, both over what the mask counts."""
    centred = x - masked_mean(x, mask)
    return centred / (jnp.sqrt(masked_mean(centred**2, mask)) + 1e-5)


def entropy(log_p: Float[Array, "*b A"]) -> Float[Array, "*b"]:
    """Of distributions given as log-probabilities; what is next to impossible counts nothing."""
    return -(jnp.exp(log_p) * log_p).sum(-1)
