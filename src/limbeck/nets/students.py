"""Networks small enough for a device, each on as much of its agent's observation as it is given, and teams of them."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PRNGKeyArray

from limbeck.errors import BadSetting, unknown
from limbeck.nets.agents import Recurrent, affine
from limbeck.nets.sight import Sight, kept_features, one_per_agent, sight_ranges, whole_number
from limbeck.nets.teams import Team
from limbeck.types import Decision, EnvSpec


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


@dataclass(frozen=True)
class TeamSettings:
    """What each student is built like, and what it sees."""

    widths: str = "rule"
    """hidden units: rule (4 times the root of the observation's size, in eights, 16 to half of the teacher's), 40, or 24,40,16"""
    kinds: str = "gru"
    """gru, mlp (without memory), or one for each agent: gru,mlp,gru"""
    drop: str = ""
    """features of the observation that students do without: 3,8-12; or for each agent: 3,8-12/0/"""
    sight_range: str = ""
    """how far students see of what the world shows: 6; or for each agent: 6,9,3; nothing: as far as their teacher"""
    share: bool = False
    """agents alike in width, kind and sight share a network, and are told their names; no: each has its own"""


def make_students(spec: EnvSpec, settings: TeamSettings, teacher: int, key: PRNGKeyArray) -> Team:
    """A network for each agent, or for those that are alike; `teacher` is the teacher's width.

    Raises:
        BadSetting, UnknownName: a list that does not fit the team, or what is no width or kind.
        NotOffered: sight is to be shortened in a world that does not say what it is.
    """
    built, near = _built(spec, settings, teacher), sight_ranges(settings.sight_range, spec)
    alike: dict[Any, list[int]] = {}
    for i, what in enumerate(zip(built, near, strict=True)):
        alike.setdefault(what if settings.share else i, []).append(i)
    places = tuple(tuple(who) for who in alike.values())
    nets = []
    for who, net_key in zip(places, jax.random.split(key, len(places)), strict=True):
        kind, width, kept = built[who[0]]
        nets.append(KINDS[kind](Sight.of(spec, kept, len(who) > 1, near[who[0]]), width, net_key))
    return Team(tuple(nets), places)


def _built(spec: EnvSpec, settings: TeamSettings, teacher: int) -> list[tuple[str, int, tuple[int, ...]]]:
    """(kind, width, features that it is given) of each agent's student."""
    kept = kept_features(settings.drop, spec)
    words = one_per_agent("widths", settings.widths.split(","), spec)
    kinds = [kind.strip() for kind in one_per_agent("kinds", settings.kinds.split(","), spec)]
    widths = [
        by_rule(len(own), teacher) if word.strip() == "rule" else whole_number("widths", word)
        for own, word in zip(kept, words, strict=True)
    ]
    if min(widths) < 1:
        raise BadSetting(f"widths must be positive, not {settings.widths}")
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
    return list(zip(kinds, widths, kept, strict=True))
