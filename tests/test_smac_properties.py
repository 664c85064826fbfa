"""What must hold in every step of every battle, seen from outside: the rules worked out again in numpy from places and points.

The tests play a little of some maps. A million steps over all maps take some minutes: `python tests/test_smac_properties.py`.
"""

import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated

from limbeck.envs.smac import MAPS, make
from limbeck.envs.smac.facts import FixedFacts

EPS = 2e-3
# How far SMACv2 lets an order to attack reach, where that depends on the kind.
REACH = {"stalker": 6, "zealot": 2, "colossus": 7, "marine": 5, "marauder": 6, "medivac": 4}
REACH |= {"zergling": 2, "hydralisk": 5, "baneling": 2}
SLICE = ["3m", "MMM2", "1c3s5z", "2s_vs_1sc", "2m_vs_1z", "6h_vs_8z", "so_many_baneling"]
DRAWN = ["protoss_5_vs_5", "terran_10_vs_11", "zerg_10_vs_10"]


class Log(NamedTuple):
    """T steps of B worlds, [T, B, ...]; bodies come units last."""

    before: Any
    after: Any
    avail: Any
    reward: Any
    terminated: Any
    truncated: Any
    won: Any
    steps: Any
    """since the episode began, before the step"""


def roller(env, length):
    """`(state, keys [B]) -> (state, keys, Log)`: random legal play, every world's chance from its own key; who ends restarts."""
    worlds = env.batch()

    def step(carry, _):
        state, keys = carry
        keys, act, go, fresh = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 4))(keys), 1, 0)
        seen = worlds.observe(state)
        action = jax.vmap(jax.random.categorical)(act, jnp.where(seen.avail_actions, 0.0, -jnp.inf))
        after, out = worlds.step(state, action, go)
        n = keys.shape[0]
        bodies = [jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0)[:n], each.bodies) for each in (state, after)]
        log = Log(*bodies, seen.avail_actions, out.reward, out.terminated, out.truncated, out.info["won"], state.steps)
        return (worlds.where(out.terminated | out.truncated, worlds.reset(fresh), after), keys), log

    def roll(state, keys):
        (state, keys), log = jax.lax.scan(step, (state, keys), None, length=length)
        return state, keys, log

    return jax.jit(worlds.reset), jax.jit(roll)


def fact(env, log, fact):
    """A fact of every unit in every moment, [T, B, U], by name or as a function of the kind."""
    of = fact if callable(fact) else lambda kind: getattr(kind, fact)
    if isinstance(env.facts, FixedFacts):
        return np.broadcast_to([of(kind) for kind in env.facts.kinds], log.before.health.shape)
    return np.array([of(kind) for kind in env.facts.pool])[log.before.kind]


def most_reward(env, log):
    """What an episode pays at most, before scaling, [T, B]."""
    points = fact(env, log, "health") + fact(env, log, "shield")
    return points[..., env.spec.n_agents :].sum(-1) + 10 * env.facts.n_enemies + 200


def dead_and_bounds(env, log):
    heals = fact(env, log, "heal") > 0
    for now in (log.before, log.after):
        for points, most in ((now.health, fact(env, log, "health")), (now.shield, fact(env, log, "shield"))):
            assert (points >= 0).all() and (points <= most + EPS).all()
        low = -fact(env, log, "damage_point") * 16 - env.facts.loops_per_tick
        assert (now.cooldown >= low - EPS).all() and (now.cooldown <= fact(env, log, "period") * 16 + 2 + EPS).all()
        if now.energy is not None:
            assert (now.energy >= 0).all() and (now.energy <= 200).all()
            assert (now.energy[~heals] == 0).all()
        if now.pace is not None:
            assert (now.pace >= 0).all() and (now.pace <= fact(env, log, "speed") + EPS).all()
        if now.kind is not None:
            assert (now.kind == log.before.kind).all()
    stays = (log.before.health <= 0) | (fact(env, log, "speed") == 0)
    assert (log.after.health[log.before.health <= 0] == 0).all()
    assert (np.moveaxis(log.after.pos - log.before.pos, 2, -1)[stays] == 0).all()


def inside_the_ground(env, log):
    """No body overlaps a cell that it must not stand on. Prefix sums count the cells under a square."""
    flat = np.zeros((32, 32), bool)
    for x0, y0, x1, y1 in (*env.map.walkable, *env.map.passages):
        flat[x0:x1, y0:y1] = True
    rough = flat.copy()
    for x0, y0, x1, y1 in env.map.cliffs:
        rough[x0:x1, y0:y1] = True
    names = fact(env, log, lambda kind: kind.name)
    for unit, kind in [(each, kind) for each in range(env.facts.n_units) for kind in env.facts.ways(each)]:
        ground = np.ones((32, 32), bool) if kind.air else rough if kind.climbs else flat
        blocked = np.pad(np.cumsum(np.cumsum(~ground, axis=0), axis=1), ((1, 0), (1, 0)))
        x, y = np.moveaxis(log.after.pos[..., unit], 2, 0)[:, names[..., unit] == kind.name]
        half = kind.separation - EPS
        assert (x - half >= 0).all() and (y - half >= 0).all() and (x + half <= 32).all() and (y + half <= 32).all()
        x0, y0 = np.floor(x - half).astype(int), np.floor(y - half).astype(int)
        x1, y1 = np.ceil(x + half).astype(int), np.ceil(y + half).astype(int)
        assert (blocked[x1, y1] - blocked[x0, y1] - blocked[x1, y0] + blocked[x0, y0] == 0).all(), kind.name


def available_as_ruled(env, log):
    """SMAC's rules, agent by agent; places within a rounding error of a border are left out."""
    n, flies = env.spec.n_agents, fact(env, log, lambda kind: kind.name == "medivac")
    reach = fact(env, log, lambda kind: REACH[kind.name] if env.settings.unit_ranges else 6)
    cells = np.zeros((32, 32), bool)
    for x0, y0, x1, y1 in env.map.walkable:
        cells[x0:x1, y0:y1] = True
    pos, alive = np.moveaxis(log.before.pos, 2, -1).astype(np.float64), log.before.health > 0
    for agent in range(n):
        here, lives, avail = pos[:, :, agent], alive[:, :, agent], log.avail[:, :, agent]
        np.testing.assert_array_equal(avail[..., 0], ~lives)
        np.testing.assert_array_equal(avail[..., 1], lives)
        for move, (dx, dy) in enumerate([(0, 1), (0, -1), (1, 0), (-1, 0)]):
            x, y = here[..., 0] + dx, here[..., 1] + dy
            cell_x, cell_y = np.trunc(x).astype(int), np.trunc(y).astype(int)  # int() rounds towards 0
            on_map = (cell_x >= 0) & (cell_x < 32) & (cell_y >= 0) & (cell_y < 32)
            walkable = on_map & cells[cell_x.clip(0, 31), cell_y.clip(0, 31)]
            sure = (np.abs(x - x.round()) > 1e-4) & (np.abs(y - y.round()) > 1e-4)
            np.testing.assert_array_equal(avail[..., 2 + move][sure], (lives & walkable)[sure])
        for order in range(avail.shape[-1] - 6):
            expected, sure = np.zeros(lives.shape, bool), np.ones(lives.shape, bool)
            for unit, named in ((n + order, ~flies[..., agent]), (order, flies[..., agent])):
                if unit >= (n if unit == order else env.facts.n_units):
                    continue
                away = np.hypot(*np.moveaxis(pos[:, :, unit] - here, -1, 0))
                sure &= ~named | (np.abs(away - reach[..., agent]) > 1e-4)
                mendable = True if unit >= n else ~flies[..., unit]
                expected |= named & mendable & alive[:, :, unit] & (away <= reach[..., agent])
            np.testing.assert_array_equal(avail[..., 6 + order][sure], (lives & expected)[sure])


def rewards_and_ends(env, log, totals):
    """The reward of every step from the points before and after it, and no more over an episode than recovery explains."""
    facts, n, most = env.facts, env.spec.n_agents, most_reward(env, log)
    points = [now.health.astype(np.float64) + now.shield for now in (log.before, log.after)]
    kills = ((log.before.health > 0) & (log.after.health <= 0))[..., n:].sum(-1)
    harm = (points[0] - points[1])[..., n:].sum(-1) + 10 * kills
    expected = (np.abs(harm) if env.settings.reward_recovery else np.maximum(harm, 0)) + 200 * log.won
    np.testing.assert_allclose(log.reward, expected * 20 / most, atol=2e-3)
    fights = fact(env, log, "heal") == 0
    left = [((log.after.health > 0) & fights)[..., side].any(-1) for side in (facts.allies, facts.enemies)]
    np.testing.assert_array_equal(log.terminated, ~left[0] | ~left[1])
    np.testing.assert_array_equal(log.won, left[0] & ~left[1])
    np.testing.assert_array_equal(log.truncated, ~log.terminated & (log.steps + 1 >= env.map.limit))
    alive = log.before.health[..., n:] > 0
    gain = (fact(env, log, "shield") > 0) * 1.0 + fact(env, log, "regen") / 2 + fact(env, log, "heal") / 2
    recovery = (alive * gain[..., n:]).sum(-1) * 40 / most  # it pays as such, and when it is lost again
    over = log.terminated | log.truncated
    for t in range(len(over)):
        totals += np.stack([log.reward[t], recovery[t]])
        assert (totals[0] <= 20 + totals[1] + EPS).all()
        totals[:, over[t]] = 0
    return int(over.sum())


def check_map(name, n_worlds, length, chunks, key):
    """All of the above for `n_worlds * length * chunks` steps; the same worlds, backwards, must fare the same.

    Returns how many episodes ended.
    """
    env = make(name)
    reset, roll = roller(env, length)
    keys = jax.random.split(key, n_worlds)
    state, turned_keys = reset(keys), keys[::-1]
    turned = reset(turned_keys)
    totals, episodes = np.zeros((2, n_worlds)), 0
    for _ in range(chunks):
        state, keys, log = roll(state, keys)
        turned, turned_keys, again = roll(turned, turned_keys)
        log, again = jax.tree.map(np.asarray, (log, again))
        for a, b in zip(jax.tree.leaves(log), jax.tree.leaves(again), strict=True):
            np.testing.assert_array_equal(a, b[:, ::-1])
        dead_and_bounds(env, log)
        inside_the_ground(env, log)
        available_as_ruled(env, log)
        episodes += rewards_and_ends(env, log, totals)
    return episodes


@pytest.mark.parametrize("name", gated(SLICE + DRAWN, "MMM2", "6h_vs_8z", "protoss_5_vs_5"))
def test_a_little_random_play_keeps_all_rules(name):
    assert check_map(name, 16, 100, 1, jax.random.key(7)) > 0 or make(name).map.limit > 100


if __name__ == "__main__":
    for each in sys.argv[1:] or MAPS:
        start = time.monotonic()
        played = check_map(each, 64, 125, 5, jax.random.key(0))
        print(f"{each}: {64 * 125 * 5} steps, {played} episodes, all rules kept, {time.monotonic() - start:.0f} s", flush=True)
