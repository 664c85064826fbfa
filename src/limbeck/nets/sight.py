"""What of a decision one agent is given: features left out, sight shortened. Pure functions of what the world shows."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from limbeck.errors import BadSetting, NotOffered
from limbeck.types import Decision, EnvSpec, UnitSight


class Sight(eqx.Module):
    """What of a decision one agent is given: x_i = [features of o_i, one-hot of the last action, and its name if it has one].

    Features that are left out are not zeros but missing: no weight is spent on them. Units beyond a shortened sight are zeros, as
    they are in the world: the weights on them are there, and are multiplied, whether somebody is near or not.
    """

    features: tuple[int, ...] = eqx.field(static=True)
    """of the observation, by their numbers"""
    n_actions: int = eqx.field(static=True)
    n_agents: int = eqx.field(static=True)
    """0: no name. A network that serves one agent alone need not be told which"""
    units: UnitSight | None = eqx.field(static=True, default=None)
    """how the observation lists units; only asked where sight is shortened"""
    sight_range: float | None = eqx.field(static=True, default=None)
    """how far is seen of what the world shows; None: all of it"""

    @classmethod
    def of(cls, spec: EnvSpec, features: tuple[int, ...], named: bool, sight_range: float | None = None) -> "Sight":
        """Of these features, in this world, up to this range."""
        return cls(features, spec.n_actions, spec.n_agents if named else 0, spec.sight, sight_range)

    @property
    def dim(self) -> int:
        """The size of x_i."""
        return len(self.features) + self.n_actions + self.n_agents

    def read(self, decisions: Decision) -> Float[Array, "... N dim"]:
        """Decisions [..., N, O] -> x."""
        last = jax.nn.one_hot(decisions.last_action, self.n_actions, dtype=jnp.float32)
        obs = decisions.obs.astype(jnp.float32)
        if self.units is not None and self.sight_range is not None:
            obs = nearer(obs, self.units, self.sight_range)
        parts = [obs[..., np.array(self.features, int)], last]
        if self.n_agents:
            parts.append(jnp.broadcast_to(jnp.eye(self.n_agents, dtype=jnp.float32), (*last.shape[:-1], self.n_agents)))
        return jnp.concatenate(parts, axis=-1)


def nearer(obs: Float[Array, "... N O"], units: UnitSight, sight_range: float) -> Float[Array, "... N O"]:
    """The observations that the same moment would give if everybody saw only so far, in the world's unit of length.

    Units that are not nearer than that are zeros, and lengths are divided by the new range. A unit whose distance is the new range
    to the last bit may fall on the other side of it.
    """
    n_features = obs.shape[-1]
    owner, lengths = np.full(n_features, -1), np.zeros(n_features, bool)
    for unit, (start, stop) in enumerate(units.slots):
        owner[start:stop] = unit
        lengths[[start + i for i in units.scaled]] = True
    shrink = np.array(units.ranges, np.float32)[:, None] / np.float32(sight_range)
    scaled = obs * jnp.broadcast_to(np.where(lengths, shrink, np.float32(1)), obs.shape)
    distance = scaled[..., np.array([start + units.distance for start, _ in units.slots], int)]
    seen = jnp.concatenate([distance < 1, jnp.ones((*distance.shape[:-1], 1), bool)], axis=-1)[..., owner]
    return jnp.where(seen, scaled, 0.0)


# -- what is asked for, in words -------------------------------------------------------------------------------------------


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


def sight_ranges(text: str, spec: EnvSpec) -> tuple[float | None, ...]:
    """`6`, or a range for each agent, `6,9,3` -> how far each sees, in the world's unit of length. Nothing: all that is shown.

    >>> world = EnvSpec("a/world", 2, 2, 4, 0, 1, sight=UnitSight((9.0, 9.0), ((0, 4),), 1, (1, 2, 3)))
    >>> sight_ranges("6", world), sight_ranges("6,9", world), sight_ranges("", world)
    ((6.0, 6.0), (6.0, 9.0), (None, None))

    Raises:
        NotOffered: the world's observations do not say how far away what they show is.
        BadSetting: no such ranges, or not one for each agent.
    """
    if not text.strip():
        return (None,) * spec.n_agents
    if spec.sight is None:
        what = f"sight_range shortens how far units are seen, and observations of {spec.name} do not list units seen up to a range"
        raise NotOffered(what, lambda other: other.sight is not None, "leave it out, or drop features by number: drop")
    found = []
    for part, most in zip(one_per_agent("sight_range", text.split(","), spec), spec.sight.ranges, strict=True):
        try:
            value = float(part)
        except ValueError as error:
            raise BadSetting(
                f"sight_range must be of numbers, not '{part.strip()}': give 6, or one for each agent, 6,9,3"
            ) from error
        if not (math.isfinite(value) and 0 < value <= most):
            raise BadSetting(f"sight_range is {value:g}; agents of {spec.name} see {most:g} far: give more than 0, at most that")
        found.append(value)
    return tuple(found)


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
