"""Agents: encode -> recurrent core -> head, written on the last axis; every axis before it passes through.

An agent splits its work into three verbs so that `unroll` can batch all that does not depend on the hidden state:

    encode(decisions, key) -> (drive, extra)      what the core is driven by, and what the head needs besides the hidden state
    step(drive, hidden)    -> hidden              the only sequential part
    head(hidden, extra)    -> q [..., A]

The hidden state is one vector per agent, all zeros at the first decision of an episode; `carry_dim` is its size.
"""

from abc import abstractmethod
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.types import Decision, EnvSpec


@runtime_checkable
class Agent(Protocol):
    """What `unroll` asks of an agent."""

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[Any, Any]: ...
    def step(self, drive: Any, hidden: Array) -> Array: ...
    def head(self, hidden: Array, extra: Any) -> Array: ...


@runtime_checkable
class Single(Protocol):
    """An agent that says how one of those who share it acts without the others."""

    @property
    def carry_dim(self) -> int: ...
    def encode_one(self, decisions: Decision, agent: int, key: PRNGKeyArray) -> tuple[Any, Any]: ...
    def step(self, drive: Any, hidden: Array) -> Array: ...
    def head(self, hidden: Array, extra: Any) -> Array: ...


def affine(layer: eqx.nn.Linear, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
    """The layer applied to the last axis: one matrix product whatever stands before it."""
    y = x @ layer.weight.T
    return y if layer.bias is None else add_bias(y, layer.bias)


def add_bias(y: Float[Array, "... o"], bias: Float[Array, "o"]) -> Float[Array, "... o"]:
    """y + bias, with all axes but the last taken as one: XLA sums the gradient of the bias over several axes by transposing first,
    which made a layer and its gradient take 1.7 times as long on a CPU.
    """
    flat = y.reshape(-1, y.shape[-1])
    return (flat + jnp.broadcast_to(bias, flat.shape)).reshape(y.shape)


def local_input(decisions: Decision, n_actions: int, sees: tuple[str, ...] = ("obs",)) -> Float[Array, "... N D"]:
    """x_i = [o_i, one-hot of the last action, one-hot of i]: all that one agent knows at one decision, and nothing else.

    `sees` names the fields of a decision that take the place of o_i, each with a row per agent.
    """
    last = jax.nn.one_hot(decisions.last_action, n_actions, dtype=jnp.float32)
    n = last.shape[-2]
    identity = jnp.broadcast_to(jnp.eye(n, dtype=jnp.float32), (*last.shape[:-1], n))
    fields = [getattr(decisions, name).astype(jnp.float32) for name in sees]
    return jnp.concatenate([*fields, last, identity], axis=-1)


def local_dim(spec: EnvSpec, sees: tuple[str, ...] = ("obs",)) -> int:
    """D, the size of `local_input`."""
    sizes = {"obs": spec.obs_dim, "full_obs": spec.obs_dim, "avail_actions": spec.n_actions}
    return sum(sizes[name] for name in sees) + spec.n_actions + spec.n_agents


class GRUDrive(NamedTuple):
    """What a GRU's gates get from its input: the part that does not depend on the hidden state.

    Three arrays, not one: XLA on a CPU computes what a scan cuts out of one array along its last axis number by number, with which
    QMIX's loss took 2.2 times as long.
    """

    r: Float[Array, "... H"]
    """reset"""
    z: Float[Array, "... H"]
    """update"""
    n: Float[Array, "... H"]
    """candidate"""

    @classmethod
    def cut(cls, x: Float[Array, "... G"]) -> "GRUDrive":
        """Of all three side by side; G is 3H."""
        return cls(*jnp.split(x, 3, axis=-1))


def gru_drive(core: eqx.nn.GRUCell, x: Float[Array, "... i"]) -> GRUDrive:
    """What drives a GRU that reads x."""
    assert core.bias is not None
    return GRUDrive.cut(add_bias(x @ core.weight_ih.T, core.bias))


def gru_step(core: eqx.nn.GRUCell, drive: GRUDrive, hidden: Float[Array, "... H"]) -> Float[Array, "... H"]:
    """The rest of the GRU; together the same numbers as `core(x, hidden)`."""
    assert core.bias_n is not None
    return gru_mix(drive, hidden @ core.weight_hh.T, core.bias_n, hidden)[0]


def gru_mix(
    drive: GRUDrive, across: Float[Array, "... G"], bias_n: Float[Array, "H"], hidden: Float[Array, "... H"]
) -> tuple[Float[Array, "... H"], tuple[Array, ...]]:
    """(new hidden state, what its gradient needs: the gates r and z, the candidate n, and what r let through).

    `across` is the recurrent weight's product with the hidden state; G is 3H.
    """
    r_h, z_h, n_h = jnp.split(across, 3, axis=-1)
    r = jax.nn.sigmoid(drive.r + r_h)
    z = jax.nn.sigmoid(drive.z + z_h)
    inner = add_bias(n_h, bias_n)
    n = jnp.tanh(drive.n + r * inner)
    return n + z * (hidden - n), (r, z, n, inner)


class Recurrent(eqx.Module):
    """Linear-ReLU-GRU-Linear on what a subclass reads of a decision."""

    encoder: eqx.nn.Linear
    core: eqx.nn.GRUCell
    out: eqx.nn.Linear

    def __init__(self, in_dim: int, hidden: int, out_dim: int, key: PRNGKeyArray):
        key_encoder, key_core, key_out = jax.random.split(key, 3)
        self.encoder = eqx.nn.Linear(in_dim, hidden, key=key_encoder)
        self.core = eqx.nn.GRUCell(hidden, hidden, key=key_core)
        self.out = eqx.nn.Linear(hidden, out_dim, key=key_out)

    @property
    def carry_dim(self) -> int:
        """H, the size of the recurrent state."""
        return self.core.hidden_size

    @abstractmethod
    def read(self, decisions: Decision) -> Array:
        """Decisions -> x [..., N, D]."""

    def drive(self, x: Array) -> GRUDrive:
        """x [..., D] -> drive [..., H], all that comes before the hidden state."""
        return gru_drive(self.core, jax.nn.relu(affine(self.encoder, x)))

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[GRUDrive, None]:
        """Decisions -> drive [..., N, H]. The key is not used."""
        return self.drive(self.read(decisions)), None

    def encode_one(self, decisions: Decision, agent: int, key: PRNGKeyArray) -> tuple[GRUDrive, None]:
        """The drive of one agent alone, [..., 1, H]."""
        return self.drive(self.read(decisions)[..., agent : agent + 1, :]), None

    def step(self, drive: GRUDrive, hidden: Array) -> Array:
        """One step of the core."""
        return gru_step(self.core, drive, hidden)

    def head(self, hidden: Array, extra: None) -> Array:
        """Hidden [..., N, H] -> what it puts out, [..., N, outputs]."""
        return affine(self.out, hidden)


class RecurrentAgent(Recurrent):
    """PyMARL's agent: Linear-ReLU-GRU-Linear on the local input, to values or logits of A actions."""

    sees: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, hidden: int, key: PRNGKeyArray, sees: tuple[str, ...] = ("obs",)):
        """`sees`: the fields of a decision that it looks at, see `local_input`."""
        self.sees = sees
        super().__init__(local_dim(spec, sees), hidden, spec.n_actions, key)

    def read(self, decisions: Decision) -> Array:
        """Decisions [..., N, O] -> x [..., N, D]."""
        return local_input(decisions, self.out.weight.shape[0], self.sees)
