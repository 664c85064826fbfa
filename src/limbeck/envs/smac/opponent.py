"""Whom the enemy army attacks.

It is sent to a point with one attack-move order at the start. A unit without a target acquires the nearest opponent within its scan
range; it keeps its target while that lives; it answers whoever hits it, and comes to the help of a neighbour that is hit. Its
healers look after its wounded instead, see `healing.py`.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from limbeck.envs.smac import healing
from limbeck.envs.smac.bodies import Bodies, certain, like, possible, squared
from limbeck.envs.smac.facts import MIN_ENEMY_SCAN, Facts

HELP_RADIUS = 4.0
EVERYWHERE = 64.0
"""farther than anything is from anything"""
INDEX_BITS = 6
"""enough for 64 allies"""
DISTANCE_BITS = 18
"""squared distances on a 32 x 32 map, in 64ths"""

# From the most to the least urgent; within one class the nearest wins.
IN_REACH, HITS_ME_IN_REACH, CHASED, HITS_ME, SCANNED, HITS_NEIGHBOUR, NONE = range(7)


def retarget(facts: Facts, now: Bodies, aim: Float[Array, "2 N *b"], struck: Bool[Array, "N *b"]) -> Int[Array, "E *b"]:
    """The enemies' targets for the next tick; -1 for none.

    Args:
        facts: of the battle.
        now: the bodies after this tick's damage and movement.
        aim: where the allies' targets stood.
        struck: which allies landed a hit in this tick.

    Every ally gets one number made of urgency class, squared distance and index, from the highest bits to the lowest, so that
    the choice is a minimum of integers: it needs no argmin, which would not merge into the kernel around it.
    """
    enemies = facts.enemies
    pos, target = now.pos[:, enemies], now.target[enemies]
    index = like(np.arange(facts.n_enemies, dtype=np.int32), target)
    weapon = facts.reach(enemies, facts.allies) ** 2
    scan = facts.reach(enemies, facts.allies, EVERYWHERE if facts.hunts else MIN_ENEMY_SCAN) ** 2
    able, rooted = facts.can_hit(enemies, facts.allies), ~facts.marks("speed")[enemies]
    best = jnp.full(target.shape, NONE << (INDEX_BITS + DISTANCE_BITS), jnp.int32)
    for ally in range(facts.n_allies):
        distance = squared(pos - now.pos[:, ally][:, None])
        reaches = distance <= like(weapon[:, ally], target)
        chased = target == ally
        hits_me = struck[ally][None] & (now.target[ally][None] == index)
        hits_near = struck[ally][None] & (squared(pos - aim[:, ally][:, None]) <= HELP_RADIUS**2)
        urgency = jnp.where(hits_near, HITS_NEIGHBOUR, NONE)
        urgency = jnp.where(distance <= like(scan[:, ally], target), SCANNED, urgency)
        urgency = jnp.where(hits_me, HITS_ME, urgency)
        urgency = jnp.where(chased, CHASED, urgency)
        urgency = jnp.where(hits_me & reaches, HITS_ME_IN_REACH, urgency)
        urgency = jnp.where(chased & reaches, IN_REACH, urgency)
        if not certain(able[:, ally]):
            urgency = jnp.where(like(able[:, ally], reaches), urgency, NONE)
        if possible(rooted):
            urgency = jnp.where(reaches | like(~rooted, reaches), urgency, NONE)
        urgency = jnp.where(now.health[ally][None] > 0, urgency, NONE)
        fine = jnp.minimum(distance * 64, 2.0**DISTANCE_BITS - 1).astype(jnp.int32)
        best = jnp.minimum(best, ((urgency << DISTANCE_BITS | fine) << INDEX_BITS) | ally)
    found = (best >> (INDEX_BITS + DISTANCE_BITS)) < NONE
    return healing.patients(facts, now, jnp.where(found, best & (2**INDEX_BITS - 1), -1))
