"""Combat arithmetic, reward and the end of an episode, with numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limbeck.envs.smac import SmacSettings, engine, make
from limbeck.envs.smac.units import LADDER, LIBERTY, hit_damage

FAR = [(31, 1), (31, 3), (31, 5), (31, 7), (31, 9)]


def staged(env, ally_at, enemy_at, **bodies):
    """Everybody at a hand-picked place, in full health unless said otherwise."""
    state = env.reset(jax.random.key(0))
    pos = np.array([*ally_at, *enemy_at], np.float32).T
    changed = {name: jnp.asarray(np.array(value), getattr(state.bodies, name).dtype) for name, value in bodies.items()}
    return state._replace(bodies=state.bodies._replace(pos=jnp.asarray(pos), **changed))


def hits(env, attackers, target, health=None, shield=None):
    """Health and shield of enemy `target` after the allies `attackers` have hit it in one tick."""
    now = env.reset(jax.random.key(0)).bodies
    victim = env.spec.n_agents + target
    if health is not None:
        now = now._replace(health=now.health.at[victim].set(health))
    if shield is not None:
        now = now._replace(shield=now.shield.at[victim].set(shield), unhurt=jnp.full_like(now.unhurt, 99.0))
    struck = np.zeros(env.facts.n_units, bool)
    struck[attackers] = True
    now = now._replace(target=jnp.full_like(now.target, target))
    after = engine.damage(env.facts, now, engine.aims(env.facts, now), jnp.asarray(struck))
    return float(after[0][victim]), float(after[1][victim]), float(after[2][victim])


def test_balance_tables():
    damage = {(a, t): hit_damage(LIBERTY[a], LIBERTY[t]) for a in LIBERTY for t in LIBERTY}
    assert damage["stalker", "stalker"] == 14 and damage["stalker", "zealot"] == 10
    assert damage["marauder", "marauder"] == 20 and damage["marauder", "marine"] == 10
    assert hit_damage(LADDER["stalker"], LADDER["marauder"]) == 18 and hit_damage(LADDER["stalker"], LADDER["zergling"]) == 13
    assert (LADDER["hydralisk"].health, LIBERTY["hydralisk"].health) == (90, 80)
    assert LADDER["stalker"].period == 1.87


# In 2s3z, allies and enemies are stalkers 0 and 1 and zealots 2 to 4; stalkers and zealots have armour 1, shields have none.
@pytest.mark.parametrize(
    ("balance", "attackers", "target", "health", "shield", "expected"),
    [
        ("liberty", [0], 0, 80, 80, (80, 66)),  # 10 + 4 against armoured
        ("liberty", [0], 2, 100, 50, (100, 40)),
        ("liberty", [0], 0, 80, 5, (72, 0)),  # 14 - 5 - 1
        ("liberty", [2], 2, 100, 0, (93, 0)),  # 8 - 1
        ("liberty", [2, 3], 2, 100, 10, (95, 0)),  # 8 by the shield; then 2 by the shield and 6 - 1 by life
        ("liberty", [2], 2, 100, 7.5, (99.5, 0)),  # 0.5 gets through, less armour, but never less than 0.5
        ("liberty", [2], 2, 100, 8, (100, 0)),  # all of it in the shield
        ("liberty", [0, 1], 2, 12, 0, (0, 0)),  # not below 0
        ("ladder", [0], 0, 80, 80, (80, 62)),  # 13 + 5
        ("ladder", [0], 2, 100, 3, (91, 0)),  # 13 - 3 - 1
    ],
)
def test_shield_first_then_armour(balance, attackers, target, health, shield, expected):
    env = make("2s3z", SmacSettings(balance=balance))
    *left, unhurt = hits(env, attackers, target, health, shield)
    assert tuple(left) == pytest.approx(expected)
    assert unhurt == 160  # loops until the shield recovers: 10 s


def duel(env, ally_at, enemy_at, steps):
    """One unit against one that will not die, for `steps`; returns (damage dealt, damage taken)."""
    n, e = env.spec.n_agents, env.facts.n_enemies
    health = np.zeros(n + e)
    health[0] = health[n] = 30_000
    state = staged(env, [ally_at] * n, [enemy_at] * e, health=health, shield=np.zeros(n + e))
    action = jnp.array([6] + [0] * (n - 1))

    @jax.jit
    def play(state):
        return jax.lax.scan(lambda s, k: (env.step(s, action, k)[0], None), state, jax.random.split(jax.random.key(1), steps))[0]

    after = play(state).bodies.health
    return 30_000 - float(after[0]), 30_000 - float(after[n])


def test_rate_of_fire():
    """The mean cycle is the period and half a loop, because the random delay is uniform in -1 .. 2 loops."""
    loops = 400 * 8
    taken, dealt = duel(make("3m"), (10, 16), (13, 16), 400)
    assert dealt / 6 == pytest.approx(loops / (0.8608 * 16 + 0.5), rel=0.02)
    assert taken / 6 == pytest.approx(loops / (0.8608 * 16 + 0.5), rel=0.02)
    taken, dealt = duel(make("3s_vs_5z"), (10, 16), (11.05, 16), 400)
    assert dealt / 9 == pytest.approx(loops / (1.44 * 16 + 0.5), rel=0.02)
    assert taken / 7 == pytest.approx(2 * loops / (1.2 * 16 + 0.5), rel=0.02)  # two strikes per cycle


def test_range_is_measured_from_edge_to_edge():
    env = make("3m")  # range 5, bodies 0.375: reach 5.75
    for gap, hurts in ((5.7, True), (5.8, False)):
        health = np.array([45, 0, 0, 45, 0, 0])
        state = staged(env, [(10, 16)] * 3, [(10 + gap, 16)] * 3, health=health)
        aimed = state.bodies._replace(target=jnp.array([0, -1, -1, -1, -1, -1]))
        engaged = engine.engages(env.facts, aimed, engine.aims(env.facts, aimed))
        assert bool(engaged[0]) is hurts


def test_moving_covers_speed_times_half_a_second_and_stays_on_the_map():
    env = make("3s_vs_5z")
    step = jax.jit(env.step)
    state = staged(env, [(10, 16), (10, 20), (1, 16)], FAR)
    after, _ = step(state, jnp.array([4, 2, 5]), jax.random.key(0))
    np.testing.assert_allclose(after.bodies.pos[:, 0], [10 + 2.9531 / 2, 16], atol=1e-4)
    np.testing.assert_allclose(after.bodies.pos[:, 1], [10, 20 + 2.9531 / 2], atol=1e-4)
    np.testing.assert_allclose(after.bodies.pos[:, 2], [0.625, 16], atol=1e-4)  # the body ends at the edge


def test_shields_recover_after_ten_seconds():
    env = make("3s_vs_5z")
    shield = env.facts.column("shield").copy()
    shield[0], shield[1] = 10, 79.5
    state = staged(env, [(5, 28), (5, 25), (2, 28)], FAR, shield=shield, unhurt=[8, 0, 0, 0, 0, 0, 0, 0])
    step = jax.jit(env.step)
    once, _ = step(state, jnp.ones(3, int), jax.random.key(0))
    twice, _ = step(once, jnp.ones(3, int), jax.random.key(1))
    np.testing.assert_allclose(once.bodies.shield[:2], [10, 80], atol=1e-4)
    np.testing.assert_allclose(twice.bodies.shield[:2], [11, 80], atol=1e-4)  # 2 per second


def test_reward_by_hand():
    env = make("3s_vs_5z")  # best reward 1000, so rewards are divided by 50
    step = jax.jit(env.step)
    allies = [(5, 28), (5, 25), (2, 28)]
    stop, shoot = jnp.ones(3, int), jnp.array([6, 1, 1])
    # Nothing happens.
    _, out = step(staged(env, allies, FAR), stop, jax.random.key(0))
    assert float(out.reward) == 0
    # Shields that recover pay: 5 zealots regain 1 point each.
    shield = np.array([80, 80, 80, 30, 30, 30, 30, 30])
    _, out = step(staged(env, allies, FAR, shield=shield), stop, jax.random.key(0))
    assert float(out.reward) == pytest.approx(5 / 50, abs=1e-5)
    # A hit on a shield: 10.
    close = [(9, 28), *FAR[1:]]
    _, out = step(staged(env, allies, close), shoot, jax.random.key(0))
    assert float(out.reward) == pytest.approx(10 / 50, abs=1e-5)
    # A kill: what was left of it, and 10.
    health, shield = env.facts.column("health").copy(), env.facts.column("shield").copy()
    health[3], shield[3] = 4, 0
    after, out = step(staged(env, allies, close, health=health, shield=shield, unhurt=[99] * 8), shoot, jax.random.key(0))
    assert float(out.reward) == pytest.approx((4 + 10) / 50, abs=1e-5)
    assert not out.terminated and int(out.info["dead_enemies"]) == 1 and bool(after.attacked[0])
    # The last kill: a win.
    health[4:] = 0
    _, out = step(staged(env, allies, close, health=health, shield=shield, unhurt=[99] * 8), shoot, jax.random.key(0))
    assert float(out.reward) == pytest.approx((4 + 10 + 200) / 50, abs=1e-5)
    assert out.terminated and out.info["won"] and not out.truncated


def test_reward_options():
    health = make("3m").facts.column("health").copy()
    health[:] = [3, 0, 0, 45, 45, 0]  # the last marine is about to die

    def outcome(**options):
        env = make("3m", SmacSettings(**options))
        places = [(10, 16), (1, 9), (1, 10)], [(14, 16), (14, 17), (1, 23)]
        state = staged(env, *places, health=health)
        state = state._replace(bodies=state.bodies._replace(target=jnp.array([-1, -1, -1, 0, 0, -1])))
        return jax.jit(env.step)(state, jnp.array([1, 0, 0]), jax.random.key(0))[1]

    lost = outcome()
    assert lost.terminated and not lost.info["won"] and not lost.truncated and float(lost.reward) == 0
    assert float(outcome(reward_defeat=-7.0, reward_scale=False).reward) == -7
    assert float(outcome(reward_only_positive=False, reward_scale=False).reward) == pytest.approx(-0.5 * (3 + 10))
    assert float(outcome(reward_sparse=True).reward) == -1


def test_the_limit_truncates():
    env = make("3m")
    step = jax.jit(env.step)
    state = staged(env, [(1, 9), (1, 10), (1, 11)], [(31, 23), (31, 22), (31, 21)])
    _, before = step(state._replace(steps=jnp.int32(58)), jnp.ones(3, int), jax.random.key(0))
    _, at = step(state._replace(steps=jnp.int32(59)), jnp.ones(3, int), jax.random.key(0))
    assert not before.truncated and not before.terminated
    assert at.truncated and not at.terminated and not at.info["won"]


def test_a_fight_that_ends_at_the_limit_is_no_truncation():
    env = make("3m")
    health = np.array([45, 45, 45, 0, 0, 0])
    state = staged(env, [(1, 9), (1, 10), (1, 11)], [(31, 23), (31, 22), (31, 21)], health=health)
    _, out = jax.jit(env.step)(state._replace(steps=jnp.int32(59)), jnp.ones(3, int), jax.random.key(0))
    assert out.terminated and out.info["won"] and not out.truncated


def test_a_draw_is_neither_won_nor_lost():
    env = make("3m")
    state = staged(env, [(1, 9)] * 3, [(31, 23)] * 3, health=np.zeros(6))
    _, out = jax.jit(env.step)(state, jnp.zeros(3, int), jax.random.key(0))
    assert out.terminated and not out.info["won"] and float(out.reward) == 0


def test_opponents_answer_whoever_hits_them():
    """A zealot scans 5 from edge to edge, 6.125 from a stalker; a stalker's shot reaches 7.125."""
    env = make("3s_vs_5z")
    step = jax.jit(env.step)
    state = staged(env, [(10, 28), (1, 28), (1, 25)], [(16.8, 28), *FAR[1:]])
    passed, _ = step(state, jnp.ones(3, int), jax.random.key(0))
    angered, _ = step(state, jnp.array([6, 1, 1]), jax.random.key(0))
    assert int(passed.bodies.target[3]) == -1
    assert int(angered.bodies.target[3]) == 0
    helped, _ = step(
        staged(env, [(10, 28), (1, 28), (1, 25)], [(16.8, 28), (19.8, 28), *FAR[2:]]), jnp.array([6, 1, 1]), jax.random.key(0)
    )
    np.testing.assert_array_equal(helped.bodies.target[3:6], [0, 0, -1])


def test_snapshot():
    env = make("3m")
    state = staged(env, [(10, 16), (1, 9), (1, 10)], [(14, 16), (31, 23), (31, 22)])
    after, _ = jax.jit(env.step)(state, jnp.array([6, 1, 1]), jax.random.key(0))
    picture = env.snapshot(after)
    assert int(picture.target[0]) == 3 and int(picture.target[1]) == -1 and int(picture.target[3]) == 0
    np.testing.assert_array_equal(picture.team, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(picture.max_health, 45)
    assert float(picture.health[3]) < 45
