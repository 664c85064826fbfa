"""Networks small enough for a device, each on as much of its agent's observation as it is given: members of a team."""

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from limbeck.nets.agents import Recurrent, affine
from limbeck.nets.sight import Sight
from limbeck.types import Decision


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

    def encode_one(self, decisions: Decision, agent: int, key: PRNGKeyArray) -> tuple[Array, None]:
        """The second layer of one agent alone, [..., 1, H]."""
        return self.drive(self.read(decisions)[..., agent : agent + 1, :]), None

    def step(self, drive: Array, hidden: Array) -> Array:
        """The second layer, whatever was before."""
        return drive

    def head(self, hidden: Array, extra: None) -> Array:
        """The second layer -> logits [..., A]."""
        return affine(self.out, hidden)


KINDS = {"gru": RecurrentStudent, "mlp": PlainStudent}


def by_rule(n_features: int, teacher: int) -> int:
    """A student's width from the size of its observation, and the teacher's width."""
    return min(max(8 * round(4 * n_features**0.5 / 8), 16), max(teacher // 2, 1))
