"""The global state made one agent's own: networks of one verb, `(x [..., N, D], state [..., S]) -> g [..., N, Z]`.

All of them read an agent's input through h(x) = ReLU(Linear(x)), which says how to read the state, and b(x) = Linear(x), which
needs no state; they differ in how h(x) meets the state. PTDE lets h(x) decide the weights of a layer on the state
(`StateHypernetwork`) and names that module's size as its main weakness; the others are lighter. docs/decisions/0007 compares them.
"""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.errors import BadSetting, NotOffered
from limbeck.nets.agents import affine, local_dim
from limbeck.nets.bilinear import bilinear
from limbeck.nets.products import check_products
from limbeck.nets.slots import Slots, slots_of
from limbeck.types import EnvSpec

HEADS = 4
"""of attention, as in COPA and CADP"""


@runtime_checkable
class Fusion(Protocol):
    """What a latent asks of a network that personalises the state."""

    def __call__(self, x: Float[Array, "... N D"], state: Float[Array, "... S"]) -> Float[Array, "... N Z"]: ...


class StateHypernetwork(eqx.Module):
    """g_i = ELU(s W(x_i) + b(x_i)): the state through a layer whose weights each agent's own input decides (PTDE, figure 2).

    W is the last layer of a hypernetwork and linear in its hidden units h(x_i), so s W is bilinear in (s, h). The state, which all
    agents of a decision share, is contracted with the layer's tensor first, giving one small matrix per decision; no agent's W is
    ever built. See docs/decisions/0003 for what this saves.
    """

    hidden: eqx.nn.Linear
    tensor: Float[Array, "S H Z"]
    tensor_bias: Float[Array, "S Z"]
    bias: eqx.nn.Linear
    linear: bool = eqx.field(static=True)
    products: str = eqx.field(static=True)

    def __init__(
        self,
        in_dim: int,
        state_dim: int,
        hidden: int,
        out: int,
        key: PRNGKeyArray,
        linear: bool = False,
        products: str = "float32",
    ):
        """`linear`: without the ELU, as in DDN's fusion block. `products`: see `bilinear`."""
        self.linear, self.products = linear, check_products(products)
        key_hidden, key_tensor, key_tensor_bias, key_bias = jax.random.split(key, 4)
        limit = hidden**-0.5  # as in a Linear layer with `hidden` inputs, which this tensor is
        self.hidden = eqx.nn.Linear(in_dim, hidden, key=key_hidden)
        self.tensor = jax.random.uniform(key_tensor, (state_dim, hidden, out), minval=-limit, maxval=limit)
        self.tensor_bias = jax.random.uniform(key_tensor_bias, (state_dim, out), minval=-limit, maxval=limit)
        self.bias = eqx.nn.Linear(in_dim, out, key=key_bias)

    def __call__(self, x: Float[Array, "... N D"], state: Float[Array, "... S"], alive: Any = None) -> Float[Array, "... N Z"]:
        """Inputs of all agents, one state -> g of all agents. Who is alive is not asked: mixers read the values of the dead too."""
        h = jax.nn.relu(affine(self.hidden, x))
        mapped = bilinear(self.tensor, state, h, products=self.products) + (state @ self.tensor_bias)[..., None, :]
        g = mapped + affine(self.bias, x)
        return g if self.linear else jax.nn.elu(g)

    def built(self, x: Float[Array, "D"], state: Float[Array, "S"]) -> Float[Array, "Z"]:
        """The same for one agent, with its weight matrix built, as the paper writes it: the reference for tests."""
        h = jax.nn.relu(affine(self.hidden, x))
        weight = jnp.einsum("h,shz->sz", h, self.tensor) + self.tensor_bias
        g = state @ weight + affine(self.bias, x)
        return g if self.linear else jax.nn.elu(g)


class LowRankHypernetwork(eqx.Module):
    """g_i = ELU(((s A) * (h_i B)) C + s M + b(x_i)): the hypernetwork with a tensor of rank R.

    T[s,h,z] = sum_r A[s,r] B[h,r] C[r,z] has R (S + H + Z) numbers in the place of S H Z. At initialisation its entries have the
    variance that those of the full tensor have, so both forms begin with latents of the same size.
    """

    hidden: eqx.nn.Linear
    of_state: Float[Array, "S R"]
    of_hidden: Float[Array, "H R"]
    to_out: Float[Array, "R Z"]
    tensor_bias: Float[Array, "S Z"]
    bias: eqx.nn.Linear

    def __init__(self, in_dim: int, state_dim: int, hidden: int, out: int, rank: int, key: PRNGKeyArray):
        if rank < 1:
            raise BadSetting(f"rank is {rank}; it must be at least 1")
        keys = jax.random.split(key, 6)

        def uniform(key: PRNGKeyArray, shape: tuple[int, int], variance: float) -> Array:
            limit = (3 * variance) ** 0.5
            return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

        self.hidden = eqx.nn.Linear(in_dim, hidden, key=keys[0])
        # var T = R * (1) * (1 / H) * (1 / 3R) = 1 / 3H, that of a Linear layer with H inputs
        self.of_state = uniform(keys[1], (state_dim, rank), 1.0)
        self.of_hidden = uniform(keys[2], (hidden, rank), 1 / hidden)
        self.to_out = uniform(keys[3], (rank, out), 1 / (3 * rank))
        self.tensor_bias = uniform(keys[4], (state_dim, out), 1 / (3 * hidden))
        self.bias = eqx.nn.Linear(in_dim, out, key=keys[5])

    def __call__(self, x: Float[Array, "... N D"], state: Float[Array, "... S"]) -> Float[Array, "... N Z"]:
        """Inputs of all agents, one state -> g of all agents."""
        h = jax.nn.relu(affine(self.hidden, x))
        pairs = (state @ self.of_state)[..., None, :] * (h @ self.of_hidden)
        mapped = pairs @ self.to_out + (state @ self.tensor_bias)[..., None, :]
        return jax.nn.elu(mapped + affine(self.bias, x))


class FeatureModulation(eqx.Module):
    """g_i = ELU(gamma(x_i) * Linear(s) + b(x_i)): each agent scales and shifts one reading of the state (FiLM, Perez et al. 2018).

    gamma(x) = 1 + Linear(h(x)), around 1 as in that paper, so that no feature begins switched off. It is the low-rank form with
    R = Z and C = 1.
    """

    hidden: eqx.nn.Linear
    gamma: eqx.nn.Linear
    read: eqx.nn.Linear
    bias: eqx.nn.Linear

    def __init__(self, in_dim: int, state_dim: int, hidden: int, out: int, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        self.hidden = eqx.nn.Linear(in_dim, hidden, key=keys[0])
        self.gamma = eqx.nn.Linear(hidden, out, key=keys[1])
        self.read = eqx.nn.Linear(state_dim, out, key=keys[2])
        self.bias = eqx.nn.Linear(in_dim, out, key=keys[3])

    def __call__(self, x: Float[Array, "... N D"], state: Float[Array, "... S"]) -> Float[Array, "... N Z"]:
        """Inputs of all agents, one state -> g of all agents."""
        gamma = 1 + affine(self.gamma, jax.nn.relu(affine(self.hidden, x)))
        return jax.nn.elu(gamma * affine(self.read, state)[..., None, :] + affine(self.bias, x))


# -- attention over what the state lists one by one ------------------------------------------------------------------------


def unit_groups(spec: EnvSpec) -> tuple[Slots, ...]:
    """The slots of the agents' own units and those of the others, as far as there are any."""
    return tuple(group for group in (spec.state_slots or (), spec.other_slots) if group)


def lists_units(spec: EnvSpec) -> bool:
    """Whether the state lists units one by one, those of a group in slots of one width."""
    groups = unit_groups(spec)
    return bool(groups) and all(len({stop - start for start, stop in group}) == 1 for group in groups)


class UnitEncoder(eqx.Module):
    """The units that a state lists -> a vector each: a linear layer per group, and a vector per slot that tells slots apart."""

    layers: tuple[eqx.nn.Linear, ...]
    """of each group; without bias, since the slots' own vectors are biases"""
    slots: Float[Array, "U E"]
    groups: tuple[Slots, ...] = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, out: int, reader: str, instead: str, key: PRNGKeyArray):
        """`reader` and `instead` are for the error: who wants to read units, and what would fit a world that lists none."""
        self.groups = unit_groups(spec)
        if not lists_units(spec):
            state = f"some groups in the state of {spec.name} mix widths" if self.groups else f"the state of {spec.name} has none"
            raise NotOffered(f"{reader} reads unit slots, and {state}", lists_units, instead)
        key_layers, key_slots = jax.random.split(key)
        widths = [group[0][1] - group[0][0] for group in self.groups]
        keys = jax.random.split(key_layers, len(widths))
        self.layers = tuple(eqx.nn.Linear(w, out, use_bias=False, key=k) for w, k in zip(widths, keys, strict=True))
        limit = max(widths) ** -0.5
        self.slots = jax.random.uniform(key_slots, (sum(map(len, self.groups)), out), minval=-limit, maxval=limit)

    def __call__(self, state: Float[Array, "... S"]) -> Float[Array, "... U E"]:
        """All units of a state, the agents' own first."""
        units = [affine(layer, slots_of(state, group)) for layer, group in zip(self.layers, self.groups, strict=True)]
        encoded = jnp.concatenate(units, axis=-2)
        return encoded + jnp.broadcast_to(self.slots, encoded.shape)


def attention(query: Float[Array, "... N heads K"], key: Float[Array, "... U heads K"]) -> Float[Array, "... heads N U"]:
    """Who looks at whom, softmax(q k / sqrt(K)): for every head and agent it sums to 1 over the units."""
    return jax.nn.softmax(jnp.einsum("...nhk,...uhk->...hnu", query, key) / query.shape[-1] ** 0.5, axis=-1)


def attend(
    query: Float[Array, "... N heads K"], key: Float[Array, "... U heads K"], value: Float[Array, "... U heads V"]
) -> Float[Array, "... N heads V"]:
    """What each agent gets to see, head by head."""
    return jnp.einsum("...hnu,...uhv->...nhv", attention(query, key), value)


def by_head(x: Float[Array, "... E"]) -> Float[Array, "... heads K"]:
    """The last axis split into equal parts, one per head."""
    return x.reshape(*x.shape[:-1], HEADS, -1)


class UnitAttention(eqx.Module):
    """g_i = ELU(Linear([sum_u a_iu v_u of every head]) + s' M + b(x_i)): each agent looks at the units that it asks for.

    The query comes from h(x_i), keys and values from the units (`UnitEncoder`, ReLU); s' is what the state holds besides them, such
    as last actions. There is no bias where the softmax or b(x) would make it idle.
    """

    hidden: eqx.nn.Linear
    query: eqx.nn.Linear
    units: UnitEncoder
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    out: eqx.nn.Linear
    rest: eqx.nn.Linear | None
    bias: eqx.nn.Linear
    besides: Slots = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, hidden: int, out: int, key: PRNGKeyArray):
        if hidden % HEADS:
            raise BadSetting(f"hidden is {hidden}; attention with {HEADS} heads needs a multiple of {HEADS}")
        keys = jax.random.split(key, 8)
        self.hidden = eqx.nn.Linear(local_dim(spec), hidden, key=keys[0])
        self.query = eqx.nn.Linear(hidden, hidden, key=keys[1])
        self.units = UnitEncoder(spec, hidden, "personaliser 'attention'", "use gip, lowrank or film", keys[2])
        self.key = eqx.nn.Linear(hidden, hidden, use_bias=False, key=keys[3])
        self.value = eqx.nn.Linear(hidden, hidden, use_bias=False, key=keys[4])
        self.out = eqx.nn.Linear(hidden, out, use_bias=False, key=keys[5])
        self.besides = _gaps(self.units.groups, spec.state_dim)
        width = sum(stop - start for start, stop in self.besides)
        self.rest = eqx.nn.Linear(width, out, use_bias=False, key=keys[6]) if width else None
        self.bias = eqx.nn.Linear(local_dim(spec), out, key=keys[7])

    def __call__(self, x: Float[Array, "... N D"], state: Float[Array, "... S"]) -> Float[Array, "... N Z"]:
        """Inputs of all agents, one state -> g of all agents."""
        units = jax.nn.relu(self.units(state))
        seen = attend(*self._asked(x, units), by_head(affine(self.value, units)))
        mapped = affine(self.out, seen.reshape(*seen.shape[:-2], -1)) + affine(self.bias, x)
        if self.rest is not None:
            besides = jnp.concatenate([state[..., start:stop] for start, stop in self.besides], axis=-1)
            mapped = mapped + affine(self.rest, besides)[..., None, :]
        return jax.nn.elu(mapped)

    def weights(self, x: Float[Array, "... N D"], state: Float[Array, "... S"]) -> Float[Array, "... heads N U"]:
        """Which agent looks at which unit, for every head."""
        return attention(*self._asked(x, jax.nn.relu(self.units(state))))

    def _asked(self, x: Array, units: Array) -> tuple[Array, Array]:
        """Queries of the agents and keys of the units, by head."""
        query = affine(self.query, jax.nn.relu(affine(self.hidden, x)))
        return by_head(query), by_head(affine(self.key, units))


def _gaps(groups: tuple[Slots, ...], size: int) -> Slots:
    """The stretches of a state of `size` numbers that belong to no slot."""
    gaps, end = [], 0
    for start, stop in [*sorted(slot for group in groups for slot in group), (size, size)]:
        gaps += [(end, start)] if start > end else []
        end = max(end, stop)
    return tuple(gaps)
