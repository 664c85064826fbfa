"""Several networks in one team: a network for each agent, or for each group of agents, of its own weights, width and kind."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from limbeck.nets.unroll import walk
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

    def encode(self, decisions: Decision, key: PRNGKeyArray) -> tuple[tuple[Any, ...], None]:
        """Decisions -> a drive for every group of networks, [its networks, ..., their agents, their size]. The key is not used."""
        groups = self._groups()
        return tuple(group.each(lambda net, x: net.drive(x), group.part(group.first.read(decisions))) for group in groups), None

    def step(self, drive: tuple[Any, ...], hidden: Array) -> Array:
        """One step of every network."""
        return self._of_groups(lambda net, drive, hidden: net.step(drive, hidden), drive, hidden)

    def walk(self, drive: tuple[Any, ...], hidden: Array, is_first: Array) -> Array:
        """All steps in a row of every network."""
        return self._of_groups(lambda net, drive, hidden: walk(net, drive, hidden, is_first), drive, hidden)

    def head(self, hidden: Array, extra: None) -> Array:
        """Hidden [..., N, H] -> what each puts out, [..., N, A]."""
        groups = self._groups()
        parts = [group.each(lambda net, h: net.head(h, None), group.part(hidden[..., : group.first.carry_dim])) for group in groups]
        return self._in_order([_side_by_side(part) for part in parts])

    def _groups(self) -> list["Group"]:
        """Networks of one form, and as many agents, are computed at once: many small products in a row cost more than one."""
        alike: dict[Any, list[int]] = {}
        for k, (net, who) in enumerate(zip(self.nets, self.places, strict=True)):
            leaves, form = jax.tree.flatten(net)
            alike.setdefault((form, tuple(leaf.shape for leaf in leaves), len(who)), []).append(k)
        return [Group(tuple(self.nets[k] for k in which), tuple(self.places[k] for k in which)) for which in alike.values()]

    def _of_groups(self, move: Callable[[Any, Any, Array], Array], drive: tuple[Any, ...], hidden: Array) -> Array:
        """The recurrent states that come of these, [..., N, H]; what a narrow network does not use is zero."""
        parts = []
        for group, of_group in zip(self._groups(), drive, strict=True):
            width = group.first.carry_dim
            new = _side_by_side(group.each(move, of_group, group.part(hidden[..., :width])))
            parts.append(jnp.pad(new, [(0, 0)] * (new.ndim - 1) + [(0, self.carry_dim - width)]))
        return self._in_order(parts)

    def _in_order(self, parts: list[Array]) -> Array:
        order = [i for group in self._groups() for who in group.places for i in who]
        back = sorted(range(len(order)), key=order.__getitem__)
        joined = jnp.concatenate(parts, axis=-2)
        return joined if back == order == sorted(order) else joined[..., jnp.array(back), :]


class Group(NamedTuple):
    """Networks of one form: K of them, each for m agents."""

    nets: tuple[Any, ...]
    places: tuple[tuple[int, ...], ...]

    @property
    def first(self) -> Any:
        """One of them, for what they have in common."""
        return self.nets[0]

    def part(self, x: Float[Array, "*b N D"]) -> Float[Array, "K *b m D"]:
        """What is theirs of an array about all agents."""
        return jnp.moveaxis(x[..., jnp.array(self.places), :], -3, 0)

    def each(self, apply: Callable[..., Any], *of_each: Any) -> Any:
        """apply(network, ...), of every network [K, ...] -> [K, ...]."""
        if len(self.nets) == 1:
            return jax.tree.map(lambda y: y[None], apply(self.first, *jax.tree.map(lambda x: x[0], of_each)))
        return jax.vmap(apply)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *self.nets), *of_each)


def _side_by_side(x: Float[Array, "K *b m D"]) -> Float[Array, "*b Km D"]:
    x = jnp.moveaxis(x, 0, -3)
    return x.reshape(*x.shape[:-3], -1, x.shape[-1])


def one_each(nets: tuple[Any, ...]) -> Team:
    """A team of as many networks as agents."""
    return Team(nets, tuple((i,) for i in range(len(nets))))
