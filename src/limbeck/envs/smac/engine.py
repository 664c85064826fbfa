"""The physics: one tick of weapons, damage, walking and pushing, for one world or many.

Arrays are **units first**: `[U, *b]`, positions `[2, U, *b]`, with `b` nothing for one world and `(B,)` for many. With the worlds
innermost, every loop over units below becomes a plain sum of vectors that the compiler merges into a few kernels; no gathers, no
reductions. That is why the loops are Python loops, and why some cheap values are computed again instead of being passed on.

What a map's units cannot do is not in the program at all: every `if` below is decided when the map is built. Where units are drawn
for every episode, that is what none of them can do.

Rules: Samvelyan et al., The StarCraft Multi-Agent Challenge, 2019, and the public data tables of the game, see `units.py`.
"""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from limbeck.envs.smac import healing, opponent
from limbeck.envs.smac.bodies import NOWHERE, Bodies, Orders, certain, like, possible, squared
from limbeck.envs.smac.facts import Facts
from limbeck.envs.smac.terrain import SIZE
from limbeck.envs.smac.units import (
    LOOPS_PER_SECOND,
    MIN_DAMAGE,
    SHIELD_DELAY,
    SHIELD_REGEN,
    SWEEP_POINTS,
    SWEEP_RADIUS,
    SWEEP_STEP,
    UnitType,
)

UNROLLED = 4
"""rectangles of ground that are looked at without a loop; more would take minutes to compile"""


apart = jax.lax.optimization_barrier
"""keeps the stages of a tick from being simplified into each other. On a CPU kernels may still be merged, see `settled`"""


def settled(places: Array) -> Array:
    """The same, in memory before anyone reads it.

    The CPU's compiler drops barriers before it merges kernels, and then computes again what is read more than once: where ground
    is two rectangles, all pushes for each of them, ten times slower. Around a branch it cannot merge.
    """
    known = places.ravel()[0] > -jnp.inf
    return jax.lax.cond(known, lambda x: x, lambda x: x * jnp.nan, places)


def tick(facts: Facts, orders: Orders, now: Bodies) -> Bodies:
    """The world one tick on."""
    aim = apart(aims(facts, now))
    engaged = apart(engages(facts, now, aim))
    armed = engaged & ~like(facts.heals, engaged) if possible(facts.heals) else engaged
    cooldown = reload(facts, orders, now.cooldown, armed)
    cooldown, struck = apart((cooldown, strikes(facts, now.cooldown, cooldown)))
    health, shield, unhurt = apart(damage(facts, now, aim, struck))
    fuse = burnt(facts, now.health, health, struck)
    health, energy = healing.mend(facts, now, health, engaged)
    pos, pace = apart(move(facts, orders, now, aim, engaged))
    moved = Bodies(pos, health, shield, unhurt, cooldown, now.target, energy, pace, fuse, now.kind)
    chosen = opponent.retarget(facts, moved, aim[:, facts.allies], struck[facts.allies])
    return moved._replace(target=jnp.concatenate([now.target[facts.allies], chosen]))


def aims(facts: Facts, now: Bodies) -> Float[Array, "2 U *b"]:
    """Where everybody's target stands; `NOWHERE` without a living target that can be hit, or healed."""
    seen = jnp.where(now.health > 0, now.pos, NOWHERE)

    def side(units: slice, others: slice) -> Array:
        aim = jnp.full_like(now.pos[:, units], NOWHERE)
        able = facts.can_hit(units, others)
        for index in range(others.stop - others.start):
            chosen = now.target[None, units] == index
            if not certain(able[:, index]):
                chosen = chosen & like(able[None, :, index], chosen)
            aim = jnp.where(chosen, seen[:, others.start + index][:, None], aim)
        return healing.aims(facts, now, units, aim)

    return jnp.concatenate([side(facts.allies, facts.enemies), side(facts.enemies, facts.allies)], axis=1)


def engages(facts: Facts, now: Bodies, aim: Float[Array, "2 U *b"]) -> Bool[Array, "U *b"]:
    """Who stands with its target within reach of its weapon. A swing under way holds on a little longer."""

    def side(units: slice, others: slice) -> Array:
        table = facts.reach(units, others)
        reach = like(table[:, 0], now.health)
        for index in range(1, table.shape[1]):
            if possible(table[:, index] != table[:, 0]):
                reach = jnp.where(now.target[units] == index, like(table[:, index], now.health), reach)
        return healing.reaches(facts, now, units, jnp.broadcast_to(reach, now.health[units].shape))

    reach = jnp.concatenate([side(facts.allies, facts.enemies), side(facts.enemies, facts.allies)])
    reach = reach + jnp.where(now.cooldown < 0, like(facts.column("slop"), reach), 0.0)
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
    if certain(facts.column("hits") == 1):
        return shot
    marks = facts.each(lambda kind: (kind.period - kind.second_hit) * LOOPS_PER_SECOND if kind.hits == 2 else -np.inf)
    mark = like(marks, before)
    return shot | ((before > mark) & (after <= mark))


def damage(facts: Facts, now: Bodies, aim: Float[Array, "2 U *b"], struck: Bool[Array, "U *b"]) -> tuple[Array, Array, Array]:
    """Health, shield and the shield's waiting time after recovery and then this tick's hits, one after the other."""
    bursts = struck if now.fuse is None else struck | now.fuse
    health_then, shield_then = recover(facts, now)

    def side(units: slice, others: slice) -> tuple[Array, Array]:
        health, shield = health_then[units], shield_then[units]
        armor = like(facts.column("armor")[units], health)
        for index, carried in enumerate(like(facts.hit(others, units), health[None])):
            attacker = others.start + index
            touched = touches(facts, now, units, attacker, aim, struck, bursts)
            volley = facts.each(lambda kind: 0 if kind.heal else kind.volley)[attacker]
            for shot in range(max(0 if kind.heal else kind.volley for kind in facts.ways(attacker))):
                hit = touched if certain(volley > shot) else touched & (volley > shot)[None]
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
    if now.fuse is not None:
        spent = struck & like(facts.marks("blast"), struck)
        health, shield = jnp.where(spent, 0.0, health), jnp.where(spent, 0.0, shield)
    return health, shield, unhurt


def touches(
    facts: Facts, now: Bodies, units: slice, attacker: int, aim: Float[Array, "2 U *b"], struck: Array, bursts: Array
) -> Bool[Array, "V *b"]:
    """Which units of a side `attacker` hits in this tick, whatever it may be."""
    ways = facts.ways(attacker)
    touched = None
    if not all(kind.blast or kind.sweep for kind in ways):
        victims = like(np.arange(units.stop - units.start, dtype=np.int32), now.health)
        touched = struck[attacker][None] & (now.target[attacker][None] == victims)
    for kind in ways:
        if not (kind.blast or kind.sweep):
            continue
        # Kept apart from the chain of hits, into which the compiler would otherwise copy it once per hit.
        area = apart(
            bursts[attacker][None] & in_blast(facts, now, units, attacker, kind)
            if kind.blast
            else struck[attacker][None] & in_sweep(facts, now, units, attacker, aim[:, attacker])
        )
        touched = area if touched is None else jnp.where(facts.are(kind.name)[attacker][None], area, touched)
    assert touched is not None
    return touched


def in_blast(facts: Facts, now: Bodies, units: slice, attacker: int, kind: UnitType) -> Bool[Array, "V *b"]:
    """Which units on the ground an explosion of `attacker` touches, which is of a kind that explodes."""
    radius = kind.blast + facts.column("radius")[units]
    near = squared(now.pos[:, units] - now.pos[:, attacker][:, None]) <= like(radius**2, now.health)
    return near & like(facts.can_hit(slice(attacker, attacker + 1), units)[0], near)


def in_sweep(facts: Facts, now: Bodies, units: slice, attacker: int, aim: Float[Array, "2 *b"]) -> Bool[Array, "V *b"]:
    """Which units on the ground a beam touches on its way across its target: points on a line, burning what is beside them."""
    ahead = aim - now.pos[:, attacker]
    ahead = ahead * jnp.reciprocal(jnp.sqrt(squared(ahead) + 1e-9))[None]
    apart = now.pos[:, units] - aim[:, None]
    deep = apart[0] * ahead[None, 0] + apart[1] * ahead[None, 1]
    aside = apart[1] * ahead[None, 0] - apart[0] * ahead[None, 1]
    point = jnp.clip(jnp.round(aside / SWEEP_STEP), -SWEEP_POINTS, SWEEP_POINTS) * SWEEP_STEP
    radius = SWEEP_RADIUS + facts.column("radius")[units]
    near = deep * deep + (aside - point) ** 2 <= like(radius**2, deep)
    return near & like(facts.can_hit(slice(attacker, attacker + 1), units)[0], near)


def burnt(facts: Facts, before: Array, after: Array, struck: Bool[Array, "U *b"]) -> Bool[Array, "U *b"] | None:
    """Who was killed before it could strike, and explodes in the next tick; None on a map where nobody explodes."""
    blast = facts.marks("blast")
    return (before > 0) & (after <= 0) & ~struck & like(blast, before) if possible(blast) else None


def recover(facts: Facts, now: Bodies) -> tuple[Float[Array, "U *b"], Float[Array, "U *b"]]:
    """Health and shield after one tick's regeneration; the dead stay dead."""
    seconds = facts.loops_per_tick / LOOPS_PER_SECOND
    alive = now.health > 0
    health, shield = now.health, now.shield
    if possible(facts.column("regen")):
        gain = like(facts.column("regen") * np.float32(seconds), health)
        health = jnp.where(alive, jnp.minimum(health + gain, like(facts.column("health"), health)), 0.0)
    if possible(facts.column("shield")):
        full = jnp.minimum(shield + SHIELD_REGEN * seconds, like(facts.column("shield"), shield))
        shield = jnp.where(alive & (now.unhurt <= 0), full, shield)
    return health, shield


def move(facts: Facts, orders: Orders, now: Bodies, aim: Float[Array, "2 U *b"], engaged: Array) -> tuple[Array, Array | None]:
    """Where everybody stands after a stride towards target or goal and a push out of the neighbours; and how fast it goes."""
    chases = aim[0] < NOWHERE / 2
    ends = jnp.where(chases[None], aim, orders.goal)
    towards = (ends if facts.routes is None else detour(facts, now, ends)) - now.pos
    strides = (now.health > 0) & ~engaged & (chases | orders.walks)
    rooted = ~facts.marks("speed")
    if possible(rooted):
        strides = strides & ~like(rooted, strides)
    pace = gather(facts, now, strides)
    seconds = np.float32(facts.loops_per_tick / LOOPS_PER_SECOND)
    stride = like(facts.column("speed") * seconds, now.health) if pace is None else pace * seconds
    share = jnp.where(strides, jnp.minimum(stride * jnp.reciprocal(jnp.sqrt(squared(towards) + 1e-9)), 1.0), 0.0)
    pos = confine(facts, now.pos + towards * share[None] + push(facts, now, strides))
    moves = now.health > 0
    if possible(rooted):
        moves = moves & ~like(rooted, moves)
    return jnp.where(moves[None], pos, now.pos), pace


def gather(facts: Facts, now: Bodies, strides: Bool[Array, "U *b"]) -> Float[Array, "U *b"] | None:
    """Everybody's speed in this tick: those that need time to get going start from 0 after every stop."""
    if now.pace is None:
        return None
    gain = facts.each(lambda kind: kind.accel * facts.loops_per_tick / LOOPS_PER_SECOND if kind.accel > 0 else kind.speed)
    return jnp.where(strides, jnp.minimum(now.pace + like(gain, now.pace), like(facts.column("speed"), now.pace)), 0.0)


def detour(facts: Facts, now: Bodies, ends: Float[Array, "2 U *b"]) -> Float[Array, "2 U *b"]:
    """Where to walk in order to get to `ends` around walls. Who flies or climbs goes straight."""
    here, there = (jnp.clip(places, 0, SIZE - 1).astype(jnp.int32) for places in (now.pos, ends))
    here, there = (cell[0] * SIZE + cell[1] for cell in (here, there))
    way = jnp.asarray(facts.routes).ravel()[here * SIZE**2 + there].astype(jnp.int32)
    straight = (way < 0) | like(facts.marks("air") | facts.marks("climbs"), way)
    centre = jnp.stack([way // SIZE, way % SIZE]).astype(ends.dtype) + 0.5
    return jnp.where(straight[None], ends, centre)


def push(facts: Facts, now: Bodies, strides: Bool[Array, "U *b"]) -> Float[Array, "2 U *b"]:
    """The sum of the pushes out of overlapping bodies. Who walks into a standing unit gives way alone; else both give way."""
    separation, air = facts.column("separation"), facts.marks("air")
    # 0 standing, 1 walking; a dead unit pushes nobody.
    mobile = strides.astype(now.health.dtype)
    solid = (now.health > 0).astype(now.health.dtype)
    total = jnp.zeros_like(now.pos)
    for other in range(facts.n_units):
        apart = now.pos - now.pos[:, other][:, None]
        width = separation + separation[other : other + 1]
        overlap = jnp.maximum(1.0 - squared(apart) * like(1.0 / (width * width), now.health), 0.0)
        # (width - distance) / distance as a series in 1 - (distance / width)^2: no root, no division.
        gap = overlap * (0.5 + overlap * (0.375 + overlap * 0.3125))
        share = solid[other][None] * (0.5 + 0.5 * (mobile - mobile[other][None]))
        if possible(air):  # flyers and walkers pass each other
            share = share * like((air == air[other : other + 1]).astype(np.float32), share)
        total = total + apart * (gap * share)[None]
    return total


def confine(facts: Facts, pos: Float[Array, "2 U *b"]) -> Float[Array, "2 U *b"]:
    """The nearest place where the whole body is on ground that it may be on."""
    ground, pos = facts.ground(), settled(pos)
    if len(ground) <= UNROLLED:
        places = [jnp.clip(pos, like(rectangle[:2], pos), like(rectangle[2:], pos)) for rectangle in ground]
        return reduce(lambda a, b: jnp.where((squared(a - pos) <= squared(b - pos))[None], a, b), places)

    def nearer(best: tuple[Array, Array], rectangle: Array) -> tuple[tuple[Array, Array], None]:
        place = jnp.clip(pos, rectangle[:2], rectangle[2:])
        away = squared(place - pos)
        return (jnp.where((away < best[1])[None], place, best[0]), jnp.minimum(away, best[1])), None

    edges = jnp.asarray(ground.reshape(ground.shape + (1,) * (pos.ndim + 1 - ground.ndim)))
    return jax.lax.scan(nearer, (pos, jnp.full_like(pos[0], jnp.inf)), edges)[0][0]
