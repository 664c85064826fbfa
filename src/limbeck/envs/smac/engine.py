"""The physics: one tick of weapons, damage, walking and pushing, for one world or many.

Arrays are **units first**: `[U, *b]`, positions `[2, U, *b]`, with `b` nothing for one world and `(B,)` for many. With the worlds
innermost, every loop over units below becomes a plain sum of vectors that the compiler merges into a few kernels; no gathers, no
reductions. That is why the loops are Python loops, and why some cheap values are computed again instead of being passed on.

Rules: Samvelyan et al., The StarCraft Multi-Agent Challenge, 2019, and the public data tables of the game, see `units.py`.
"""

from functools import reduce

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from limbeck.envs.smac import opponent
from limbeck.envs.smac.bodies import NOWHERE, Bodies, Orders, like, squared
from limbeck.envs.smac.facts import Facts
from limbeck.envs.smac.units import LOOPS_PER_SECOND, MIN_DAMAGE, RANGE_SLOP, SHIELD_DELAY, SHIELD_REGEN


def tick(facts: Facts, orders: Orders, now: Bodies) -> Bodies:
    """The world one tick on."""
    aim = aims(facts, now)
    engaged = engages(facts, now, aim)
    cooldown = reload(facts, orders, now.cooldown, engaged)
    struck = strikes(facts, now.cooldown, cooldown)
    health, shield, unhurt = damage(facts, now, struck)
    pos = move(facts, orders, now, aim, engaged)
    moved = Bodies(pos, health, shield, unhurt, cooldown, now.target)
    chosen = opponent.retarget(facts, moved, aim[:, facts.allies], struck[facts.allies])
    return moved._replace(target=jnp.concatenate([now.target[facts.allies], chosen]))


def aims(facts: Facts, now: Bodies) -> Float[Array, "2 U *b"]:
    """Where everybody's target stands; `NOWHERE` without a living target."""
    seen = jnp.where(now.health > 0, now.pos, NOWHERE)

    def side(units: slice, others: slice) -> Array:
        aim = jnp.full_like(now.pos[:, units], NOWHERE)
        for index in range(others.stop - others.start):
            aim = jnp.where(now.target[None, units] == index, seen[:, others.start + index][:, None], aim)
        return aim

    return jnp.concatenate([side(facts.allies, facts.enemies), side(facts.enemies, facts.allies)], axis=1)


def engages(facts: Facts, now: Bodies, aim: Float[Array, "2 U *b"]) -> Bool[Array, "U *b"]:
    """Who stands with its target within reach of its weapon. A swing under way holds on a little longer."""

    def side(units: slice, others: slice) -> Array:
        table = facts.reach(units, others)
        reach = like(table[:, 0], now.health)
        for index in range(1, table.shape[1]):
            if (table[:, index] != table[:, 0]).any():
                reach = jnp.where(now.target[units] == index, like(table[:, index], now.health), reach)
        return jnp.broadcast_to(reach, now.health[units].shape)

    reach = jnp.concatenate([side(facts.allies, facts.enemies), side(facts.enemies, facts.allies)])
    reach = reach + jnp.where(now.cooldown < 0, RANGE_SLOP, 0.0)
    return (now.health > 0) & (squared(aim - now.pos) <= reach * reach)


def reload(facts: Facts, orders: Orders, cooldown: Array, engaged: Array) -> Float[Array, "U *b"]:
    """The weapons' clocks. A shot adds one period to what the clock shows, so that fractions of a loop are never lost."""
    period = like(facts.column("period") * LOOPS_PER_SECOND, cooldown)
    damage_point = like(facts.column("damage_point") * LOOPS_PER_SECOND, cooldown)
    fires = engaged & (cooldown <= -damage_point)
    onwards = cooldown + jnp.where(fires, period + orders.delay, 0.0) - facts.loops_per_tick
    return jnp.where(engaged, onwards, jnp.maximum(cooldown - facts.loops_per_tick, 0.0))


def strikes(facts: Facts, before: Array, after: Array) -> Bool[Array, "U *b"]:
    """Who lands a hit, read off the clocks: they jump up at a shot, and pass a mark when the second hit of a cycle is due."""
    shot = after > jnp.maximum(before, 0.0)
    if all(kind.hits == 1 for kind in facts.kinds):
        return shot
    marks = [(kind.period - kind.second_hit) * LOOPS_PER_SECOND if kind.hits == 2 else -np.inf for kind in facts.kinds]
    mark = like(np.array(marks, np.float32), before)
    return shot | ((before > mark) & (after <= mark))


def damage(facts: Facts, now: Bodies, struck: Bool[Array, "U *b"]) -> tuple[Array, Array, Array]:
    """Health, shield and the shield's waiting time after recovery and then this tick's hits, one after the other."""
    health_then, shield_then = recover(facts, now)

    def side(units: slice, others: slice) -> tuple[Array, Array]:
        health, shield = health_then[units], shield_then[units]
        armor = like(facts.column("armor")[units], health)
        for index, carried in enumerate(like(facts.hit(others, units), health[None])):
            attacker = others.start + index
            victims = like(np.arange(units.stop - units.start, dtype=np.int32), health)
            hit = struck[attacker][None] & (now.target[attacker][None] == victims)
            absorbed = jnp.minimum(shield, carried)
            through = carried - absorbed
            wound = jnp.where(through > 0, jnp.maximum(through - armor, MIN_DAMAGE), 0.0)
            shield = jnp.where(hit, shield - absorbed, shield)
            health = jnp.where(hit, jnp.maximum(health - wound, 0.0), health)
        return health, shield

    sides = side(facts.allies, facts.enemies), side(facts.enemies, facts.allies)
    health, shield = (jnp.concatenate(pair) for pair in zip(*sides, strict=True))
    hurt = (health < health_then) | (shield < shield_then)
    unhurt = jnp.where(hurt, SHIELD_DELAY * LOOPS_PER_SECOND, jnp.maximum(now.unhurt - facts.loops_per_tick, 0.0))
    return health, shield, unhurt


def recover(facts: Facts, now: Bodies) -> tuple[Float[Array, "U *b"], Float[Array, "U *b"]]:
    """Health and shield after one tick's regeneration; the dead stay dead."""
    seconds = facts.loops_per_tick / LOOPS_PER_SECOND
    alive = now.health > 0
    health, shield = now.health, now.shield
    if facts.column("regen").any():
        gain = like(facts.column("regen") * np.float32(seconds), health)
        health = jnp.where(alive, jnp.minimum(health + gain, like(facts.column("health"), health)), 0.0)
    if facts.column("shield").any():
        full = jnp.minimum(shield + SHIELD_REGEN * seconds, like(facts.column("shield"), shield))
        shield = jnp.where(alive & (now.unhurt <= 0), full, shield)
    return health, shield


def move(facts: Facts, orders: Orders, now: Bodies, aim: Float[Array, "2 U *b"], engaged: Array) -> Float[Array, "2 U *b"]:
    """Where everybody stands after a stride towards target or goal and a push out of the neighbours."""
    chases = aim[0] < NOWHERE / 2
    towards = jnp.where(chases[None], aim, orders.goal) - now.pos
    strides = (now.health > 0) & ~engaged & (chases | orders.walks)
    speed = like(facts.column("speed") * np.float32(facts.loops_per_tick / LOOPS_PER_SECOND), now.health)
    share = jnp.where(strides, jnp.minimum(speed * jnp.reciprocal(jnp.sqrt(squared(towards) + 1e-9)), 1.0), 0.0)
    pos = now.pos + towards * share[None] + push(facts, now, strides)
    return jnp.where((now.health > 0)[None], confine(facts, pos), now.pos)


def push(facts: Facts, now: Bodies, strides: Bool[Array, "U *b"]) -> Float[Array, "2 U *b"]:
    """The sum of the pushes out of overlapping bodies. Who walks into a standing unit gives way alone; else both give way."""
    separation = facts.column("separation")
    # 0 standing, 1 walking; a dead unit pushes nobody.
    mobile = strides.astype(now.health.dtype)
    solid = (now.health > 0).astype(now.health.dtype)
    total = jnp.zeros_like(now.pos)
    for other in range(facts.n_units):
        apart = now.pos - now.pos[:, other][:, None]
        width = separation + separation[other]
        overlap = jnp.maximum(1.0 - squared(apart) * like(1.0 / (width * width), now.health), 0.0)
        # (width - distance) / distance as a series in 1 - (distance / width)^2: no root, no division.
        gap = overlap * (0.5 + overlap * (0.375 + overlap * 0.3125))
        share = solid[other][None] * (0.5 + 0.5 * (mobile - mobile[other][None]))
        total = total + apart * (gap * share)[None]
    return total


def confine(facts: Facts, pos: Float[Array, "2 U *b"]) -> Float[Array, "2 U *b"]:
    """The nearest place where the whole body is on walkable ground."""
    margin = facts.column("separation")
    places = []
    for x0, y0, x1, y1 in facts.walkable:
        low = like(np.stack([x0 + margin, y0 + margin]), pos)
        high = like(np.stack([x1 - margin, y1 - margin]), pos)
        places.append(jnp.clip(pos, low, high))
    return reduce(lambda a, b: jnp.where((squared(a - pos) <= squared(b - pos))[None], a, b), places)
