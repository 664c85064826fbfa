"""Medivacs: whom they go to, and what they mend. A healer's target is an index among its own side's units.

Every function hands its argument back unchanged on a map without healers.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from limbeck.envs.smac.bodies import NOWHERE, Bodies, like, possible, squared
from limbeck.envs.smac.facts import Facts
from limbeck.envs.smac.units import ENERGY_MAX, ENERGY_REGEN, ENERGY_TO_START, LOOPS_PER_SECOND

ACQUIRE = 6.0
"""the opponent's healers look for wounded friends this far, edge to edge"""
INDEX_BITS, DISTANCE_BITS, SHARE_BITS = 6, 12, 10


def mendable(facts: Facts, now: Bodies, units: slice) -> Bool[Array, "V *b"]:
    """Who of a side is alive, wounded and biological."""
    wounded = (now.health[units] > 0) & (now.health[units] < like(facts.column("health")[units], now.health))
    return wounded & like(facts.biological[units], wounded)


def price(facts: Facts) -> np.ndarray:
    """Energy that a tick of healing takes, [U]."""
    return facts.column("heal") * facts.column("heal_cost") * np.float32(facts.loops_per_tick / LOOPS_PER_SECOND)


def aims(facts: Facts, now: Bodies, units: slice, aim: Float[Array, "2 V *b"]) -> Float[Array, "2 V *b"]:
    """Where the targets of a side stand, those of its healers put in."""
    if now.energy is None or not possible(facts.heals[units]):
        return aim
    patients = jnp.where(mendable(facts, now, units)[None], now.pos[:, units], NOWHERE)
    friend = jnp.full_like(aim, NOWHERE)
    for index in range(units.stop - units.start):
        friend = jnp.where(now.target[None, units] == index, patients[:, index][:, None], friend)
    able = now.energy[units] >= like(price(facts)[units], now.energy)
    return jnp.where(like(facts.heals[None, units], aim), jnp.where(able[None], friend, NOWHERE), aim)


def reaches(facts: Facts, now: Bodies, units: slice, reach: Float[Array, "V *b"]) -> Float[Array, "V *b"]:
    """How far the units of a side reach towards their targets, healers towards their friends."""
    if not possible(facts.heals[units]):
        return reach
    table = facts.reach(units, units)
    friend = jnp.zeros_like(reach)
    for index in range(table.shape[1]):
        friend = jnp.where(now.target[units] == index, like(table[:, index], reach), friend)
    return jnp.where(like(facts.heals[units], reach), friend, reach)


def mend(
    facts: Facts, now: Bodies, health: Float[Array, "U *b"], engaged: Bool[Array, "U *b"]
) -> tuple[Float[Array, "U *b"], Float[Array, "U *b"] | None]:
    """Health and energy after a tick of healing: by whoever stands within reach of somebody wounded."""
    if now.energy is None:
        return health, None
    seconds = facts.loops_per_tick / LOOPS_PER_SECOND
    heals = engaged & like(facts.heals, engaged)

    def side(units: slice) -> Array:
        gain = jnp.zeros_like(health[units])
        index = like(np.arange(units.stop - units.start, dtype=np.int32), gain)
        for healer in (unit for unit in range(units.start, units.stop) if possible(facts.heals[unit])):
            cared = heals[healer][None] & (now.target[healer][None] == index)
            gain = gain + jnp.where(cared, np.float32(max(kind.heal for kind in facts.ways(healer)) * seconds), 0.0)
        return gain

    gain = jnp.concatenate([side(facts.allies), side(facts.enemies)])
    mended = jnp.minimum(health + gain, like(facts.column("health"), health))
    spent = jnp.where(heals, like(price(facts), health), 0.0)
    fed = jnp.clip(now.energy - spent + ENERGY_REGEN * seconds, 0.0, ENERGY_MAX)
    alive = (now.health > 0) & like(facts.heals, heals)
    return jnp.where(health > 0, mended, 0.0), jnp.where(alive, fed, now.energy)


def patients(facts: Facts, now: Bodies, chosen: Int[Array, "E *b"]) -> Int[Array, "E *b"]:
    """The opponent's targets, those of its healers put in.

    A healer stays with its patient until that is whole; then it takes whom the smallest share of its life is left, the nearest
    of several, within its scan range, if it has energy enough to begin with somebody new.
    """
    enemies = facts.enemies
    if now.energy is None or not possible(facts.heals[enemies]):
        return chosen
    pos, target = now.pos[:, enemies], now.target[enemies]
    scan = (ACQUIRE + facts.reach(enemies, enemies) - facts.column("range")[enemies][:, None]) ** 2
    share = now.health[enemies] / like(facts.column("health")[enemies], now.health)
    ill = mendable(facts, now, enemies)
    none = np.int32(2 ** (INDEX_BITS + DISTANCE_BITS + SHARE_BITS))
    best = jnp.full(target.shape, none, jnp.int32)
    fresh = now.energy[enemies] >= ENERGY_TO_START
    for index in range(facts.n_enemies):
        distance = squared(pos - pos[:, index][:, None])
        open_to = ill[index][None] & fresh & (distance <= like(scan[:, index], distance))
        level = (share[index] * (2**SHARE_BITS - 1)).astype(jnp.int32)[None]
        near = jnp.minimum(distance, 2.0**DISTANCE_BITS - 1).astype(jnp.int32)
        score = ((level << DISTANCE_BITS | near) << INDEX_BITS) | index
        score = jnp.where(ill[index][None] & (target == index), index, jnp.where(open_to, score, none))
        best = jnp.minimum(best, score)
    friend = jnp.where(best < none, best & (2**INDEX_BITS - 1), -1)
    return jnp.where(like(facts.heals[enemies], friend), friend, chosen)
