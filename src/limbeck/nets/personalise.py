"""Latents that carry global information to one agent, and the agent whose head reads them (Chen et al., PTDE, IJCAI 2024).

Every latent module has the same verb, `moments(x, state) -> (mean, variance)`, [..., N, Z]: a teacher's reads the state, a
student's ignores it. The agent does not know which of them it holds; that is all the difference between a teacher and its student.
"""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.nets.agents import affine, gru_drive, gru_step, local_dim, local_input
from limbeck.types import Decision, EnvSpec

Moments = tuple[Float[Array, "... N Z"], Float[Array, "... N Z"] | None]


@runtime_checkable
class Latent(Protocol):
    """What `PersonalisedAgent` asks of a latent module. A variance of None means: no noise."""

    def moments(self, x: Float[Array, "... N D"], state: Float[Array, "... S"]) -> Moments: ...


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

    def __init__(self, in_dim: int, state_dim: int, hidden: int, out: int, key: PRNGKeyArray):
        key_hidden, key_tensor, key_tensor_bias, key_bias = jax.random.split(key, 4)
        limit = hidden**-0.5  # as in a Linear layer with `hidden` inputs, which this tensor is
        self.hidden = eqx.nn.Linear(in_dim, hidden, key=key_hidden)
        self.tensor = jax.random.uniform(key_tensor, (state_dim, hidden, out), minval=-limit, maxval=limit)
        self.tensor_bias = jax.random.uniform(key_tensor_bias, (state_dim, out), minval=-limit, maxval=limit)
        self.bias = eqx.nn.Linear(in_dim, out, key=key_bias)

    def __call__(self, x: Float[Array, "... N D"], state: Float[Array, "... S"]) -> Float[Array, "... N Z"]:
        """Inputs of all agents, one state -> g of all agents."""
        h = jax.nn.relu(affine(self.hidden, x))
        mapped = _contract(self.tensor, state, h) + (state @ self.tensor_bias)[..., None, :]
        return jax.nn.elu(mapped + affine(self.bias, x))

    def built(self, x: Float[Array, "D"], state: Float[Array, "S"]) -> Float[Array, "Z"]:
        """The same for one agent, with its weight matrix built, as the paper writes it: the reference for tests."""
        h = jax.nn.relu(affine(self.hidden, x))
        weight = jnp.einsum("h,shz->sz", h, self.tensor) + self.tensor_bias
        return jax.nn.elu(state @ weight + affine(self.bias, x))


@jax.checkpoint
def _contract(tensor: Float[Array, "S H Z"], state: Float[Array, "... S"], h: Float[Array, "... N H"]) -> Float[Array, "... N Z"]:
    """The state first, then each agent's h. Recomputed in the backward pass: keeping [H, Z] numbers per decision costs more."""
    shared = (state @ tensor.reshape(tensor.shape[0], -1)).reshape(*state.shape[:-1], *tensor.shape[1:])
    return h @ shared


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
    """GIP, global information personalisation: the state through each agent's own hypernetwork."""

    personalise: StateHypernetwork
    gaussian: Gaussian

    def __init__(self, spec: EnvSpec, hidden: int, out: int, var_floor: float, key: PRNGKeyArray):
        key_hyper, key_heads = jax.random.split(key)
        self.personalise = StateHypernetwork(local_dim(spec), spec.state_dim, hidden, out, key_hyper)
        self.gaussian = Gaussian(out, out, var_floor, key_heads)

    def moments(self, x: Array, state: Array) -> Moments:
        """[..., N, D], [..., S] -> mean and variance of z_i."""
        return self.gaussian(self.personalise(x, state))


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

    def __init__(self, spec: EnvSpec, hidden: int, latent_dim: int, latent: Latent, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        self.encoder = eqx.nn.Linear(local_dim(spec), hidden, key=keys[0])
        self.core = eqx.nn.GRUCell(hidden, hidden, key=keys[1])
        self.squeeze = eqx.nn.Linear(hidden, hidden, key=keys[2])
        self.out = eqx.nn.Linear(hidden + latent_dim, spec.n_actions, key=keys[3])
        self.latent = latent

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[Array, Array]:
        """Decisions -> (drive, sampled z [..., N, Z])."""
        x = local_input(decisions, self.out.weight.shape[0])
        mean, var = self.latent.moments(x, decisions.state)
        z = mean if var is None else mean + jnp.sqrt(var) * jax.random.normal(key, mean.shape)
        return gru_drive(self.core, jax.nn.relu(affine(self.encoder, x))), z

    def step(self, drive: Array, hidden: Array) -> Array:
        """One step of the core."""
        return gru_step(self.core, drive, hidden)

    def head(self, hidden: Array, extra: Array) -> Array:
        """Hidden [..., N, H] and z -> q [..., N, A]."""
        return affine(self.out, jnp.concatenate([jax.nn.relu(affine(self.squeeze, hidden)), extra], axis=-1))
