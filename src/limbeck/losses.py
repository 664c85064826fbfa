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


def for_each(value: Float[Array, "T B G"], *team: Array) -> tuple[Array, ...]:
    """What there is once for the team, [T, B] each, for each of G values."""
    return tuple(jnp.broadcast_to(x[..., None], value.shape) for x in team)


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


def dual_clip(log_ratio: Float[Array, "*s"], advantage: Float[Array, "*s"], clip: float, limit: float) -> Float[Array, "*s"]:
    """The same, but not below limit A where A < 0: far off the policy that played, rho A alone knows no bound (Ye et al. 2020)."""
    gain = ppo_clip(log_ratio, advantage, clip)
    return jnp.where(advantage < 0, jnp.maximum(gain, limit * advantage), gain)


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


# -- how agents stand to each other ----------------------------------------------------------------------------------------
#
# Agents lead here, and what they are seen at stands behind: they are few, and compilers compute along the last axis at once.

COINCIDE = 1e-6
"""squared distances below this share of the features' own size are rounding: agents in one place, with no direction between them"""


def inner_products(features: Float[Array, "*b N H"]) -> Float[Array, "*b N N"]:
    """Of the agents' features about their mean: all there is to know of distances and angles between them."""
    centred = features - features.mean(-2, keepdims=True)
    return jnp.einsum("...ih,...jh->...ij", centred, centred)


def agents_first(x: Array, axes: int) -> Array:
    """[*b, N, ...] with so many `axes` of agents -> [N, ..., b], with all that is before them in one."""
    return jnp.moveaxis(x.reshape(-1, *x.shape[x.ndim - axes :]), 0, -1)


def _squares(products: Float[Array, "N N *b"]) -> Float[Array, "N N *b"]:
    """Squared distances, 0 where agents coincide."""
    own = _own(products)
    sizes = own[:, None] + own[None, :]
    squares = sizes - 2.0 * products
    return jnp.where(squares > COINCIDE * sizes, squares, 0.0)


def _own(products: Float[Array, "N N *b"]) -> Float[Array, "N *b"]:
    """The diagonal."""
    return jnp.stack([products[i, i] for i in range(len(products))])


def _root(squares: Array) -> Array:
    """Square root with gradient 0 at 0."""
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)


def distances(products: Float[Array, "N N *b"], pairs: Float[Array, "N N *b"]) -> Float[Array, "N N *b"]:
    """|e_i - e_j| / mu, with mu the mean over all `pairs` that count, of all entries together (Park et al. 2019).

    What is known of the features e is their `inner_products`.
    """
    apart = _root(_squares(products))
    return apart / jnp.maximum(masked_mean(apart, pairs), 1e-8)


def angles(products: Float[Array, "N N *b"]) -> Float[Array, "N N N *b"]:
    """[j, i, k]: the cosine of the angle at j between i and k; 0 where two of them coincide (Park et al. 2019).

    What is known of the features is their `inner_products`.
    """
    squares = _squares(products)
    # <e_i - e_j, e_k - e_j> = <i, k> - <i, j> - <j, k> + <j, j>
    inner = products[None] - products[:, :, None] - products[:, None, :] + _own(products)[:, None, None]
    near = jnp.where(squares > 0, 1.0 / _root(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return inner * near[:, :, None] * near[:, None, :]


def pairs_of(weight: Float[Array, "N *b"]) -> Float[Array, "N N *b"]:
    """1 where i < j and both count."""
    both = weight[:, None] * weight[None, :]
    return both * _over(jnp.triu(jnp.ones(both.shape[:2]), 1), both)


def triples_of(weight: Float[Array, "N *b"]) -> Float[Array, "N N N *b"]:
    """[j, i, k]: 1 where i < k, neither is j, and all three count."""
    n = len(weight)
    other = 1.0 - jnp.eye(n)
    fit = jnp.triu(jnp.ones((n, n)), 1)[None] * other[:, :, None] * other[:, None, :]
    all_three = weight[:, None, None] * weight[None, :, None] * weight[None, None, :]
    return all_three * _over(fit, all_three)


def _over(x: Array, like: Array) -> Array:
    """x, which has the first axes of `like`, the same along the others."""
    return jnp.broadcast_to(x.reshape(*x.shape, *[1] * (like.ndim - x.ndim)), like.shape)


def window_means(
    x: Float[Array, "L *b N H"], weight: Float[Array, "L *b N"], is_first: Bool[Array, "L *b"], windows: int
) -> tuple[Float[Array, "W *b N H"], Float[Array, "W *b N"]]:
    """(mean of x over each episode's part of the L decisions, how much weight was in it), of the first `windows` of them (W).

    There can be L + 1, and most of those are empty.
    """
    episode = jax.nn.one_hot(jnp.cumsum(is_first, 0), windows)
    parts = jnp.einsum("l...w,l...n->wl...n", episode, weight)
    total = parts.sum(1)
    return jnp.einsum("wl...n,l...nh->w...nh", parts, x) / jnp.maximum(total, 1.0)[..., None], total


def mapped_cosine(x: Float[Array, "N *b H"], maps: Float[Array, "N H K"], y: Float[Array, "N *b K"]) -> Float[Array, "N *b"]:
    """Of the angle between each agent's x @ map and y; 0 where one of them is nothing.

    K is much larger than H, so x @ map is not made: <x M, y> = <x, y M'> and |x M|^2 = <x, x M M'>.
    """
    inner = (x * jnp.einsum("n...k,nhk->n...h", y, maps)).sum(-1)
    square = (x * jnp.einsum("n...h,nhg->n...g", x, jnp.einsum("nhk,ngk->nhg", maps, maps))).sum(-1)
    return inner / jnp.maximum(_root(square) * _root((y**2).sum(-1)), 1e-8)
