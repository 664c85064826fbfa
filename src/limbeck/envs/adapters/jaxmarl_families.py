"""What JaxMARL's interface does not say about its families of environments: who has won, how it ended, what the state holds."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from limbeck.envs.adapters.team import limit_of

Slots = tuple[tuple[int, int], ...]


def by_time_alone(env: Any, state: Any) -> Bool[Array, ""]:
    """Nothing but the clock ends an episode, as far as we know."""
    return jnp.array(False)


def by_itself_alone(env: Any, state: Any) -> Bool[Array, ""]:
    """There is no clock."""
    return jnp.array(True)


def as_it_is(env: Any, state: Any, world: Float[Array, "S"]) -> Float[Array, "S"]:
    """The state, unchanged."""
    return world


class Family(NamedTuple):
    """Environments that share what the interface does not say. The defaults are for those that limbeck knows nothing about."""

    limit: Callable[[Any], int | None] = limit_of
    """env -> the steps after which it stops, or after which it certainly has stopped"""
    over: Callable[[Any, Any], Bool[Array, ""]] = by_time_alone
    """(env, its state) -> whether an episode that ends at the limit has ended by itself all the same"""
    won: Callable[[Any, Any], Bool[Array, ""]] | None = None
    """(env, its state) -> whether the team has won"""
    scaled: Callable[[Any, Any, Float[Array, "S"]], Float[Array, "S"]] = as_it_is
    """(env, its state, what it calls its world state) -> the same at unit scale"""
    slots: Callable[[Any], tuple[Slots, Slots]] | None = None
    """env -> parts of the world state that are about the agents, and about others"""
    negative_returns: bool = False
    unit_scale: bool = False
    scenarios: bool = False
    """whether there are maps by name"""
    refused: str = ""
    """why no team can play it"""


# -- SMAX: the state of an environment with an enemy is that of the battle, and the enemy's own -----------------------------


def _standing(env: Any, state: Any) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    alive = state.state.unit_alive
    return alive[: env.num_allies].any(), alive[env.num_allies :].any()


def one_army_is_gone(env: Any, state: Any) -> Bool[Array, ""]:
    """The battle is over; whose time is up does not matter then."""
    allies, enemies = _standing(env, state)
    return ~(allies & enemies)


def enemies_are_gone(env: Any, state: Any) -> Bool[Array, ""]:
    """Victory; if nobody is left it is a draw."""
    allies, enemies = _standing(env, state)
    return allies & ~enemies


def battle(env: Any, state: Any, world: Float[Array, "S"]) -> Float[Array, "S"]:
    """SMAX gives places in units of length, cooldowns in seconds and kinds as whole numbers; here all are in [0, 1]."""
    units, width = env.num_allies + env.num_enemies, len(env.own_features)
    table = world[: units * width].reshape(units, width)
    cooldown = jnp.clip(table[:, 3] / env.unit_type_weapon_cooldowns[state.state.unit_types], 0.0, 1.0)
    place = table[:, 1:3] / jnp.array([[env.map_width, env.map_height]], jnp.float32)
    table = jnp.concatenate([table[:, :1], place, cooldown[:, None], table[:, 4:]], axis=1)
    teams, kinds = jnp.split(world[units * width :], 2)
    return jnp.concatenate([table.ravel(), teams, kinds / max(1, len(env.unit_type_names) - 1)])


def soldiers(env: Any) -> tuple[Slots, Slots]:
    """Every unit's part of the state."""
    width, units = len(env.own_features), env.num_allies + env.num_enemies
    parts = tuple((i * width, (i + 1) * width) for i in range(units))
    return parts[: env.num_allies], parts[env.num_allies :]


# -- Hanabi ----------------------------------------------------------------------------------------------------------------


def turns(env: Any) -> int:
    """A game is shorter: a turn that is no hint takes a card or is one of the last, and gives back one hint at most."""
    cards = int(env.deck_size) - env.num_agents * env.hand_size + env.num_agents + 1
    return int(env.max_info_tokens) + 2 * cards


FAMILIES: Mapping[str, Family] = {
    "EnemySMAX": Family(
        over=one_army_is_gone,
        won=enemies_are_gone,
        scaled=battle,
        slots=soldiers,
        unit_scale=True,
        scenarios=True,
    ),
    "SMAX": Family(refused="both armies are agents, which makes no team; HeuristicEnemySMAX has an opponent"),
    "SimpleMPE": Family(negative_returns=True),
    "HanabiGame": Family(limit=turns, over=by_itself_alone, unit_scale=True),
}
"""by the names of the classes that environments are made of"""


def family_of(env: Any) -> Family:
    """The nearest one that is known."""
    return next((FAMILIES[each.__name__] for each in type(env).__mro__ if each.__name__ in FAMILIES), Family())
