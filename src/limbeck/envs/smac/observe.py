"""What agents see, what the state vector holds and which orders are open: SMAC's layout, slot by slot.

Everything is computed units first, `[..., *b]`, and turned to worlds first at the very end.
"""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from limbeck.envs.smac.bodies import Bodies, like, possible, squared, worlds_first
from limbeck.envs.smac.facts import Facts
from limbeck.envs.smac.settings import SmacSettings
from limbeck.envs.smac.skirmish import Battle
from limbeck.envs.smac.terrain import SIZE
from limbeck.types import Observation, UnitSight

N_MOVES = 6
"""no-op, stop, north, south, east, west; the orders to attack follow"""
FULL_SIGHT = 9.0
"""the game's sight range, in which distances are given where nothing is hidden"""
DIRECTIONS = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]], np.float32)
"""north, south, east, west"""
MIN_ORDER_RANGE = 2.0
"""SMACv2 lets even the shortest weapons be ordered to attack this far"""


def sizes(battle: Battle, settings: SmacSettings) -> tuple[int, int, int]:
    """(actions, observation, state): A, O and S."""
    n, e, bits = battle.n_allies, battle.n_enemies, battle.type_bits
    actions = N_MOVES + battle.n_orders
    ally_health, enemy_health = 1 + bool(battle.ally_shields), 1 + bool(battle.enemy_shields)
    enemy, ally = seen_widths(battle, settings)
    own = bits + settings.obs_own_health * ally_health + 2 * settings.obs_own_pos
    state = n * (3 + bits + ally_health) + e * (2 + bits + enemy_health) + settings.state_last_action * n * actions
    return actions, 4 + e * enemy + (n - 1) * ally + own, state


def seen_widths(battle: Battle, settings: SmacSettings) -> tuple[int, int]:
    """How many numbers an observation has for an enemy, and for another ally."""
    common, actions = 4 + battle.type_bits, N_MOVES + battle.n_orders
    enemy = common + settings.obs_all_health * (1 + bool(battle.enemy_shields))
    ally = common + settings.obs_all_health * (1 + bool(battle.ally_shields)) + settings.obs_last_action * actions
    return enemy, ally


def unit_sight(battle: Battle, settings: SmacSettings, ranges: tuple[float, ...]) -> UnitSight:
    """Where an observation lists units, enemies first: whether they can be attacked (an ally: seen), distance, x, y, and more."""
    enemy, ally = seen_widths(battle, settings)
    edges = np.cumsum([4, *[enemy] * battle.n_enemies, *[ally] * (battle.n_allies - 1)]).tolist()
    return UnitSight(ranges, tuple(itertools.pairwise(edges)), distance=1, scaled=(1, 2, 3))


def state_slots(battle: Battle) -> tuple[tuple[int, int], ...]:
    """Where every agent's own unit is described in the state."""
    width = 4 + bool(battle.ally_shields) + battle.type_bits
    return tuple((i * width, (i + 1) * width) for i in range(battle.n_allies))


def enemy_slots(battle: Battle) -> tuple[tuple[int, int], ...]:
    """The same for the enemies, who come next and have no weapon's cooldown."""
    first, width = state_slots(battle)[-1][1], 3 + bool(battle.enemy_shields) + battle.type_bits
    return tuple((first + i * width, first + (i + 1) * width) for i in range(battle.n_enemies))


@dataclass(frozen=True, eq=False)
class Observer:
    """The views of one battle: bodies and last actions in, SMAC's vectors out."""

    facts: Facts
    battle: Battle
    settings: SmacSettings

    def observation(self, now: Bodies, last_action: Int[Array, "N *b"]) -> Observation:
        """Everything at one decision point, worlds first."""
        distance = self.distances(now)
        avail = self.avail_actions(now, distance)
        return Observation(
            obs=worlds_first(self.obs(now, last_action, avail, distance), 2),
            state=worlds_first(self.state(now, last_action), 1),
            avail_actions=worlds_first(avail, 2),
            alive=worlds_first(now.health[self.facts.allies] > 0, 1),
            full_obs=worlds_first(self.obs(now, last_action, avail, distance, hide=False), 2) if self.settings.full_obs else None,
        )

    def distances(self, now: Bodies) -> Float[Array, "N U *b"]:
        """From every ally to every unit, centre to centre."""
        return jnp.sqrt(squared(now.pos[:, self.facts.allies][:, :, None] - now.pos[:, None]))

    def avail_actions(self, now: Bodies, distance: Float[Array, "N U *b"]) -> Bool[Array, "N A *b"]:
        """Who may do what. The dead may only do nothing, the living never."""
        facts = self.facts.of(now)
        alive = now.health > 0
        ally = alive[facts.allies][:, None]
        moves = [ally & self._walkable(now.pos[:, facts.allies], direction)[:, None] for direction in DIRECTIONS]
        near = alive[None] & (distance <= self._order_range(facts, distance))
        return jnp.concatenate([~ally, ally, *moves, ally & self._targets(facts, near)], axis=1)

    def _order_range(self, facts: Facts, distance: Array) -> float | Float[Array, "N 1 *b"]:
        """How far away may be whom an order names."""
        if not self.settings.unit_ranges:
            return self.settings.shoot_range
        reach = facts.each(lambda kind: max(kind.order_range or kind.range, MIN_ORDER_RANGE))
        return like(reach[facts.allies][:, None], distance)

    def _sight(self, facts: Facts, distance: Array) -> float | Float[Array, "N 1 *b"]:
        """How far everybody sees."""
        if not self.settings.unit_ranges:
            return self.settings.sight_range
        return like(facts.column("sight")[facts.allies][:, None], distance)

    def _targets(self, facts: Facts, near: Bool[Array, "N U *b"]) -> Bool[Array, "N K *b"]:
        """Whom an order may name: enemies, and for healers all allies who are none."""
        idle = self.battle.n_orders
        enemies = widened(near[:, facts.enemies], idle)
        heals = facts.heals[facts.allies]
        if not possible(heals):
            return enemies
        friends = widened(near[:, facts.allies] & like(~heals[None], near), idle)
        return jnp.where(like(heals[:, None], enemies), friends, enemies)

    def _walkable(self, pos: Float[Array, "2 N *b"], direction: np.ndarray) -> Bool[Array, "N *b"]:
        """Whether the cell half a move away in a direction may be walked on."""
        x, y = pos + like(direction * np.float32(self.settings.move_amount / 2), pos)
        # The cell is int(coordinate), which rounds towards 0: SMAC takes what lies less than a cell outside for cell 0.
        low = lambda edge: edge if edge > 0 else np.nextafter(np.float32(-1), np.float32(0))  # noqa: E731
        inside = [(x >= low(x0)) & (x < x1) & (y >= low(y0)) & (y < y1) for x0, y0, x1, y1 in self.battle.walkable]
        return jnp.stack(inside).any(axis=0) if len(inside) > 1 else inside[0]

    def obs(self, now: Bodies, last_action: Array, avail: Array, distance: Array, hide: bool = True) -> Float[Array, "N O *b"]:
        """What every agent sees: open moves, enemies, other allies, itself. Unhidden, all the living see all the living."""
        facts, n = self.facts.of(now), self.facts.n_allies
        sight = self._sight(facts, distance) if hide else FULL_SIGHT
        near = distance < (sight if hide else jnp.inf)
        visible = near & (now.health > 0)[None] & (now.health[facts.allies] > 0)[:, None]
        others = without_self(self._seen(facts, now, visible[:, facts.allies], distance, sight, facts.allies, None, last_action))
        attackable = avail[:, N_MOVES : N_MOVES + facts.n_enemies]
        enemies = self._seen(facts, now, visible[:, facts.enemies], distance, sight, facts.enemies, attackable, None)
        own = self._facts_of(facts, now, facts.allies, self.settings.obs_own_health, self.settings.obs_own_pos)
        blocks = [avail[:, 2:N_MOVES].astype(jnp.float32), flat(enemies)]
        blocks += [flat(others)] if n > 1 else []
        blocks += [own] if own is not None else []
        return jnp.concatenate(blocks, axis=1)

    def _seen(
        self,
        facts: Facts,
        now: Bodies,
        visible: Array,
        distance: Array,
        sight: float | Array,
        units: slice,
        attackable: Array | None,
        last_action: Array | None,
    ) -> Float[Array, "N units F *b"]:
        """One slot per agent and unit of a side, zeros where unseen, places in units of `sight`."""
        apart = now.pos[:, None, units] - now.pos[:, facts.allies][:, :, None]
        apart = apart / (sight[None] if isinstance(sight, jax.Array) else sight)
        first = jnp.ones_like(visible) if attackable is None else attackable
        slot = jnp.stack([first.astype(jnp.float32), distance[:, units] / sight, apart[0], apart[1]], axis=2)
        known = self._facts_of(facts, now, units, self.settings.obs_all_health)
        blocks = [slot]
        if known is not None:
            blocks.append(jnp.broadcast_to(known[None], (facts.n_allies, *known.shape)))
        if last_action is not None and self.settings.obs_last_action:
            hot = self._one_hot(last_action)
            blocks.append(jnp.broadcast_to(hot[None], (facts.n_allies, *hot.shape)))
        return jnp.where(visible[:, :, None], jnp.concatenate(blocks, axis=2), 0.0)

    def state(self, now: Bodies, last_action: Int[Array, "N *b"]) -> Float[Array, "S *b"]:
        """The global state: allies, enemies, last actions."""
        facts = self.facts.of(now)
        alive = now.health > 0
        place = (now.pos - SIZE / 2) / SIZE
        ready = jnp.maximum(now.cooldown, 0.0)
        if now.energy is not None:
            ready = jnp.where(like(facts.heals, ready), now.energy, ready)
        ready = ready / like(facts.column("cooldown_scale"), now.health)
        fields = [now.health / like(facts.column("health"), now.health), ready, place[0], place[1]]
        blocks = []
        for units, slots in ((facts.allies, fields), (facts.enemies, [fields[0], *fields[2:]])):
            block = jnp.stack([slot[units] for slot in slots], axis=1)
            extra = self._facts_of(facts, now, units, True)
            if extra is not None and extra.shape[1] > 1:
                block = jnp.concatenate([block, extra[:, 1:]], axis=1)
            blocks.append(flat(jnp.where(alive[units][:, None], block, 0.0)[None])[0])
        if self.settings.state_last_action:
            blocks.append(flat(self._one_hot(last_action)[None])[0])
        return jnp.concatenate(blocks)

    def _facts_of(
        self, facts: Facts, now: Bodies, units: slice, health: bool, place: bool = False
    ) -> Float[Array, "units F *b"] | None:
        """Health and shield as fractions, the place on the map, then the type one-hot; zeros for the dead; None where there is no
        such feature.
        """
        allied = units.start == 0
        rows = []
        if health:
            rows.append(now.health[units] / like(facts.column("health")[units], now.health))
            if self.battle.ally_shields if allied else self.battle.enemy_shields:
                rows.append(now.shield[units] / like(facts.each(lambda kind: max(kind.shield, 1))[units], now.health))
        if place:
            rows += [*(now.pos[:, units] / SIZE)]
        names = self.battle.ally_type_order if allied else self.battle.enemy_type_order or ()
        for slot in range(self.battle.type_bits):
            bit = facts.are(names[slot] if slot < len(names) else "")[units].astype(np.float32)
            rows.append(jnp.broadcast_to(like(bit, now.health), now.health[units].shape))
        if not rows:
            return None
        return jnp.where((now.health[units] > 0)[:, None], jnp.stack(rows, axis=1), 0.0)

    def _one_hot(self, last_action: Int[Array, "N *b"]) -> Float[Array, "N A *b"]:
        """Last actions; zeros before the first."""
        actions = np.arange(N_MOVES + self.battle.n_orders, dtype=np.int32)[None]
        return (last_action[:, None] == like(actions, last_action[:, None])).astype(jnp.float32)


def widened(near: Bool[Array, "N V *b"], width: int) -> Bool[Array, "N K *b"]:
    """As many columns as there are orders that name a unit: cut off, or filled up with False."""
    missing = width - near.shape[1]
    return jnp.pad(near, [(0, 0), (0, missing)] + [(0, 0)] * (near.ndim - 2)) if missing > 0 else near[:, :width]


def flat(block: Float[Array, "N K F *b"]) -> Float[Array, "N KF *b"]:
    """Slots one after the other."""
    return block.reshape((block.shape[0], block.shape[1] * block.shape[2], *block.shape[3:]))


def without_self(block: Float[Array, "N N F *b"]) -> Float[Array, "N N-1 F *b"]:
    """Every row without its diagonal entry, by slicing: with the first entry gone, the others end the rows of one longer."""
    n, rest = block.shape[0], block.shape[2:]
    if n == 1:
        return block[:, :0]
    long = block.reshape((n * n, *rest))[1:].reshape((n - 1, n + 1, *rest))[:, :-1]
    return long.reshape((n, n - 1, *rest))
