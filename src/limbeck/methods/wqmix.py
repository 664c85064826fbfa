"""Weighted QMIX (Rashid et al., NeurIPS 2020): a monotone Q_tot that does not let bad joint actions pull good ones down.

    Q^*(s, tau, u) = f(Q^c_1, ..., Q^c_n, s)        central: agents of its own, joined by a network that need not be monotone
    y              = TD(lambda) of the lagged Q^* at u' = argmax_u Q_i                     Q_tot's own greedy actions
    L              = mean w (Q_tot - y)^2 + 1/2 mean (Q^* - y)^2

    optimistic (OW):   w = 1 where Q_tot < y, else alpha
    central (CW):      w = 1 where u is the greedy joint action u*, or y > Q^*-(s, tau, u*), else alpha

Where an action looks bad, little weight is put on Q_tot being right about it, and all the more on the good ones. alpha = 0.1 in the
authors' public configurations.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.losses import masked_mean
from limbeck.methods.q_learning import (
    Online,
    QParams,
    QSettings,
    Returns,
    joint,
    returns_of,
    td_metrics,
    values_of,
)
from limbeck.nets.agents import Agent, RecurrentAgent
from limbeck.nets.chunks import in_chunks, sum_in_chunks
from limbeck.nets.mixers import Joint, Mixer, Unrestricted
from limbeck.nets.unroll import early, late
from limbeck.types import EnvSpec, Segment

Weigh = Callable[[Array, Returns, Array, Array], Array]
"""(Q_tot, returns, whether the action was the greedy one, Q^*- of the greedy one) -> weights, all [T, B, 1]"""


class Central(eqx.Module):
    """Q^*: central values of the agents, and what joins them."""

    agent: Agent
    mixer: Unrestricted

    def __init__(self, spec: EnvSpec, settings: QSettings, key: PRNGKeyArray):
        key_agent, key_mixer = jax.random.split(key)
        self.agent = RecurrentAgent(spec, settings.hidden, key_agent)
        self.mixer = Unrestricted(spec, settings.central, key_mixer)


def optimistic_loss(
    params: QParams, target: QParams, segment: Segment, online: Online, key: PRNGKeyArray, settings: QSettings
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """OW-QMIX."""

    def weigh(q_tot: Array, returns: Returns, is_greedy: Array, value_greedy: Array) -> Array:
        return jnp.where(q_tot < returns.value, 1.0, settings.alpha)

    return _weighted_loss(params, target, segment, online, key, settings, weigh)


def central_loss(
    params: QParams, target: QParams, segment: Segment, online: Online, key: PRNGKeyArray, settings: QSettings
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """CW-QMIX."""

    def weigh(q_tot: Array, returns: Returns, is_greedy: Array, value_greedy: Array) -> Array:
        return jnp.where(is_greedy | (returns.value > value_greedy), 1.0, settings.alpha)

    return _weighted_loss(params, target, segment, online, key, settings, weigh)


def _weighted_loss(
    params: QParams, target: QParams, segment: Segment, online: Online, key: PRNGKeyArray, settings: QSettings, weigh: Weigh
) -> tuple[Float[Array, ""], dict[str, Array]]:
    key_central, key_target = jax.random.split(key)
    seen, (values, best) = segment.decisions, online
    by_critic = segment._replace(carry0=segment.carry0.critic)
    central = values_of(params.critic.agent, by_critic, key_central)
    lagged = values_of(target.critic.agent, by_critic, key_target)
    q_tot = params.mixer(joint(early(values), segment.action, early(seen)))
    value_best = in_chunks(target.critic.mixer, joint(lagged, best, seen))
    returns = returns_of(segment, late(value_best), settings)
    is_greedy = (segment.action == early(best)).all(-1, keepdims=True)
    weight = jax.lax.stop_gradient(weigh(q_tot, returns, is_greedy, early(value_best)))
    loss = masked_mean(weight * (q_tot - returns.value) ** 2, returns.mask)
    at_action = joint(early(central), segment.action, early(seen))
    central_loss = 0.5 * _mean_error(params.critic.mixer, at_action, returns)
    more = {"central_loss": central_loss, "weight": masked_mean(weight, returns.mask)}
    return loss + central_loss, td_metrics(q_tot, returns) | more


def _mean_error(mixer: Mixer, at: Joint, returns: Returns) -> Float[Array, ""]:
    """mean (Q^* - y)^2. Three layers of 256 on every transition: a quarter of an update even in chunks."""

    def total(mixer: Mixer, some: tuple[Array, ...]) -> Array:
        q, state, value, mask = some
        return (mask * (mixer(Joint(q, jax.lax.stop_gradient(state))) - value) ** 2).sum()

    error = sum_in_chunks(total, mixer, (at.q, at.state, returns.value, returns.mask))
    return error / jnp.maximum(returns.mask.sum(), 1.0)
