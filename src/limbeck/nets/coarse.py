"""Recurrent networks as they look while they are learned from many decisions at once, in products of bfloat16.

The weights, the gradients and all sums stay float32, and so does whoever acts: these are views of a network for `unroll` alone.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from limbeck.errors import BadSetting
from limbeck.nets.agents import GRUDrive, Recurrent, add_bias, gru_mix
from limbeck.nets.products import check_products, coarse_product, coarsely, of_weight, rounded, turned
from limbeck.nets.teams import Team
from limbeck.nets.unroll import reset
from limbeck.types import Decision


def multiplied_in(products: str, net: Any) -> Any:
    """The same network, or team of networks, as `unroll` is to multiply it.

    Raises:
        UnknownName: there are no such numbers.
        BadSetting: the network is of another build.
    """
    if check_products(products) == "float32":
        return net
    if isinstance(net, Team):
        return Team(tuple(multiplied_in(products, each) for each in net.nets), net.places)
    if not isinstance(net, Recurrent):
        raise BadSetting(f"products are {products}, which only networks of Linear-ReLU-GRU-Linear know: leave them at float32")
    return Coarse(net)


class Coarse(eqx.Module):
    """Linear-ReLU-GRU-Linear, many decisions at once."""

    net: Recurrent

    @property
    def carry_dim(self) -> int:
        """H, the size of the recurrent state."""
        return self.net.carry_dim

    def read(self, decisions: Decision) -> Array:
        """Decisions -> x [..., N, D]."""
        return self.net.read(decisions)

    def drive(self, x: Array) -> GRUDrive:
        """x [..., D] -> drive [..., H]."""
        net = self.net
        assert net.encoder.bias is not None and net.core.bias is not None
        first = jax.nn.relu(add_bias(coarse_product(x, net.encoder.weight), net.encoder.bias))
        return GRUDrive.cut(add_bias(coarse_product(first, net.core.weight_ih), net.core.bias))

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[GRUDrive, None]:
        """Decisions -> drive [..., N, H]. The key is not used."""
        return self.drive(self.read(decisions)), None

    def step(self, drive: GRUDrive, hidden: Array) -> Array:
        """One step of the core, as it acts."""
        return self.net.step(drive, hidden)

    def walk(self, drive: GRUDrive, hidden: Array, is_first: Array) -> Array:
        """All steps in a row, see `gru_walk`."""
        assert self.net.core.bias_n is not None
        return gru_walk(self.net.core.weight_hh, self.net.core.bias_n, drive, hidden, is_first)

    def head(self, hidden: Array, extra: None) -> Array:
        """Hidden [..., N, H] -> what it puts out, [..., N, outputs]."""
        assert self.net.out.bias is not None
        return add_bias(coarse_product(hidden, self.net.out.weight), self.net.out.bias)


# -- the recurrent core ----------------------------------------------------------------------------------------------------


@jax.custom_vjp
def gru_walk(
    weight: Float[Array, "G H"],
    bias_n: Float[Array, "H"],
    drive: GRUDrive,
    hidden: Float[Array, "B N H"],
    is_first: Bool[Array, "L B"],
) -> Float[Array, "L B N H"]:
    """The hidden states after each of L steps of a GRU, driven by [L, B, N, H], from the one before the first; G is 3H.

    The gradient of the recurrent weight is one product over all steps, where a plain scan would add one up at every step.
    """
    return _forward(weight, bias_n, drive, hidden, is_first)[0]


def _forward(weight: Array, bias_n: Array, drive: GRUDrive, hidden: Array, is_first: Array) -> tuple[Array, tuple]:
    across = turned(weight)

    def step(hidden: Array, at: tuple[GRUDrive, Array]) -> tuple[Array, tuple]:
        drive, is_first = at
        before = reset(hidden, is_first)
        hidden, gates = gru_mix(drive, coarsely(before, across), bias_n, before)
        return hidden, (hidden, *gates)

    _, (hiddens, *gates) = jax.lax.scan(step, hidden, (drive, is_first))
    return hiddens, (weight, is_first, hidden, hiddens, *gates)


def _backward(kept: tuple, g: Float[Array, "L B N H"]) -> tuple[Array, Array, GRUDrive, Array, None]:
    weight, is_first, start, hiddens, r, z, n, inner = kept
    across = rounded(weight)
    before = jax.vmap(reset)(jnp.concatenate([start[None], hiddens[:-1]]), is_first)

    def back(later: Array, at: tuple) -> tuple[Array, tuple[GRUDrive, Array]]:
        g, is_first, before, r, z, n, inner = at
        to_hidden = g + later
        to_n = to_hidden * (1.0 - z) * (1.0 - n * n)
        to_z = to_hidden * (before - n) * z * (1.0 - z)
        to_r = to_n * inner * r * (1.0 - r)
        through = jnp.concatenate([to_r, to_z, to_n * r], axis=-1)
        earlier = reset(to_hidden * z + coarsely(through, across), is_first)
        return earlier, (GRUDrive(to_r, to_z, to_n), through)

    steps = (g, is_first, before, r, z, n, inner)
    to_start, (to_drive, through) = jax.lax.scan(back, jnp.zeros_like(start), steps, reverse=True)
    to_bias = (to_drive.n * r).reshape(-1, r.shape[-1]).sum(0)
    return of_weight(through, before), to_bias, to_drive, to_start, None


gru_walk.defvjp(_forward, _backward)
