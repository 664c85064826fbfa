"""Whole battles: what holds for every map, and whether fighting well is worth it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.envs.base import AutoReset, NativelyBatched
from limbeck.envs.smac import make, world

NAMES = ["3m", "8m", "2s3z", "3s5z", "3s_vs_5z", "5m_vs_6m", "3s5z_vs_3s6z", "6h_vs_8z", "3s_vs_8z", "3s5z_vs_3s7z"]


def random_actions(key, avail):
    """Any available action, [B, N]."""
    return jax.random.categorical(key, jnp.where(avail, 0.0, -jnp.inf))


def passive(_env, _state, seen, _key):
    """Stand and suffer."""
    return jnp.where(seen.alive, 1, 0)


def at_random(_env, _state, seen, key):
    return random_actions(key, seen.avail_actions)


def focus_fire(env, state, seen, _key):
    """Attack the weakest attackable enemy; walk towards the nearest one if there is none."""
    now, allies, enemies = state.bodies, env.facts.allies, env.facts.enemies
    apart = now.pos[:, None, enemies] - now.pos[:, allies, None]
    distance = jnp.where(now.health[None, enemies] > 0, jnp.hypot(apart[0], apart[1]), 1e6)
    near = distance.argmin(axis=1)
    x, y = (jnp.take_along_axis(axis, near[:, None], axis=1)[:, 0] for axis in apart)
    walk = jnp.where(jnp.abs(x) > jnp.abs(y), jnp.where(x > 0, 4, 5), jnp.where(y > 0, 2, 3)).T
    open_attacks = seen.avail_actions[:, :, 6:]
    weak = jnp.where(open_attacks, (now.health + now.shield)[enemies].T[:, None], 1e6).argmin(axis=2)
    can_walk = jnp.take_along_axis(seen.avail_actions, walk[..., None], axis=2)[..., 0]
    action = jnp.where(open_attacks.any(axis=2), 6 + weak, jnp.where(can_walk, walk, 1))
    return jnp.where(seen.alive, action, 0)


def play(env, policy, n_worlds, key):
    """One episode per world: (won, return, length, outcome at its end), each [B]."""
    worlds = env.batch()

    def step(carry, key):
        state, over, won, total, length, killed = carry
        key_act, key_step = jax.random.split(key)
        action = policy(env, state, worlds.observe(state), key_act)
        state, out = worlds.step(state, action, jax.random.split(key_step, n_worlds))
        won = won | (~over & out.info["won"])
        total = total + jnp.where(over, 0.0, out.reward)
        killed = jnp.where(over, killed, out.info["dead_allies"])
        return (state, over | out.terminated | out.truncated, won, total, length + ~over, killed), None

    @jax.jit
    def episode(key):
        key_reset, key_play = jax.random.split(key)
        state = worlds.reset(jax.random.split(key_reset, n_worlds))
        flag, count = jnp.zeros(n_worlds, bool), jnp.zeros(n_worlds, jnp.int32)
        start = (state, flag, flag, jnp.zeros(n_worlds), count, count)
        return jax.lax.scan(step, start, jax.random.split(key_play, env.spec.episode_limit))[0]

    _, over, won, total, length, killed = episode(key)
    assert bool(over.all())
    return tuple(np.array(x) for x in (won, total, length, killed))


@pytest.mark.parametrize("name", NAMES)
def test_random_play_keeps_the_rules(name, key):
    env, n_worlds, n_steps = make(name), 16, 200
    assert isinstance(env, NativelyBatched)
    worlds, facts = env.batch(), env.facts
    most = np.stack([facts.column("health"), facts.column("shield")])[:, :, None]
    margin = facts.column("separation")[:, None]

    def step(carry, key):
        state, keys = carry
        seen = worlds.observe(state)
        key_act, key_step, key_reset = jax.random.split(key, 3)
        action = random_actions(key_act, seen.avail_actions)
        after, out = worlds.step(state, action, jax.random.split(key_step, n_worlds))
        x, y = after.bodies.pos
        inside = [
            (x >= x0 + margin - 1e-4) & (x <= x1 - margin + 1e-4) & (y >= y0 + margin - 1e-4) & (y <= y1 - margin + 1e-4)
            for x0, y0, x1, y1 in env.map.walkable
        ]
        points = jnp.stack([after.bodies.health, after.bodies.shield])
        dead = state.bodies.health <= 0
        facts_of_play = {
            "points in bounds": ((points >= 0) & (points <= most)).all(),
            "dead stay dead": (jnp.where(dead, after.bodies.health, 0) == 0).all(),
            "dead stay put": jnp.where(dead[None], after.bodies.pos == state.bodies.pos, True).all(),
            "on walkable ground": jnp.stack(inside).any(axis=0).all(),
            "never both ends": ~(out.terminated & out.truncated).any(),
            "dead only do nothing": (seen.avail_actions[..., 0] == ~seen.alive).all()
            & ~(seen.avail_actions[..., 1:] & ~seen.alive[..., None]).any(),
            "living can stop": (seen.avail_actions[..., 1] == seen.alive).all(),
            "dead see nothing": jnp.where(seen.alive[..., None], 0, seen.obs).sum() == 0,
            "unit scale": (jnp.abs(seen.obs).max() <= 2) & (jnp.abs(seen.state).max() <= 2),
            "reward in bounds": (out.reward >= 0).all() & (out.reward <= 20).all(),
            "finite": jnp.isfinite(out.reward).all() & jnp.isfinite(seen.obs).all() & jnp.isfinite(seen.state).all(),
            "win means no enemy": (~out.info["won"] | (out.info["dead_enemies"] == facts.n_enemies)).all(),
        }
        over = out.terminated | out.truncated
        state = worlds.where(over, worlds.reset(jax.random.split(key_reset, n_worlds)), after)
        return (state, keys), (facts_of_play, over.sum(), out.reward.sum())

    @jax.jit
    def run(key):
        state = worlds.reset(jax.random.split(key, n_worlds))
        return jax.lax.scan(step, (state, key), jax.random.split(key, n_steps))[1]

    held, episodes, reward = run(key)
    assert {fact for fact, always in held.items() if not bool(always.all())} == set()
    assert int(episodes.sum()) >= n_worlds
    assert float(reward.sum()) > 0


@pytest.mark.parametrize("name", ["3m", "2s3z", "6h_vs_8z"])
def test_one_world_equals_the_batch_and_order_changes_nothing(name, key):
    env, n_worlds, n_steps = make(name), 5, 25
    worlds = env.batch()
    keys = jax.random.split(key, n_worlds)

    @partial(jax.jit, static_argnums=(0, 1, 2))
    def roll(reset, step, observe, keys):
        def body(carry, salt):
            state, keys = carry
            seen = observe(state)
            action = jnp.where(seen.alive, 1 + (jnp.arange(env.spec.n_agents) + salt) % 5, 0)
            action = jnp.where(jnp.take_along_axis(seen.avail_actions, action[..., None], -1)[..., 0], action, 1)
            action = jnp.where(seen.avail_actions[..., 6:].any(-1), 6 + seen.avail_actions[..., 6:].argmax(-1), action)
            state, out = step(state, action, keys)
            return (state, keys), (seen, out)

        return jax.lax.scan(body, (reset(keys), keys), jnp.arange(n_steps))[1]

    with jax.numpy_rank_promotion("allow"):
        many = roll(worlds.reset, worlds.step, worlds.observe, keys)
        turned = roll(worlds.reset, worlds.step, worlds.observe, keys[::-1])
        mapped = roll(jax.vmap(env.reset), jax.vmap(env.step), jax.vmap(env.observe), keys)
        one = roll(env.reset, env.step, env.observe, keys[2])
    for a, b, c, d in zip(*(jax.tree.leaves(run) for run in (many, turned, mapped, one)), strict=True):
        np.testing.assert_array_equal(a, b[:, ::-1])
        np.testing.assert_allclose(a, c, atol=2e-4)
        np.testing.assert_allclose(a[:, 2], d, atol=2e-4)


def test_worlds_that_are_stepped_some_at_a_time_are_the_same_worlds(key, monkeypatch):
    def play():
        loop = AutoReset(make("3m"))

        def body(at, _):
            running, seen = at
            running, out, seen = loop.step(running, seen.avail_actions.argmax(-1))
            return (running, seen), (seen, out)

        (running, _), after = jax.jit(lambda keys: jax.lax.scan(body, loop.reset(keys), None, length=3))(jax.random.split(key, 6))
        return running.state.steps, after

    steps, together = play()
    monkeypatch.setattr(world.Smac, "worlds_at_once", 2)
    steps_apart, apart = play()
    assert steps.shape == (6,) and steps_apart.shape == (3, 2)
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_same_key_same_episode_other_key_another(key):
    env = make("3s5z")
    loop = AutoReset(env)

    @jax.jit
    def run(keys):
        def body(carry, _):
            running, seen = carry
            action = jnp.where(seen.avail_actions[..., 6:].any(-1), 6 + seen.avail_actions[..., 6:].argmax(-1), seen.alive * 1)
            running, out, seen = loop.step(running, action)
            return (running, seen), (seen.state, out.reward)

        return jax.lax.scan(body, loop.reset(keys), None, length=40)[1]

    keys = jax.random.split(key, 3)
    first, second = run(keys), run(keys)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)
    states = np.array(first[0])
    assert np.abs(states[0, 0] - states[0, 1]).max() > 1e-3  # episodes start differently
    assert np.abs(states[20, 1] - states[20, 2]).max() > 1e-3


@pytest.mark.parametrize("name", ["3m", "3s_vs_5z", "6h_vs_8z", "2s3z", "protoss_5_vs_5"])
def test_the_opponent_comes_and_kills_the_passive(name, key):
    won, total, length, killed = play(make(name), passive, 16, key)
    assert not won.any()
    np.testing.assert_array_equal(killed, make(name).spec.n_agents)
    np.testing.assert_array_equal(total, 0)
    assert (length < make(name).spec.episode_limit).all()


def test_focus_fire_beats_random(key):
    for name in ("8m", "2s3z"):
        env = make(name)
        skilled, random = (play(env, policy, 64, key) for policy in (focus_fire, at_random))
        assert skilled[0].mean() > 0.25
        assert random[0].mean() < 0.1
        assert skilled[1].mean() > random[1].mean() + 5
        # A won battle pays 20, and more only where enemies recovered something.
        wins = skilled[1][skilled[0]]
        assert (wins > 19.99).all() and (wins < 20.01 if name == "8m" else wins < 23).all()
        assert (skilled[1] < 23).all()


def kite(env, state, seen, _key):
    """Shoot when the weapon is ready and nobody is near; else run away from the enemies and from the map's edge."""
    now, allies, enemies = state.bodies, env.facts.allies, env.facts.enemies
    alive = now.health[enemies] > 0
    apart = now.pos[:, None, enemies] - now.pos[:, allies, None]
    distance = jnp.where(alive[None], jnp.hypot(apart[0], apart[1]), 1e3)
    nearest, target = distance.min(axis=1), distance.argmin(axis=1)
    ahead = now.pos[:, allies, None] + 3 * np.array([[0, 0, 1, -1], [1, -1, 0, 0]], np.float32)[:, None, :, None]
    threat = jnp.where(alive, 1 / (jnp.hypot(*(ahead[:, :, :, None] - now.pos[:, None, None, enemies])) + 0.1) ** 2, 0.0).sum(
        axis=2
    )
    edge = jnp.minimum(ahead, 32 - ahead).min(axis=0)
    cost = threat + 0.05 * jnp.maximum(6 - edge, 0)
    moves = seen.avail_actions[:, :, 2:6]
    flee = 2 + jnp.where(moves, jnp.moveaxis(cost, -1, 0), jnp.inf).argmin(axis=2)
    approach = 2 + jnp.where(moves, jnp.moveaxis(threat, -1, 0), -jnp.inf).argmax(axis=2)
    target, nearest, cooldown = target.T, nearest.T, now.cooldown[allies].T
    can = jnp.take_along_axis(seen.avail_actions, 6 + target[..., None], axis=2)[..., 0]
    action = jnp.where(nearest < 5.5, flee, jnp.where(can, 6 + target, approach))
    action = jnp.where(can & (cooldown <= 2) & (nearest > 2.4), 6 + target, action)
    return jnp.where(seen.alive, action, 0)


def test_stalkers_beat_more_zealots_by_kiting_only(key):
    env = make("3s_vs_5z")
    kiting, standing = (play(env, policy, 64, key) for policy in (kite, focus_fire))
    assert kiting[0].mean() > 0.9
    assert standing[0].mean() < 0.1
    assert kiting[2].mean() > 100  # it takes long


@pytest.mark.parametrize("name", NAMES)
def test_units_start_apart_and_in_order(name):
    env = make(name)
    state = jax.jit(env.batch().reset)(jax.random.split(jax.random.key(0), 32))
    x, y = np.array(state.bodies.pos)
    gap = np.hypot(x[:, None] - x[None], y[:, None] - y[None])
    width = env.facts.column("separation")
    touching = gap < (width[:, None] + width[None])[:, :, None] - 0.02
    assert not (touching & ~np.eye(len(x), dtype=bool)[:, :, None]).any()
    kinds = [kind.name for kind in env.facts.kinds]
    for unit in range(len(x) - 1):
        same = kinds[unit] == kinds[unit + 1] and unit + 1 != env.spec.n_agents
        assert not same or (x[unit] <= x[unit + 1] + 1e-5).all()
