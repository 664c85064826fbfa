"""Networks small enough for a device, each on as much of its agent's observation as it is given: members of a team."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.errors import BadSetting
from limbeck.nets.agents import Recurrent, affine
from limbeck.types import Decision, EnvSpec


class Sight(eqx.Module):
    """What of a decision one agent is given: x_i = [features of o_i, one-hot of the last action, and its name if it has one].

    Features that are left out are not zeros but missing: no weight is spent on them.
    """

    features: tuple[int, ...] = eqx.field(static=True)
    """of the observation, by their numbers"""
    n_actions: int = eqx.field(static=True)
    n_agents: int = eqx.field(static=True)
    """0: no name. A network that serves one agent alone need not be told which"""

    @classmethod
    def of(cls, spec: EnvSpec, features: tuple[int, ...], named: bool) -> "Sight":
        """Of these features, in this world."""
        return cls(features, spec.n_actions, spec.n_agents if named else 0)

    @property
    def dim(self) -> int:
        """The size of x_i."""
        return len(self.features) + self.n_actions + self.n_agents

    def read(self, decisions: Decision) -> Float[Array, "... N dim"]:
        """Decisions [..., N, O] -> x."""
        last = jax.nn.one_hot(decisions.last_action, self.n_actions, dtype=jnp.float32)
        parts = [decisions.obs[..., np.array(self.features, int)].astype(jnp.float32), last]
        if self.n_agents:
            parts.append(jnp.broadcast_to(jnp.eye(self.n_agents, dtype=jnp.float32), (*last.shape[:-1], self.n_agents)))
        return jnp.concatenate(parts, axis=-1)


class RecurrentStudent(Recurrent):
    """Linear-ReLU-GRU-Linear."""

    sight: Sight

    def __init__(self, sight: Sight, hidden: int, key: PRNGKeyArray):
        self.sight = sight
        super().__init__(sight.dim, hidden, sight.n_actions, key)

    def read(self, decisions: Decision) -> Array:
        """Decisions -> x [..., N, dim]."""
        return self.sight.read(decisions)


class PlainStudent(eqx.Module):
    """Linear-ReLU-Linear-ReLU-Linear, without memory: what stands in the place of the recurrent state is the second layer."""

    first: eqx.nn.Linear
    second: eqx.nn.Linear
    out: eqx.nn.Linear
    sight: Sight

    def __init__(self, sight: Sight, hidden: int, key: PRNGKeyArray):
        key_first, key_second, key_out = jax.random.split(key, 3)
        self.first = eqx.nn.Linear(sight.dim, hidden, key=key_first)
        self.second = eqx.nn.Linear(hidden, hidden, key=key_second)
        self.out = eqx.nn.Linear(hidden, sight.n_actions, key=key_out)
        self.sight = sight

    @property
    def carry_dim(self) -> int:
        """H, the size of the second layer."""
        return self.second.weight.shape[0]

    def read(self, decisions: Decision) -> Array:
        """Decisions -> x [..., N, dim]."""
        return self.sight.read(decisions)

    def drive(self, x: Array) -> Array:
        """x -> the second layer [..., H]."""
        return jax.nn.relu(affine(self.second, jax.nn.relu(affine(self.first, x))))

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[Array, None]:
        """Decisions -> the second layer [..., N, H]. The key is not used."""
        return self.drive(self.read(decisions)), None

    def step(self, drive: Array, hidden: Array) -> Array:
        """The second layer, whatever was before."""
        return drive

    def head(self, hidden: Array, extra: None) -> Array:
        """The second layer -> logits [..., A]."""
        return affine(self.out, hidden)


KINDS = {"gru": RecurrentStudent, "mlp": PlainStudent}


# -- what each is given ----------------------------------------------------------------------------------------------------


def kept_features(text: str, spec: EnvSpec) -> tuple[tuple[int, ...], ...]:
    """`3,8-12`, or a list for each agent, `3,8-12/0/` -> for each the features that are left of its observation, by number.

    >>> kept_features("0,2-3", EnvSpec("a/world", 2, 2, 5, 0, 1))
    ((1, 4), (1, 4))

    Raises:
        BadSetting: no such features, or not one list for each agent.
    """
    kept = []
    for part in one_per_agent("drop", text.split("/"), spec):
        dropped: set[int] = set()
        for piece in filter(None, (piece.strip() for piece in part.split(","))):
            first, dash, last = piece.partition("-")
            low, high = whole_number("drop", first), whole_number("drop", last if dash else first)
            if not low <= high < spec.obs_dim:
                raise BadSetting(f"drop names feature {piece}, but an observation of {spec.name} has 0 to {spec.obs_dim - 1}")
            dropped |= set(range(low, high + 1))
        kept.append(tuple(i for i in range(spec.obs_dim) if i not in dropped))
    return tuple(kept)


def by_rule(n_features: int, teacher: int) -> int:
    """A student's width from the size of its observation, and the teacher's width."""
    return min(max(8 * round(4 * n_features**0.5 / 8), 16), max(teacher // 2, 1))


def one_per_agent(what: str, parts: list[str], spec: EnvSpec) -> list[str]:
    """The parts, one for each agent; one alone is for all.

    Raises:
        BadSetting: neither one nor as many as agents.
    """
    if len(parts) not in (1, spec.n_agents):
        raise BadSetting(f"{what} lists {len(parts)} agents, but {spec.name} has {spec.n_agents}: give one, or as many")
    return parts * spec.n_agents if len(parts) == 1 else parts


def whole_number(what: str, text: str) -> int:
    """The text as a number of no less than 0.

    Raises:
        BadSetting: it is none.
    """
    if not text.strip().isdecimal():
        raise BadSetting(f"{what} must be of whole numbers, not '{text}'")
    return int(text)
