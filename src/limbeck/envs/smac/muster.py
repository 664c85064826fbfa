"""How the armies of a skirmish are drawn: who appears, and where. Units first, for one world or many, as in the engine.

Kinds and places follow SMACv2 (Ellis et al., 2022). What the game does by itself when units are created at one point, or on top of
each other, is made up: groups are packed in hexagons as on the other maps, and whoever overlaps is pushed apart.
"""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from limbeck.envs.smac import engine, terrain
from limbeck.envs.smac.bodies import Bodies, like
from limbeck.envs.smac.chance import uniform
from limbeck.envs.smac.drawn import DrawnFacts
from limbeck.envs.smac.facts import LOOPS_PER_STEP, ground
from limbeck.envs.smac.settings import SkirmishSettings
from limbeck.envs.smac.skirmish import Skirmish
from limbeck.envs.smac.terrain import SIZE
from limbeck.envs.smac.units import BALANCES

CENTRE = SIZE / 2
BUFFER = 1.0
"""cells on either side of the line in which armies are reflected where nobody appears"""
GROUPS = 4
"""at most so many groups of enemies surround the agents, one on each diagonal"""
SETTLING = 6
"""rounds in which bodies that overlap are pushed apart before a battle begins"""
DIAGONALS = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]], np.float32)
NEAREST, FARTHEST = 2.0, CENTRE
"""cells along either axis: where on its diagonal a group appears"""

# Which random numbers are for what; see `uniform`.
TEAM, FURTHER, PLACE, HALF, FURTHER_HALF, FORM, MEMBER = (1000 * i for i in range(1, 8))


def build(battle: Skirmish, settings: SkirmishSettings) -> DrawnFacts:
    """The facts of a skirmish, before its units are drawn."""
    pool = [BALANCES[settings.balance][name] for name in battle.kinds]
    floor = terrain.cells(battle.walkable)
    return DrawnFacts(
        n_allies=battle.n_allies,
        n_enemies=battle.n_enemies,
        loops_per_tick=LOOPS_PER_STEP / settings.ticks_per_step,
        floors=ground(pool, floor, floor),
        routes=None,
        attack_point=None,
        hunts=True,
        pool=tuple(pool),
    )


def muster(
    battle: Skirmish, settings: SkirmishSettings, facts: DrawnFacts, words: Array
) -> tuple[Int[Array, "U *b"], Float[Array, "2 U *b"], Float[Array, "2 *b"]]:
    """Kinds and places of the units of new episodes, from raw random words [W, *b], each side in the order of its numbers; and
    where the enemies are sent.
    """
    n, e = battle.n_allies, battle.n_enemies
    shares = battle.shares(settings.weights or battle.weights)
    team = _team(battle, shares, n, words, TEAM)
    foes = team[:e] if e <= n else jnp.concatenate([team, _team(battle, shares, e - n, words, FURTHER)])
    kind = jnp.concatenate([team, foes])
    width = max(unit.separation for unit in [unit for unit in facts.pool if not unit.air] or facts.pool)
    if settings.positions == "mixed":
        surround = uniform(words, 1, first=FORM)[0] < 0.5
        pos = jnp.where(surround[None, None], _surrounded(n, e, width, words), _reflected(n, e, width, words))
    else:
        pos = _surrounded(n, e, width, words) if settings.positions == "surrounded" else _reflected(n, e, width, words)
    pos = _settled(facts, kind, pos)
    order = [battle.numbering.index(name) for name in battle.kinds]
    sides = [_numbered(order, kind[units], pos[:, units]) for units in (facts.allies, facts.enemies)]
    kind, pos = jnp.concatenate([sides[0][0], sides[1][0]]), jnp.concatenate([sides[0][1], sides[1][1]], axis=1)
    return kind, pos, pos[:, facts.allies].mean(axis=1)


def _team(battle: Skirmish, shares: tuple[float, ...], size: int, words: Array, first: int) -> Int[Array, "size *b"]:
    """Kinds by their shares, on the condition that somebody is no company: exactly as if teams of company alone were drawn again.

    The first of the others is unit i with a probability proportional to `alone ** i`, `alone` being the share of all company.
    """
    chance = uniform(words, size + 1, first=first)
    others = np.array([share * (name not in battle.company) for name, share in zip(battle.kinds, shares, strict=True)])
    company = np.array(shares) - others
    alone = float(company.sum())
    kind = _drawn(chance[:size], np.array(shares))
    if alone < 1e-9:
        return kind
    leader = jnp.log1p(-chance[size] * (1 - alone**size)) / np.log(alone)
    leader = jnp.clip(jnp.floor(leader), 0, size - 1).astype(jnp.int32)[None]
    index = like(np.arange(size, dtype=np.int32), kind)
    kind = jnp.where(index < leader, _drawn(chance[:size], company), kind)
    return jnp.where(index == leader, _drawn(chance[:size], others), kind)


def _drawn(chance: Float[Array, "n *b"], weights: np.ndarray) -> Int[Array, "n *b"]:
    """Indices with probabilities proportional to the weights."""
    edges = np.cumsum(weights)
    edges = (edges / edges[-1]).astype(np.float32)[:-1]
    return reduce(jnp.add, [(chance >= edge).astype(jnp.int32) for edge in edges], jnp.zeros(chance.shape, jnp.int32))


def _surrounded(n: int, e: int, width: float, words: Array) -> Float[Array, "2 U *b"]:
    """The allies packed in the middle, the enemies in one to four groups at random places of as many diagonals."""
    chance = uniform(words, 2 * GROUPS + 2, first=PLACE)
    lattice, radius = _lattice(max(n, e), 2 * width + 0.05)
    radius = radius + width
    n_groups = 1 + jnp.floor(chance[0] * GROUPS).astype(jnp.int32)
    group = jnp.floor(uniform(words, e, first=MEMBER) * n_groups[None]).astype(jnp.int32)
    member = (group[:, None] == like(np.arange(GROUPS, dtype=np.int32)[None], group[:, None])).astype(jnp.int32)
    rank = jnp.where(member > 0, jnp.cumsum(member, axis=0) - 1, 0).sum(axis=1)
    room = jnp.asarray(radius.astype(np.float32))[member.sum(axis=0)]  # [groups, *b]
    # A group is as a whole on the map, and does not overlap the allies.
    away = FARTHEST + (NEAREST - FARTHEST) * chance[1 : 1 + GROUPS]
    away = jnp.clip(jnp.maximum(away, (room + radius[n]) / np.float32(np.sqrt(2))), NEAREST, CENTRE - room)
    draw = chance[1 + GROUPS : 1 + 2 * GROUPS]
    diagonal = (draw[None] < draw[:, None]).astype(jnp.int32).sum(axis=1)  # a permutation
    point = CENTRE + jnp.moveaxis(jnp.asarray(DIAGONALS)[diagonal], -1, 0) * away[None]  # [2, groups, *b]
    chosen = jnp.where(member[None] > 0, point[:, None], 0.0).sum(axis=2)
    angle = 2 * np.pi * chance[-1]
    cos, sin = jnp.cos(angle)[None], jnp.sin(angle)[None]

    def turned(places: Float[Array, "2 V *b"]) -> Float[Array, "2 V *b"]:
        return jnp.stack([cos * places[0] - sin * places[1], sin * places[0] + cos * places[1]])

    allies = CENTRE + turned(like(lattice[:, :n], chosen))
    return jnp.concatenate([allies, chosen + turned(jnp.asarray(lattice)[:, rank])], axis=1)


def _lattice(most: int, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """The places of a hexagonal lattice, from the innermost, [2, most]; and how far out the first 0, 1, 2 ... of them lie."""
    reach = int(np.ceil(np.sqrt(most))) + 2
    i, j = (grid.ravel() for grid in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    places = np.stack([i + j / 2, j * np.sqrt(0.75)]) * spacing + np.array([[0.3], [0.2]]) * spacing
    places = places[:, np.argsort((places**2).sum(axis=0), kind="stable")[:most]]
    return places.astype(np.float32), np.concatenate([[0.0], np.hypot(*places)])


def _reflected(n: int, e: int, width: float, words: Array) -> Float[Array, "2 U *b"]:
    """The allies anywhere in the western half, the enemies as in a mirror; further ones anywhere in the eastern."""

    def anywhere(number: int, first: int, nearest: float) -> Float[Array, "2 V *b"]:
        """West of the middle by at least `nearest`; with all of the body on the map, or several would be moved to one corner."""
        x, y = uniform(words, number, first), uniform(words, number, first + 500)
        return jnp.stack([width + x * (CENTRE - nearest - width), width + y * (SIZE - 2 * width)])

    def mirrored(places: Float[Array, "2 V *b"]) -> Float[Array, "2 V *b"]:
        return jnp.stack([SIZE - places[0], places[1]])

    allies = anywhere(n, HALF, BUFFER)
    further = [mirrored(anywhere(e - n, FURTHER_HALF, 0.0))] if e > n else []
    return jnp.concatenate([allies, mirrored(allies)[:, :e], *further], axis=1)


def _settled(facts: DrawnFacts, kind: Int[Array, "U *b"], pos: Float[Array, "2 U *b"]) -> Float[Array, "2 U *b"]:
    """The places on the map that nobody shares with anybody."""
    none = jnp.zeros(kind.shape)
    bodies = Bodies(pos, none + 1, none, none, none, kind, kind=kind)
    facts = facts.of(bodies)

    def round_(_: int, pos: Array) -> Array:
        return engine.confine(facts, pos + engine.push(facts, bodies._replace(pos=pos), none > 0))

    return jax.lax.fori_loop(0, SETTLING, round_, engine.confine(facts, pos))


def _numbered(
    order: list[int], kind: Int[Array, "V *b"], pos: Float[Array, "2 V *b"]
) -> tuple[Int[Array, "V *b"], Float[Array, "2 V *b"]]:
    """A side as it is numbered: by kind, x, y."""
    place = reduce(jnp.add, [jnp.where(kind == index, rank, 0) for index, rank in enumerate(order)])
    index = like(np.arange(len(kind), dtype=np.int32), kind)
    first: Bool[Array, "V V *b"] = jnp.zeros((), bool)
    for key in (index, pos[1], pos[0], place):  # the last one weighs most
        mine, other = key[:, None], key[None]
        first = (other < mine) | ((other == mine) & first)
    rank = first.astype(jnp.int32).sum(axis=1)
    mine = rank[None] == index[:, None]  # [number, unit, *b]
    return jnp.where(mine, kind[None], 0).sum(axis=1), jnp.where(mine[None], pos[:, None], 0.0).sum(axis=2)
