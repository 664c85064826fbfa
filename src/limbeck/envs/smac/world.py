"""A battle as an environment: for one world, and natively for many at once."""

import dataclasses
import difflib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from limbeck.envs.smac import engine, muster
from limbeck.envs.smac.battlemap import BattleMap
from limbeck.envs.smac.bodies import Bodies, Orders, like, possible
from limbeck.envs.smac.chance import key_words, uniform
from limbeck.envs.smac.deploy import deploy
from limbeck.envs.smac.drawn import DrawnFacts
from limbeck.envs.smac.facts import Facts, FixedFacts, build
from limbeck.envs.smac.maps import MAPS
from limbeck.envs.smac.observe import DIRECTIONS, N_MOVES, Observer, enemy_slots, sizes, state_slots, unit_sight
from limbeck.envs.smac.settings import SkirmishSettings, SmacSettings
from limbeck.envs.smac.skirmish import SKIRMISHES, Battle
from limbeck.envs.smac.units import ENERGY_START, WEAPON_DELAY
from limbeck.errors import BadSetting
from limbeck.types import EnvSpec, Observation, Outcome

LANES = 16
"""worlds that fill a vector register"""
FEW = 24
"""units, up to which it pays to carry idle worlds so that the register is full"""
PAIRS = 2**18
"""of units, over all worlds, that are looked at together: a few numbers for each fill a core's cache"""


class SmacState(NamedTuple):
    """One battle in progress, or many with trailing batch axes."""

    bodies: Bodies
    last_action: Int[Array, "N *b"]
    """-1 before the first"""
    attacked: Bool[Array, "U *b"]
    """who fired in the last step, or healed"""
    steps: Int[Array, "*b"]
    march: Float[Array, "2 *b"] | None = None
    """where the enemies were sent in this episode; None on a map where that is the same in all"""


class Snapshot(NamedTuple):
    """What a picture of one world needs. U units, the allies first."""

    x: Float[Array, "U"]
    y: Float[Array, "U"]
    health: Float[Array, "U"]
    shield: Float[Array, "U"]
    max_health: Float[Array, "U"]
    max_shield: Float[Array, "U"]
    alive: Bool[Array, "U"]
    target: Int[Array, "U"]
    """which unit (0 to U - 1) was fired at, or healed, in the last step, or -1"""
    team: Int[Array, "U"]
    """0 for allies, 1 for enemies"""
    energy: Float[Array, "U"]
    """what healers have left to heal with; 0 for all others"""
    kind: Int[Array, "U"] | None = None
    """what everybody is, where that is drawn: an index into the battle's kinds"""


class Smac:
    """A StarCraft battle between learning agents and a scripted army, with SMAC's interface.

    Actions that are not available are not checked: whoever lives and is told to do nothing stops, an order to attack the dead is
    an order to stop, and one to attack somebody far away is obeyed. An order that the game would refuse, such as to attack a flyer
    with a weapon for the ground, is an order to stop.

    Args:
        map_name: a name in `MAPS` or `SKIRMISHES`, or any other for a `battle` of one's own.
        settings: the options; for a skirmish, `SkirmishSettings`.
        battle: what is fought; None is the map of that name.
    """

    def __init__(self, map_name: str, settings: SmacSettings, battle: Battle | None = None):
        self.map_name, self.settings, self.map = map_name, settings, battle or (MAPS | SKIRMISHES)[map_name]
        self.facts, self._deploy = self._armies()
        self._observer = Observer(self.facts, self.map, settings)
        self.spec = spec_of(map_name, self.map, settings)
        if settings.unit_ranges and isinstance(self.facts, FixedFacts):
            ranges = tuple(self.facts.column("sight")[self.facts.allies].tolist())
            self.spec = dataclasses.replace(self.spec, sight=unit_sight(self.map, settings, ranges))
        self.max_reward = self._most(self.facts) if isinstance(self.facts, FixedFacts) else None
        """what an episode pays at most, before scaling; None where it depends on the armies that are drawn"""

    def _armies(self) -> tuple[Facts, Callable[[Array], tuple[Array | None, Array, Array | None]]]:
        """The facts, and how an episode begins: random words -> kinds, places, where the enemies are sent."""
        if isinstance(self.map, BattleMap):
            facts = build(self.map, self.settings)
            return facts, lambda words: (None, *deploy(facts, words))
        if not isinstance(self.settings, SkirmishSettings):
            given = type(self.settings).__name__
            raise BadSetting(f"{self.map_name} draws its armies: it takes SkirmishSettings, not {given}")
        self.map.shares(self.settings.weights or self.map.weights)
        drawn = muster.build(self.map, self.settings)
        return drawn, partial(muster.muster, self.map, self.settings, drawn)

    @property
    def n_units(self) -> int:
        """Of both armies."""
        return self.map.n_allies + self.map.n_enemies

    @property
    def worlds_at_once(self) -> int:
        """How many battles are fought at a time: fewer, the more units there are."""
        return max(LANES, PAIRS // self.n_units**2)

    def _most(self, facts: Facts) -> Any:
        """What an episode pays at most, before scaling: a number, or one per world."""
        strength = (facts.column("health") + facts.column("shield"))[facts.enemies].sum(axis=0)
        most = strength + self.settings.reward_death_value * facts.n_enemies + self.settings.reward_win
        return float(most) if isinstance(facts, FixedFacts) else most

    def reset(self, key: PRNGKeyArray) -> SmacState:
        """A new episode: armies packed around their points, in one of several formations."""
        return self.reset_words(key_words(key, 0))

    def step(self, state: SmacState, action: Int[Array, "N"], key: PRNGKeyArray) -> tuple[SmacState, Outcome]:
        """Half a second of battle."""
        return self.step_words(state, action, key_words(key, 0))

    def observe(self, state: SmacState) -> Observation:
        """SMAC's observations, state and available actions."""
        return self._observer.observation(state.bodies, state.last_action)

    def batch(self) -> "SmacBatch":
        """Many worlds at once, worlds innermost."""
        return SmacBatch(self)

    def reset_words(self, words: Array) -> SmacState:
        """`reset` from raw random words [W, *b], for any batch axes."""
        kind, pos, march = self._deploy(words)
        zeros = jnp.zeros(pos.shape[1:])
        bodies = Bodies(pos, zeros, zeros, zeros, zeros, jnp.full(zeros.shape, -1, jnp.int32), kind=kind)
        facts = self.facts.of(bodies)
        bodies = bodies._replace(
            health=zeros + like(facts.column("health"), zeros),
            shield=zeros + like(facts.column("shield"), zeros),
            energy=zeros + like(ENERGY_START * facts.heals.astype(np.float32), zeros) if possible(facts.heals) else None,
            pace=zeros if possible(facts.marks("accel")) else None,
            fuse=zeros > 0 if possible(facts.marks("blast")) else None,
        )
        nothing = jnp.full((facts.n_allies, *zeros.shape[1:]), -1, jnp.int32)
        return SmacState(bodies, nothing, jnp.zeros(zeros.shape, bool), jnp.zeros(zeros.shape[1:], jnp.int32), march)

    def step_words(self, state: SmacState, action: Int[Array, "N *b"], words: Array) -> tuple[SmacState, Outcome]:
        """`step` from raw random words [W, *b], for any batch axes."""
        facts, before = self.facts.of(state.bodies), state.bodies
        action = jnp.where(before.health[facts.allies] > 0, action.astype(jnp.int32), 0)
        orders, start = self._orders(before, action, words, state.march)
        tick = partial(engine.tick, facts, orders)
        after = jax.lax.fori_loop(0, self.settings.ticks_per_step, lambda _, now: tick(now), start)
        attacked = after.cooldown > jnp.maximum(start.cooldown, 0.0)
        if before.energy is not None and after.energy is not None:
            attacked = attacked | (after.energy < before.energy)
        steps = state.steps + 1
        return SmacState(after, action, attacked, steps, state.march), self._outcome(before, after, steps)

    def _orders(self, before: Bodies, action: Int[Array, "N *b"], words: Array, march: Array | None) -> tuple[Orders, Bodies]:
        """What everybody does in this step, and the bodies with the allies' new targets."""
        facts = self.facts
        allies, enemies = facts.allies, facts.enemies
        offset = jnp.zeros_like(before.pos[:, allies])
        for move, direction in enumerate(DIRECTIONS * np.float32(self.settings.move_amount)):
            offset = offset + jnp.where((action == 2 + move)[None], like(direction, offset), 0.0)
        place = like(np.array(facts.attack_point or (0, 0), np.float32), before.pos) if march is None else march[:, None]
        point = jnp.broadcast_to(place, before.pos[:, enemies].shape)
        target = jnp.where(action >= N_MOVES, action - N_MOVES, -1)
        sent = jnp.full(before.health[enemies].shape, facts.attack_point is not None or march is not None)
        walks = jnp.concatenate([(action >= 2) & (action < N_MOVES), sent])
        low, high = WEAPON_DELAY
        orders = Orders(
            goal=jnp.concatenate([before.pos[:, allies] + offset, point], axis=1),
            walks=walks,
            delay=low + (high - low) * uniform(words, facts.n_units, first=101),
        )
        # A swing at somebody else, or one broken off, starts anew.
        kept = target == before.target[allies]
        cooldown = jnp.where(kept, before.cooldown[allies], jnp.maximum(before.cooldown[allies], 0.0))
        return orders, before._replace(
            target=jnp.concatenate([target, before.target[enemies]]),
            cooldown=jnp.concatenate([cooldown, before.cooldown[enemies]]),
        )

    def _outcome(self, before: Bodies, after: Bodies, steps: Int[Array, "*b"]) -> Outcome:
        """Reward and end of the episode, by SMAC's rules."""
        facts = self.facts.of(after)
        fallen = [(after.health[units] <= 0).astype(jnp.int32).sum(axis=0) for units in (facts.allies, facts.enemies)]
        no_ally, no_enemy = (self._beaten(facts, after, units) for units in (facts.allies, facts.enemies))
        # At once is a draw; but SMAC looks at healers that are left alone one side after the other, its own first.
        lost = no_ally if possible(facts.heals) else no_ally & ~no_enemy
        won = no_enemy & ~no_ally
        terminated = no_ally | no_enemy
        return Outcome(
            reward=self._reward(facts, before, after, won, lost),
            terminated=terminated,
            truncated=~terminated & (steps >= self.map.limit),
            info={"won": won, "dead_allies": fallen[0], "dead_enemies": fallen[1]},
        )

    def _beaten(self, facts: Facts, now: Bodies, units: slice) -> Bool[Array, "*b"]:
        """Whether nobody of a side is left who can fight."""
        fallen = now.health[units] <= 0
        healers = facts.heals[units]
        return (fallen | like(healers, fallen) if possible(healers) else fallen).all(axis=0)

    def _reward(
        self, facts: Facts, before: Bodies, after: Bodies, won: Bool[Array, "*b"], lost: Bool[Array, "*b"]
    ) -> Float[Array, "*b"]:
        """SMAC's reward. By default it takes the size of the damage, so that enemies recovering their shields pay as well."""
        settings = self.settings
        if settings.reward_sparse:
            return won.astype(jnp.float32) - lost.astype(jnp.float32)
        killed = ((before.health > 0) & (after.health <= 0)).astype(jnp.float32) * settings.reward_death_value
        toll = before.health + before.shield - after.health - after.shield + killed
        reward = toll[facts.enemies].sum(axis=0)
        if settings.reward_only_positive:
            reward = jnp.abs(reward) if settings.reward_recovery else jnp.maximum(reward, 0.0)
        else:
            reward = reward - settings.reward_negative_scale * toll[facts.allies].sum(axis=0)
        reward = reward + jnp.where(won, settings.reward_win, 0.0) + jnp.where(lost, settings.reward_defeat, 0.0)
        return reward * (settings.reward_scale_rate / self._most(facts)) if settings.reward_scale else reward

    def snapshot(self, state: SmacState) -> Snapshot:
        """The picture of one world."""
        facts, now = self.facts.of(state.bodies), state.bodies
        others = (np.arange(facts.n_units) < facts.n_allies) != facts.heals  # whose target is counted among the enemies
        offset = others * np.int32(facts.n_allies)
        return Snapshot(
            x=now.pos[0],
            y=now.pos[1],
            health=now.health,
            shield=now.shield,
            max_health=jnp.asarray(facts.column("health")),
            max_shield=jnp.asarray(facts.column("shield")),
            alive=now.health > 0,
            target=jnp.where(state.attacked & (now.target >= 0), now.target + offset, -1),
            team=jnp.asarray((np.arange(facts.n_units) >= facts.n_allies).astype(np.int32)),
            energy=jnp.zeros_like(now.health) if now.energy is None else now.energy,
            kind=now.kind,
        )

    def facts_of(self, snapshot: Snapshot) -> FixedFacts:
        """The facts of the episode that a snapshot is of."""
        if isinstance(self.facts, DrawnFacts):
            return self.facts.fixed(np.asarray(snapshot.kind))
        assert isinstance(self.facts, FixedFacts)
        return self.facts


class SmacBatch:
    """B battles, with the worlds as the innermost axis of the state: `[U, B]`.

    Fewer than `LANES` worlds of few units are carried in that many lanes, the last of which are idle: the compiler turns short
    inner loops into scalar code, and 16 worlds take less time than 8. With many units there is work enough without: 4 worlds of
    27m_vs_30m take a third of the time of 16. Of a state, only `steps` has exactly B entries.
    """

    def __init__(self, env: Smac):
        self._env = env
        self._lanes = LANES if env.n_units <= FEW else 1

    def reset(self, key: PRNGKeyArray) -> SmacState:
        """key [B] -> B new episodes."""
        state = self._env.reset_words(self._widen(key_words(key, 1)))
        return state._replace(steps=state.steps[: key.shape[0]])

    def step(self, state: SmacState, action: Int[Array, "B N"], key: PRNGKeyArray) -> tuple[SmacState, Outcome]:
        """All worlds one step on."""
        n_worlds = state.steps.shape[0]
        state = state._replace(steps=self._widen(state.steps))
        state, outcome = self._env.step_words(state, self._widen(action.T), self._widen(key_words(key, 1)))
        return state._replace(steps=state.steps[:n_worlds]), jax.tree.map(lambda lanes: lanes[:n_worlds], outcome)

    def observe(self, state: SmacState) -> Observation:
        """What all worlds show, [B, ...]."""
        return jax.tree.map(lambda lanes: lanes[: state.steps.shape[0]], self._env.observe(state))

    def where(self, flag: Bool[Array, "B"], new: SmacState, old: SmacState) -> SmacState:
        """World by world: `new` where the flag is set, else `old`."""
        wide = self._widen(flag)

        def pick(a: Array, b: Array) -> Array:
            return jnp.where(wide[: a.shape[-1]].reshape((1,) * (a.ndim - 1) + a.shape[-1:]), a, b)

        return jax.tree.map(pick, new, old)

    def one(self, state: SmacState, index: int) -> SmacState:
        """A battle of the batch by itself."""
        return jax.tree.map(lambda lanes: lanes[..., index], state)

    def _widen(self, array: Array) -> Array:
        """`[..., B]` with zeros for idle worlds."""
        idle = max(self._lanes - array.shape[-1], 0)
        return jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, idle)]) if idle else array


def spec_of(map_name: str, battle: Battle, settings: SmacSettings) -> EnvSpec:
    """The sizes of a battle, and where its units stand in the state and in observations.

    Where everybody sees as far as its kind does, nothing is said of sight: kinds may be drawn.
    """
    n_actions, obs_dim, state_dim = sizes(battle, settings)
    ranges = (float(settings.sight_range),) * battle.n_allies
    return EnvSpec(
        name=f"smac/{map_name}",
        n_agents=battle.n_allies,
        n_actions=n_actions,
        obs_dim=obs_dim,
        state_dim=state_dim,
        episode_limit=battle.limit,
        state_slots=state_slots(battle),
        other_slots=enemy_slots(battle),
        has_win=True,
        unit_scale=True,
        full_obs=settings.full_obs,
        sight=None if settings.unit_ranges else unit_sight(battle, settings, ranges),
    )


def make(map_name: str, settings: SmacSettings | None = None) -> Smac:
    """The battle `map_name`, by default with the settings of SMAC; a skirmish with those of SMACv2."""
    known = [*MAPS, *SKIRMISHES]
    if map_name not in known:
        near = difflib.get_close_matches(map_name, known, n=1, cutoff=0.0)
        rest = [name for name in known if name not in near]
        raise ValueError(f"there is no map {map_name!r}; did you mean {near[0]}? The others are {', '.join(rest)}")
    return Smac(map_name, settings or (SkirmishSettings() if map_name in SKIRMISHES else SmacSettings()))
