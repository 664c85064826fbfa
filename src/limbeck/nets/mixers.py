"""Mixers: the values of N agents and the state -> G values trained on the team's reward (G = 1, or N for independent agents)."""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.nets.agents import affine
from limbeck.types import EnvSpec


@runtime_checkable
class Mixer(Protocol):
    """What Q-learning asks of a mixer."""

    def __call__(self, q: Float[Array, "... N"], state: Float[Array, "... S"]) -> Float[Array, "... G"]: ...


class Independent(eqx.Module):
    """IQL: every agent's value by itself (Tan 1993). G = N."""

    def __call__(self, q: Array, state: Array) -> Array:
        return q


class Sum(eqx.Module):
    """VDN: Q_tot = sum_i Q_i (Sunehag et al. 2018)."""

    def __call__(self, q: Array, state: Array) -> Array:
        return q.sum(-1, keepdims=True)


class Hyper(eqx.Module):
    """A weight vector computed from the state: Linear-ReLU-Linear."""

    first: eqx.nn.Linear
    second: eqx.nn.Linear

    def __init__(self, state_dim: int, hidden: int, out: int, key: PRNGKeyArray):
        key_first, key_second = jax.random.split(key)
        self.first = eqx.nn.Linear(state_dim, hidden, key=key_first)
        self.second = eqx.nn.Linear(hidden, out, key=key_second)

    def __call__(self, state: Array) -> Array:
        return affine(self.second, jax.nn.relu(affine(self.first, state)))


class Monotonic(eqx.Module):
    """QMIX: Q_tot = |w2(s)|^T ELU(|W1(s)|^T q + b1(s)) + b2(s), monotone in every Q_i (Rashid et al. 2018, section 4)."""

    w1: Hyper
    b1: eqx.nn.Linear
    w2: Hyper
    b2: Hyper
    n_agents: int = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, embed: int, hyper: int, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        self.w1 = Hyper(spec.state_dim, hyper, spec.n_agents * embed, keys[0])
        self.b1 = eqx.nn.Linear(spec.state_dim, embed, key=keys[1])
        self.w2 = Hyper(spec.state_dim, hyper, embed, keys[2])
        self.b2 = Hyper(spec.state_dim, embed, 1, keys[3])
        self.n_agents = spec.n_agents

    def __call__(self, q: Array, state: Array) -> Array:
        w1 = jnp.abs(self.w1(state)).reshape(*state.shape[:-1], self.n_agents, -1)
        hidden = jax.nn.elu((q[..., None] * w1).sum(-2) + affine(self.b1, state))
        return (hidden * jnp.abs(self.w2(state))).sum(-1, keepdims=True) + self.b2(state)
