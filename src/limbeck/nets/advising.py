"""CADP's agents, which advise each other while they learn and each itself afterwards (Zhou et al., arXiv 2305.17352).

    v_i = V x_i                                        what agent i has to say
    A   = softmax over j of (Q x_i) (K x_j) / sqrt(d)  whom agent i listens to, for each of 4 heads
    together: a_i = sum_j A_ij v_j                     alone: a_i = v_i, which is what A = identity gives
    Q_i = MLP(ReLU(Linear([h_i, ReLU(Linear(a_i))])))  h_i from a GRU on x_i, as in PyMARL

`LoneAgent` is a part of `AdvisedAgent`, with the very same weights: pruning A towards the identity makes the two one.
As in the authors' code: queries, keys and values read the raw x_i, without bias. Our resolution: nobody listens to the dead.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from limbeck.nets.agents import GRUDrive, affine, gru_drive, gru_step, local_dim, local_input
from limbeck.nets.fusion import HEADS, by_head
from limbeck.types import Decision, EnvSpec

Seen = tuple[GRUDrive, Array]
"""what the core is driven by, and the advice"""


class LoneAgent(eqx.Module):
    """The student: it takes its own value vector for advice."""

    encoder: eqx.nn.Linear
    core: eqx.nn.GRUCell
    value: eqx.nn.Linear
    advice: eqx.nn.Linear
    join: eqx.nn.Linear
    middle: eqx.nn.Linear
    out: eqx.nn.Linear

    def __init__(self, spec: EnvSpec, hidden: int, head_width: int, key: PRNGKeyArray):
        keys = jax.random.split(key, 7)
        self.encoder = eqx.nn.Linear(local_dim(spec), hidden, key=keys[0])
        self.core = eqx.nn.GRUCell(hidden, hidden, key=keys[1])
        self.value = eqx.nn.Linear(local_dim(spec), HEADS * head_width, use_bias=False, key=keys[2])
        self.advice = eqx.nn.Linear(HEADS * head_width, hidden, key=keys[3])
        self.join = eqx.nn.Linear(2 * hidden, hidden, key=keys[4])
        self.middle = eqx.nn.Linear(hidden, hidden, key=keys[5])
        self.out = eqx.nn.Linear(hidden, spec.n_actions, key=keys[6])

    @property
    def carry_dim(self) -> int:
        """H, the size of the recurrent state."""
        return self.core.hidden_size

    @property
    def n_actions(self) -> int:
        """A."""
        return self.out.weight.shape[0]

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> Seen:
        """Decisions -> (drive [..., N, H], own values [..., N, V]). The key is not used."""
        x = local_input(decisions, self.n_actions)
        return self.drive(x), affine(self.value, x)

    def drive(self, x: Float[Array, "... N D"]) -> GRUDrive:
        """What does not depend on the hidden state."""
        return gru_drive(self.core, jax.nn.relu(affine(self.encoder, x)))

    def step(self, drive: GRUDrive, hidden: Array) -> Array:
        """One step of the core."""
        return gru_step(self.core, drive, hidden)

    def head(self, hidden: Float[Array, "... N H"], extra: Float[Array, "... N V"]) -> Float[Array, "... N A"]:
        """Hidden and advice -> q."""
        both = jnp.concatenate([hidden, jax.nn.relu(affine(self.advice, extra))], axis=-1)
        joined = jax.nn.relu(affine(self.join, both))
        return affine(self.out, jax.nn.relu(affine(self.middle, joined)))


class AdvisedAgent(eqx.Module):
    """The teacher: it listens to all, itself included."""

    alone: LoneAgent
    query: eqx.nn.Linear
    key: eqx.nn.Linear

    def __init__(self, spec: EnvSpec, hidden: int, head_width: int, key: PRNGKeyArray):
        key_alone, key_query, key_key = jax.random.split(key, 3)
        self.alone = LoneAgent(spec, hidden, head_width, key_alone)
        self.query = eqx.nn.Linear(local_dim(spec), HEADS * head_width, use_bias=False, key=key_query)
        self.key = eqx.nn.Linear(local_dim(spec), HEADS * head_width, use_bias=False, key=key_key)

    @property
    def carry_dim(self) -> int:
        """H, the size of the recurrent state."""
        return self.alone.carry_dim

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> Seen:
        """Decisions -> (drive [..., N, H], what each hears [..., N, V]). The key is not used."""
        x = local_input(decisions, self.alone.n_actions)
        weights = self._weights(x, decisions.alive)
        heard = jnp.einsum("...hij,...jhv->...ihv", weights, by_head(affine(self.alone.value, x)))
        return self.alone.drive(x), heard.reshape(*x.shape[:-1], -1)

    def attention(self, decisions: Decision) -> Float[Array, "... heads N N"]:
        """Who listens to whom: for every head a row per listener, which sums to 1."""
        return self._weights(local_input(decisions, self.alone.n_actions), decisions.alive)

    def step(self, drive: GRUDrive, hidden: Array) -> Array:
        """One step of the core."""
        return self.alone.step(drive, hidden)

    def head(self, hidden: Array, extra: Array) -> Array:
        """Hidden and advice -> q."""
        return self.alone.head(hidden, extra)

    def _weights(self, x: Float[Array, "... N D"], alive: Bool[Array, "... N"]) -> Float[Array, "... heads N N"]:
        query, key = by_head(affine(self.query, x)), by_head(affine(self.key, x))
        match = jnp.einsum("...ihk,...jhk->...hij", query, key) / query.shape[-1] ** 0.5
        oneself = jnp.broadcast_to(jnp.eye(x.shape[-2], dtype=bool), (*x.shape[:-1], x.shape[-2]))
        audible = alive[..., None, :] | oneself  # oneself at any rate, so that a row of the dead is a distribution, too
        return jax.nn.softmax(jnp.where(audible[..., None, :, :], match, -jnp.inf), axis=-1)
