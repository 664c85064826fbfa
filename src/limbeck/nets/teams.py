"""Several networks in one team: a network for each agent, or for each group of agents, of its own weights, width and kind."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from limbeck.types import Decision


@runtime_checkable
class Member(Protocol):
    """What a team asks of its networks, beside what `unroll` asks of any agent."""

    @property
    def carry_dim(self) -> int: ...
    def read(self, decisions: Decision) -> Array: ...
    def drive(self, x: Array) -> Array: ...
    def step(self, drive: Any, hidden: Array) -> Array: ...
    def head(self, hidden: Array, extra: None) -> Array: ...


class Team(eqx.Module):
    """Network k acts for the agents in `places[k]`; no weight is shared between two networks.

    Recurrent states of all agents stand in one array, as wide as the widest needs; what a narrow one does not use stays zero.
    """

    nets: tuple[Any, ...]
    places: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def __check_init__(self) -> None:
        assert len(self.nets) == len(self.places)
        assert sorted(i for who in self.places for i in who) == list(range(sum(map(len, self.places))))

    @property
    def carry_dim(self) -> int:
        """H, that of the widest."""
        return max(net.carry_dim for net in self.nets)

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[tuple[Array, ...], None]:
        """Decisions -> a drive for every network, [..., its agents, its size]. The key is not used."""
        drives = (net.drive(net.read(decisions)[..., who, :]) for net, who in self._each())
        return tuple(drives), None

    def step(self, drive: tuple[Array, ...], hidden: Array) -> Array:
        """One step of every network."""
        parts = []
        for (net, who), of_net in zip(self._each(), drive, strict=True):
            new = net.step(of_net, hidden[..., who, : net.carry_dim])
            parts.append(jnp.concatenate([new, hidden[..., who, net.carry_dim :]], axis=-1))
        return self._in_order(parts)

    def head(self, hidden: Array, extra: None) -> Array:
        """Hidden [..., N, H] -> what each puts out, [..., N, A]."""
        return self._in_order([net.head(hidden[..., who, : net.carry_dim], None) for net, who in self._each()])

    def _each(self) -> list[tuple[Any, Array]]:
        return [(net, jnp.array(who)) for net, who in zip(self.nets, self.places, strict=True)]

    def _in_order(self, parts: list[Array]) -> Array:
        order = [i for who in self.places for i in who]
        back = sorted(range(len(order)), key=order.__getitem__)
        joined = jnp.concatenate(parts, axis=-2)
        return joined if back == order == sorted(order) else joined[..., jnp.array(back), :]


def one_each(nets: tuple[Any, ...]) -> Team:
    """A team of as many networks as agents."""
    return Team(nets, tuple((i,) for i in range(len(nets))))
