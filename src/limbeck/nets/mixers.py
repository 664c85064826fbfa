"""Mixers: a joint action, as values of N agents and the state -> G values trained on the team's reward (G = 1, or N for IQL)."""

from typing import NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from limbeck.nets.agents import affine
from limbeck.nets.slots import slots_of
from limbeck.types import EnvSpec

LEAST = 1e-10
"""keeps weights that must be positive from being zero"""


class Joint(NamedTuple):
    """One joint action, as those who judge it may see it. Only what a mixer reads has to be there."""

    q: Float[Array, "... N"]
    """each agent's value of its action"""
    state: Float[Array, "... S"]
    best: Float[Array, "... N"] | None = None
    """each agent's value of its best available action"""
    action: Int[Array, "... N"] | None = None
    hidden: Float[Array, "... N H"] | None = None
    """the agents' recurrent states"""


@runtime_checkable
class Mixer(Protocol):
    """What Q-learning asks of a mixer."""

    def __call__(self, joint: Joint) -> Float[Array, "... G"]: ...


class Independent(eqx.Module):
    """IQL: every agent's value by itself (Tan 1993). G = N."""

    def __call__(self, joint: Joint) -> Array:
        return joint.q


class Sum(eqx.Module):
    """VDN: Q_tot = sum_i Q_i (Sunehag et al. 2018)."""

    def __call__(self, joint: Joint) -> Array:
        return joint.q.sum(-1, keepdims=True)


class Layers(eqx.Module):
    """Linear layers with ReLU between them: with the state as input, a hypernetwork."""

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(self, widths: tuple[int, ...], key: PRNGKeyArray):
        keys = jax.random.split(key, len(widths) - 1)
        self.layers = tuple(eqx.nn.Linear(i, o, key=k) for i, o, k in zip(widths[:-1], widths[1:], keys, strict=True))

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(affine(layer, x))
        return affine(self.layers[-1], x)


def stack(n: int, widths: tuple[int, ...], key: PRNGKeyArray) -> Layers:
    """`n` such networks in one, their weights stacked on a first axis; see `all_of`."""
    return eqx.filter_vmap(lambda k: Layers(widths, k))(jax.random.split(key, n))


def all_of(stacked: Layers, x: Float[Array, "*b i"]) -> Float[Array, "K *b o"]:
    """Every network of a stack on the same input."""
    return eqx.filter_vmap(lambda net: net(x))(stacked)


class Monotonic(eqx.Module):
    """QMIX: Q_tot = |w2(s)|^T ELU(|W1(s)|^T q + b1(s)) + b2(s), monotone in every Q_i (Rashid et al. 2018, section 4)."""

    w1: Layers
    b1: eqx.nn.Linear
    w2: Layers
    b2: Layers
    n_agents: int = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, embed: int, hyper: int, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        self.w1 = Layers((spec.state_dim, hyper, spec.n_agents * embed), keys[0])
        self.b1 = eqx.nn.Linear(spec.state_dim, embed, key=keys[1])
        self.w2 = Layers((spec.state_dim, hyper, embed), keys[2])
        self.b2 = Layers((spec.state_dim, embed, 1), keys[3])
        self.n_agents = spec.n_agents

    def __call__(self, joint: Joint) -> Array:
        q, state = joint.q, joint.state
        w1 = jnp.abs(self.w1(state)).reshape(*state.shape[:-1], self.n_agents, -1)
        hidden = jax.nn.elu((q[..., None] * w1).sum(-2) + affine(self.b1, state))
        return (hidden * jnp.abs(self.w2(state))).sum(-1, keepdims=True) + self.b2(state)


class Attention(eqx.Module):
    """Qatten: Q_tot = c(s) + sum_h |w_h(s)| sum_i softmax_i(query_h(s) . key_h(s_i) / sqrt(d)) Q_i (Yang et al. 2020).

    s_i is agent i's own part of the state, `EnvSpec.state_slots`.
    """

    queries: Layers
    keys: Float[Array, "K W E"]
    weight: Layers
    bias: Layers
    slots: tuple[tuple[int, int], ...] = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, heads: int, embed: int, hyper: int, key: PRNGKeyArray):
        assert spec.state_slots is not None
        self.slots = spec.state_slots
        key_query, key_key, key_weight, key_bias = jax.random.split(key, 4)
        width = self.slots[0][1] - self.slots[0][0]
        self.queries = stack(heads, (spec.state_dim, hyper, embed), key_query)
        self.keys = jax.random.uniform(key_key, (heads, width, embed), minval=-(width**-0.5), maxval=width**-0.5)
        self.weight = Layers((spec.state_dim, hyper, heads), key_weight)
        self.bias = Layers((spec.state_dim, embed, 1), key_bias)

    def attention(self, state: Float[Array, "*b S"]) -> Float[Array, "K *b N"]:
        """How much each head listens to each agent; sums to 1 over the agents."""
        queries = all_of(self.queries, state)
        # q . (s_i W) = (q W^T) . s_i: nothing of size [agents, embed] is built.
        at_units = jnp.einsum("k...e,kwe->k...w", queries, self.keys)
        scores = jnp.einsum("k...w,...nw->k...n", at_units, slots_of(state, self.slots))
        return jax.nn.softmax(scores / self.keys.shape[-1] ** 0.5, axis=-1)

    def __call__(self, joint: Joint) -> Array:
        heads = (self.attention(joint.state) * joint.q[None]).sum(-1)
        return (jnp.abs(self.weight(joint.state)) * jnp.moveaxis(heads, 0, -1)).sum(-1, keepdims=True) + self.bias(joint.state)


class Duplex(eqx.Module):
    """QPLEX: values and advantages, each agent's rescaled by the state, the advantages once more by the joint action.

    Q'_i = |w_i(s)| Q_i + b_i(s), V'_i the same of max_a Q_i;
    Q_tot = sum_i Q'_i + sum_i (lambda_i(s, u) - 1) (Q'_i - V'_i), no gradient through the last bracket;
    lambda_i = sum_k |key_k(s)| sigmoid(agents_k,i(s)) sigmoid(actions_k,i(s, u)) > 0   (Wang et al. 2021)
    """

    weight: Layers
    bias: Layers
    keys: Layers
    agents: Layers
    actions: Layers
    n_actions: int = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, kernels: int, hyper: int, layers: int, key: PRNGKeyArray):
        n, s = spec.n_agents, spec.state_dim
        keys = jax.random.split(key, 5)
        inner = (hyper,) * (layers - 1)
        self.weight = Layers((s, hyper, n), keys[0])
        self.bias = Layers((s, hyper, n), keys[1])
        self.keys = stack(kernels, (s, *inner, 1), keys[2])
        self.agents = stack(kernels, (s, *inner, n), keys[3])
        self.actions = stack(kernels, (s + n * spec.n_actions, *inner, n), keys[4])
        self.n_actions = spec.n_actions

    def importance(self, state: Float[Array, "*b S"], action: Int[Array, "*b N"]) -> Float[Array, "*b N"]:
        """lambda_i(s, u), always positive."""
        taken = jax.nn.one_hot(action, self.n_actions).reshape(*action.shape[:-1], -1)
        key = jnp.abs(all_of(self.keys, state)) + LEAST
        actions = jax.nn.sigmoid(all_of(self.actions, jnp.concatenate([state, taken], axis=-1)))
        return (key * jax.nn.sigmoid(all_of(self.agents, state)) * actions).sum(0)

    def __call__(self, joint: Joint) -> Array:
        assert joint.best is not None and joint.action is not None
        weight = jnp.abs(self.weight(joint.state)) + LEAST
        q = weight * joint.q + self.bias(joint.state)
        advantage = jax.lax.stop_gradient(weight * (joint.q - joint.best))
        total = q + (self.importance(joint.state, joint.action) - 1.0) * advantage
        return total.sum(-1, keepdims=True)


class Unrestricted(eqx.Module):
    """Weighted QMIX's central mixer: any function of the agents' central values and the state (Rashid et al. 2020)."""

    joint: Layers
    value: Layers

    def __init__(self, spec: EnvSpec, hidden: int, key: PRNGKeyArray):
        key_joint, key_value = jax.random.split(key)
        self.joint = Layers((spec.n_agents + spec.state_dim, hidden, hidden, hidden, 1), key_joint)
        self.value = Layers((spec.state_dim, hidden, 1), key_value)

    def __call__(self, joint: Joint) -> Array:
        return self.joint(jnp.concatenate([joint.q, joint.state], axis=-1)) + self.value(joint.state)


class JointValue(eqx.Module):
    """QTRAN-base's Q_jt(s, sum_i enc(h_i, u_i)) and V(s) (Son et al. 2019)."""

    encode: Layers
    joint: Layers
    value: Layers
    n_actions: int = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, width: int, hidden: int, key: PRNGKeyArray):
        key_encode, key_joint, key_value = jax.random.split(key, 3)
        both = width + spec.n_actions
        self.encode = Layers((both, both, both), key_encode)
        self.joint = Layers((spec.state_dim + both, hidden, hidden, 1), key_joint)
        self.value = Layers((spec.state_dim, hidden, hidden, 1), key_value)
        self.n_actions = spec.n_actions

    def __call__(self, joint: Joint) -> Array:
        assert joint.hidden is not None and joint.action is not None
        each = jnp.concatenate([joint.hidden, jax.nn.one_hot(joint.action, self.n_actions)], axis=-1)
        return self.joint(jnp.concatenate([joint.state, self.encode(each).sum(-2)], axis=-1))
