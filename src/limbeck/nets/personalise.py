"""Latents that carry global information to one agent, and the agent whose head reads them (Chen et al., PTDE, IJCAI 2024).

Every latent module has the same verb, `moments(x, state) -> (mean, variance)`, [..., N, Z]: a teacher's reads the state, a
student's ignores it. The agent does not know which of them it holds; that is all the difference between a teacher and its student.
How a teacher's latent makes the state an agent's own is up to a network of `nets/fusion.py`.
"""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.errors import NotOffered
from limbeck.nets.agents import GRUDrive, affine, gru_drive, gru_step, local_dim, local_input
from limbeck.nets.fusion import HEADS, Fusion, UnitEncoder, attend, by_head, lists_units
from limbeck.types import Decision, EnvSpec

Moments = tuple[Float[Array, "... N Z"], Float[Array, "... N Z"] | None]


@runtime_checkable
class Latent(Protocol):
    """What `PersonalisedAgent` asks of a latent module. A variance of None means: no noise."""

    def moments(self, x: Float[Array, "... N D"], state: Float[Array, "... S"]) -> Moments: ...


class Head(eqx.Module):
    """Linear-LeakyReLU-Linear."""

    first: eqx.nn.Linear
    second: eqx.nn.Linear

    def __init__(self, in_dim: int, hidden: int, out: int, key: PRNGKeyArray):
        key_first, key_second = jax.random.split(key)
        self.first = eqx.nn.Linear(in_dim, hidden, key=key_first)
        self.second = eqx.nn.Linear(hidden, out, key=key_second)

    def __call__(self, x: Array) -> Array:
        return affine(self.second, jax.nn.leaky_relu(affine(self.first, x), 0.01))


class Gaussian(eqx.Module):
    """Mean and variance heads on g; v is a log-variance with a floor: var = max(exp(v), floor)."""

    mean: Head
    log_var: Head
    var_floor: float = eqx.field(static=True)

    def __init__(self, in_dim: int, out: int, var_floor: float, key: PRNGKeyArray):
        key_mean, key_var = jax.random.split(key)
        self.mean = Head(in_dim, out, out, key_mean)
        self.log_var = Head(in_dim, out, out, key_var)
        self.var_floor = var_floor

    def __call__(self, g: Array) -> tuple[Array, Array]:
        return self.mean(g), jnp.maximum(jnp.exp(self.log_var(g)), self.var_floor)


class PersonalisedLatent(eqx.Module):
    """GIP, global information personalisation: a Gaussian around what the agent made of the state."""

    personalise: Fusion
    gaussian: Gaussian

    def __init__(self, personalise: Fusion, out: int, var_floor: float, key: PRNGKeyArray):
        """`personalise` gives g of size `out`, which is Z as well."""
        self.personalise = personalise
        self.gaussian = Gaussian(out, out, var_floor, key)

    def moments(self, x: Array, state: Array) -> Moments:
        """[..., N, D], [..., S] -> mean and variance of z_i."""
        return self.gaussian(self.personalise(x, state))


class DirectLatent(eqx.Module):
    """CSRL's guidance, as PTDE's code has it: z_i = g_i, no distribution around it (Chen et al., IJCNN 2022)."""

    personalise: Fusion

    def moments(self, x: Array, state: Array) -> Moments:
        """[..., N, D], [..., S] -> z_i."""
        return self.personalise(x, state), None


class UnifiedLatent(eqx.Module):
    """GIU, global information unified: one linear map of the state, the same for all agents (PTDE's ablation)."""

    unify: eqx.nn.Linear
    gaussian: Gaussian

    def __init__(self, spec: EnvSpec, out: int, var_floor: float, key: PRNGKeyArray):
        key_map, key_heads = jax.random.split(key)
        self.unify = eqx.nn.Linear(spec.state_dim, out, key=key_map)
        self.gaussian = Gaussian(out, out, var_floor, key_heads)

    def moments(self, x: Array, state: Array) -> Moments:
        """[..., N, D], [..., S] -> mean and variance of z, equal for all agents."""
        mean, var = self.gaussian(affine(self.unify, state))
        shape = (*x.shape[:-1], mean.shape[-1])
        return jnp.broadcast_to(mean[..., None, :], shape), jnp.broadcast_to(var[..., None, :], shape)


class CoachLatent(eqx.Module):
    """COPA's coach: attention among all units, from which each agent's own row becomes z_i (Liu et al., ICML 2021).

    z_i ~ N(mu, exp(v)), v kept within [-10, 0]. It sees all units that the state lists but nothing else, not even x_i. As in the
    authors' code: LeakyReLU and Linear between encoders and attention; heads as wide as the vectors, and averaged; only agents ask.
    Ours: slots have vectors of their own (the code has none), and weights begin as those of Linear layers (there: standard normal).
    """

    units: UnitEncoder
    mix: eqx.nn.Linear
    query: eqx.nn.Linear
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    mean: eqx.nn.Linear
    log_var: eqx.nn.Linear
    n_agents: int = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, width: int, key: PRNGKeyArray):
        """`width` is that of all layers and of z."""
        if not spec.state_slots:
            need = f"COPA's coach reads the agents' units, and the state of {spec.name} does not list them"
            raise NotOffered(need, lambda other: bool(other.state_slots) and lists_units(other), "a unified latent reads any state")
        keys = jax.random.split(key, 7)
        self.units = UnitEncoder(spec, width, "COPA's coach", "a unified latent reads any state", keys[0])
        self.mix = eqx.nn.Linear(width, width, key=keys[1])
        self.query, self.key, self.value = (eqx.nn.Linear(width, HEADS * width, use_bias=False, key=k) for k in keys[2:5])
        self.mean = eqx.nn.Linear(width, width, key=keys[5])
        self.log_var = eqx.nn.Linear(width, width, key=keys[6])
        self.n_agents = spec.n_agents

    def moments(self, x: Array, state: Array) -> Moments:
        """[..., N, D], [..., S] -> mean and variance of z_i. Of x, nothing is read."""
        units = affine(self.mix, jax.nn.leaky_relu(self.units(state), 0.01))
        query = affine(self.query, units[..., : self.n_agents, :])
        key, value = affine(self.key, units), affine(self.value, units)
        seen = attend(by_head(query), by_head(key), by_head(value)).mean(-2)
        return affine(self.mean, seen), jnp.exp(jnp.clip(affine(self.log_var, seen), -10.0, 0.0))


class LocalLatent(eqx.Module):
    """The student's z'_i from x_i alone: Linear-ReLU, then Linear-LeakyReLU-Linear."""

    first: eqx.nn.Linear
    rest: Head

    def __init__(self, spec: EnvSpec, hidden: int, out: int, key: PRNGKeyArray):
        key_first, key_rest = jax.random.split(key)
        self.first = eqx.nn.Linear(local_dim(spec), hidden, key=key_first)
        self.rest = Head(hidden, hidden, out, key_rest)

    def moments(self, x: Array, state: Array | None) -> Moments:
        """[..., N, D] -> z'_i. The state is not read and may be missing."""
        return self.rest(jax.nn.relu(affine(self.first, x))), None


class PersonalisedAgent(eqx.Module):
    """PyMARL's recurrent agent with a latent beside the hidden state: Q_i = Linear([ReLU(Linear(h_i)), z_i])."""

    encoder: eqx.nn.Linear
    core: eqx.nn.GRUCell
    squeeze: eqx.nn.Linear
    out: eqx.nn.Linear
    latent: Latent
    sampled: bool = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, hidden: int, latent_dim: int, latent: Latent, key: PRNGKeyArray, sampled: bool = True):
        """`sampled`: z_i is drawn; no: it is its mean, and the agent says the same again when asked again."""
        keys = jax.random.split(key, 4)
        self.sampled = sampled
        self.encoder = eqx.nn.Linear(local_dim(spec), hidden, key=keys[0])
        self.core = eqx.nn.GRUCell(hidden, hidden, key=keys[1])
        self.squeeze = eqx.nn.Linear(hidden, hidden, key=keys[2])
        self.out = eqx.nn.Linear(hidden + latent_dim, spec.n_actions, key=keys[3])
        self.latent = latent

    @property
    def carry_dim(self) -> int:
        """H, the size of the recurrent state."""
        return self.core.hidden_size

    @property
    def latent_dim(self) -> int:
        """Z, the size of the latent."""
        return self.out.weight.shape[1] - self.squeeze.weight.shape[0]

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[GRUDrive, Array]:
        """Decisions -> (drive, z [..., N, Z])."""
        return self.personalised(self.read(decisions), decisions.state, key)

    def encode_one(self, decisions: Decision, agent: int, key: PRNGKeyArray) -> tuple[GRUDrive, Array]:
        """Decisions -> (drive, z) of one agent, [..., 1, *], without the others': what it costs to act alone."""
        return self.personalised(self.read(decisions)[..., agent : agent + 1, :], decisions.state, key)

    def read(self, decisions: Decision) -> Array:
        """Decisions -> x [..., N, D]."""
        return local_input(decisions, self.out.weight.shape[0])

    def personalised(self, x: Float[Array, "... N D"], state: Any, key: PRNGKeyArray) -> tuple[GRUDrive, Array]:
        """Inputs of some agents, or all -> (drive, z) of these."""
        mean, var = self.latent.moments(x, state)
        z = mean if var is None or not self.sampled else mean + jnp.sqrt(var) * jax.random.normal(key, mean.shape)
        return gru_drive(self.core, jax.nn.relu(affine(self.encoder, x))), z

    def step(self, drive: GRUDrive, hidden: Array) -> Array:
        """One step of the core."""
        return gru_step(self.core, drive, hidden)

    def head(self, hidden: Array, extra: Array) -> Array:
        """Hidden [..., N, H] and z -> q [..., N, A]."""
        return affine(self.out, jnp.concatenate([jax.nn.relu(affine(self.squeeze, hidden)), extra], axis=-1))
