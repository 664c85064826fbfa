"""Critics of a policy: what is expected to come, for the team or for each agent, and the scale on which values are learned."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.nets.agents import Recurrent, local_dim, local_input
from limbeck.types import Decision, EnvSpec

LEAST_VARIANCE = 1e-2
"""so that values that are all alike are not blown up"""


class StateCritic(Recurrent):
    """One value for the team, from the global state. Where agents would stand there is one: [..., 1, 1]."""

    def __init__(self, spec: EnvSpec, hidden: int, key: PRNGKeyArray):
        super().__init__(spec.state_dim, hidden, 1, key)

    def read(self, decisions: Decision) -> Array:
        """Decisions -> the state [..., 1, S]."""
        return decisions.state.astype(jnp.float32)[..., None, :]


class LocalCritic(Recurrent):
    """A value for each agent, from what that agent sees: [..., N, 1]."""

    n_actions: int = eqx.field(static=True)

    def __init__(self, spec: EnvSpec, hidden: int, key: PRNGKeyArray):
        self.n_actions = spec.n_actions
        super().__init__(local_dim(spec), hidden, 1, key)

    def read(self, decisions: Decision) -> Array:
        """Decisions -> the local input [..., N, D]."""
        return local_input(decisions, self.n_actions)


class ValueNorm(NamedTuple):
    """Moving averages of returns and their squares: critics learn values of mean 0 and variance 1 (van Hasselt et al. 2016).

    Averages begin at zero; dividing by `weight`, the average of 1, takes that beginning out of them. Before the first return, mean
    and variance are 0 and 1.
    """

    mean: Float[Array, ""]
    square: Float[Array, ""]
    weight: Float[Array, ""]

    @classmethod
    def fresh(cls) -> "ValueNorm":
        """Before the first return."""
        return cls(*jnp.zeros(3))

    def after(self, returns: Float[Array, "*s"], mask: Float[Array, "*s"], beta: float) -> "ValueNorm":
        """The averages after one more batch; `beta` of them is what they were."""
        share = mask / jnp.maximum(mask.sum(), 1.0)
        new = ValueNorm((share * returns).sum(), (share * returns**2).sum(), jnp.float32(1.0))
        return ValueNorm(*(beta * old + (1.0 - beta) * now for old, now in zip(self, new, strict=True)))

    def moments(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Mean and standard deviation of the returns."""
        known = self.weight > 0
        weight = jnp.where(known, self.weight, 1.0)
        mean = self.mean / weight
        variance = jnp.maximum(self.square / weight - mean**2, LEAST_VARIANCE)
        return mean, jnp.sqrt(jnp.where(known, variance, 1.0))

    def shrink(self, returns: Float[Array, "*s"]) -> Float[Array, "*s"]:
        """Returns on the scale on which values are learned."""
        mean, deviation = self.moments()
        return (returns - mean) / deviation

    def restore(self, value: Float[Array, "*s"]) -> Float[Array, "*s"]:
        """Learned values on the scale of returns."""
        mean, deviation = self.moments()
        return value * deviation + mean
