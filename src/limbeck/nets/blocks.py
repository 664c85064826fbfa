"""DDN's blocks, which make something of the state or of an agent's own input, and the agent that reads them (Zhou et al. 2025)."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from limbeck.nets.agents import GRUDrive, add_bias, affine, gru_drive, gru_step, local_input
from limbeck.nets.bilinear import bilinear
from limbeck.nets.products import check_products
from limbeck.types import Decision, EnvSpec


class ObservationHypernetwork(eqx.Module):
    """o'_i = x_i W'(x_i) + B'(x_i): the independent observation block, built like the fusion block, with x_i in place of the state.

    x W'(x) is bilinear in x and the hypernetwork's hidden units h(x): sum_dh x_d h_h T[d,h,z] + sum_d x_d M[d,z].
    """

    hidden: eqx.nn.Linear
    tensor: Float[Array, "D H Z"]
    tensor_bias: Float[Array, "D Z"]
    bias: eqx.nn.Linear
    products: str = eqx.field(static=True)

    def __init__(self, in_dim: int, hidden: int, out: int, key: PRNGKeyArray, products: str = "float32"):
        """`products`: see `bilinear`."""
        self.products = check_products(products)
        key_hidden, key_tensor, key_tensor_bias, key_bias = jax.random.split(key, 4)
        limit = hidden**-0.5  # as in a Linear layer with `hidden` inputs, which this tensor is
        self.hidden = eqx.nn.Linear(in_dim, hidden, key=key_hidden)
        self.tensor = jax.random.uniform(key_tensor, (in_dim, hidden, out), minval=-limit, maxval=limit)
        self.tensor_bias = jax.random.uniform(key_tensor_bias, (in_dim, out), minval=-limit, maxval=limit)
        self.bias = eqx.nn.Linear(in_dim, out, key=key_bias)

    def __call__(
        self, x: Float[Array, "... D"], state: Any = None, alive: Bool[Array, "..."] | None = None
    ) -> Float[Array, "... Z"]:
        """Inputs of all agents -> what each makes of its own; not all of it for the dead. The state is not read."""
        h = jax.nn.relu(affine(self.hidden, x))
        mapped = bilinear(self.tensor, x, h[..., None, :], alive, self.products)[..., 0, :]
        return mapped + x @ self.tensor_bias + affine(self.bias, x)

    def built(self, x: Float[Array, "D"]) -> Float[Array, "Z"]:
        """The same for one agent, with its weight matrix built, as the paper writes it: the reference for tests."""
        weight = jnp.einsum("h,dhz->dz", jax.nn.relu(affine(self.hidden, x)), self.tensor) + self.tensor_bias
        return x @ weight + affine(self.bias, x)


class RawState(eqx.Module):
    """DDN's ablation: one linear map of the state and x_i, the same for all agents; nothing is personalised."""

    read: eqx.nn.Linear

    def __init__(self, in_dim: int, state_dim: int, out: int, key: PRNGKeyArray):
        self.read = eqx.nn.Linear(state_dim + in_dim, out, key=key)

    def __call__(self, x: Float[Array, "... N D"], state: Float[Array, "... S"], alive: Any = None) -> Float[Array, "... N Z"]:
        """Inputs of all agents, one state -> what each goes on with. Who is alive is not asked."""
        of_state, of_x = self.read.weight[:, : state.shape[-1]], self.read.weight[:, state.shape[-1] :]
        assert self.read.bias is not None
        return add_bias((state @ of_state.T)[..., None, :] + x @ of_x.T, self.read.bias)


@runtime_checkable
class Block(Protocol):
    """(x, state, who is alive) -> what an agent goes on with. What the dead go on with is only looked at by a mixer."""

    def __call__(
        self, x: Float[Array, "... N D"], state: Float[Array, "... S"], alive: Bool[Array, "... N"]
    ) -> Float[Array, "... N Z"]: ...


class Features(NamedTuple):
    """What is matched of the way from an agent's input to its values."""

    block: Float[Array, "... N Z"]
    first: Float[Array, "... N H"]
    """F, of the layer after the block"""


class BlockAgent(eqx.Module):
    """A block, then PyMARL's agent: F = ReLU(Linear(block)), a GRU on F, Linear. Teacher and student differ in the block alone."""

    block: Block
    encoder: eqx.nn.Linear
    core: eqx.nn.GRUCell
    out: eqx.nn.Linear

    def __init__(self, spec: EnvSpec, block: Block, width: int, hidden: int, key: PRNGKeyArray):
        """`width` is what the block puts out."""
        keys = jax.random.split(key, 3)
        self.block = block
        self.encoder = eqx.nn.Linear(width, hidden, key=keys[0])
        self.core = eqx.nn.GRUCell(hidden, hidden, key=keys[1])
        self.out = eqx.nn.Linear(hidden, spec.n_actions, key=keys[2])

    @property
    def carry_dim(self) -> int:
        """H, the size of the recurrent state."""
        return self.core.hidden_size

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[GRUDrive, Features]:
        """Decisions -> (drive, features, which only a student looks at). The key is not used."""
        block = self.block(local_input(decisions, self.out.weight.shape[0]), decisions.state, decisions.alive)
        first = jax.nn.relu(affine(self.encoder, block))
        return gru_drive(self.core, first), Features(block, first)

    def step(self, drive: GRUDrive, hidden: Array) -> Array:
        """One step of the core."""
        return gru_step(self.core, drive, hidden)

    def head(self, hidden: Array, extra: Features) -> Array:
        """Hidden [..., N, H] -> q [..., N, A]."""
        return affine(self.out, hidden)
