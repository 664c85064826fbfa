"""Battles whose armies are drawn: sizes, chances and places as published; the engine's rules on them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gated

from limbeck.envs import registry
from limbeck.envs.smac import SKIRMISHES, BattleMap, Skirmish, SkirmishSettings, Smac, SmacSettings, add_map, make
from limbeck.envs.smac.atlas import map_svg
from limbeck.envs.smac.drawn import DrawnFacts
from limbeck.envs.smac.render import Film, Sheet, render_html
from limbeck.errors import BadSetting, LimbeckError

RACES = {
    "protoss": ("stalker", "zealot", "colossus"),
    "terran": ("marine", "marauder", "medivac"),
    "zerg": ("zergling", "hydralisk", "baneling"),
}
SIZES = [(5, 5), (10, 10), (10, 11), (20, 20), (20, 23)]
WORLDS = 2048


def drawn(name, **settings):
    """The names [U, B] and places [2, U, B] of many new episodes."""
    env = make(name, SkirmishSettings(**settings))
    bodies = jax.jit(env.batch().reset)(jax.random.split(jax.random.key(5), WORLDS)).bodies
    names = np.array([kind.name for kind in env.facts.pool])[np.array(bodies.kind)]
    return env, names, np.array(bodies.pos)


def surrounded(env, pos):
    """Which episodes begin with the agents around the middle of the map."""
    return (np.abs(pos[:, : env.spec.n_agents] - 16).max(axis=(0, 1)) < 5.5) & (pos[0, : env.spec.n_agents].max(axis=0) > 16)


@pytest.mark.parametrize("race", RACES)
def test_sizes_are_the_published_ones(race):
    shield, names = race == "protoss", sorted(SKIRMISHES)
    assert [f"{race}_{n}_vs_{e}" in names for n, e in SIZES] == [True] * 5 and len(names) == 15
    for n, e in SIZES:
        spec = make(f"{race}_{n}_vs_{e}").spec
        assert (spec.n_agents, spec.n_actions, spec.episode_limit) == (n, 6 + e, 200)
        # Others: visible or attackable, distance, x, y, health, three kinds; oneself: health, place, three kinds; four moves.
        assert spec.obs_dim == 4 + (e + n - 1) * (8 + shield) + 6 + shield
        assert spec.state_dim == n * (7 + shield) + e * (6 + shield) + n * (6 + e)
        assert (len(spec.state_slots), len(spec.other_slots)) == (n, e)
    assert make("protoss_5_vs_5").spec.obs_dim == 92 and make("terran_5_vs_5").spec.state_dim == 120


@pytest.mark.parametrize(
    ("name", "company"), [("protoss_5_vs_5", None), ("terran_10_vs_11", "medivac"), ("zerg_10_vs_10", "baneling")]
)
def test_kinds_appear_by_their_weights_and_both_armies_are_the_same(name, company):
    env, names, pos = drawn(name)
    n = env.spec.n_agents
    for kind, share in zip(RACES[name.split("_")[0]], (0.45, 0.45, 0.1), strict=True):
        assert (names[:n] == kind).mean() == pytest.approx(share, abs=0.02)
    further = env.facts.n_enemies - n
    for kind in RACES[name.split("_")[0]]:
        more = (names[n:] == kind).sum(axis=0) - (names[:n] == kind).sum(axis=0)
        assert ((more >= 0) & (more <= further)).all()
        assert not (more.any() if kind == company else False), "one further enemy is never company alone"
    for side in (slice(0, n), slice(n, None)):  # numbered by the alphabet of their kinds, then x
        same = names[side][:-1] == names[side][1:]
        assert (names[side][:-1] <= names[side][1:]).all()
        assert (~same | (pos[0, side][:-1] <= pos[0, side][1:])).all()


def test_no_team_is_company_alone():
    env, names, _ = drawn("terran_5_vs_5", weights=(0.1, 0.1, 0.8))
    medivacs = (names[: env.spec.n_agents] == "medivac").sum(axis=0)
    assert medivacs.max() == 4
    # As if teams of five medivacs were drawn again: P(k) is binomial, without k = 5.
    share = 5 * 0.8**4 * 0.2 / (1 - 0.8**5)
    assert (medivacs == 4).mean() == pytest.approx(share, abs=0.04)
    assert (drawn("zerg_5_vs_5", weights=(2, 0, 0))[1] == "zergling").all()


def test_agents_are_surrounded_by_groups_on_diagonals():
    env, _, pos = drawn("terran_10_vs_11", positions="surrounded")
    assert surrounded(env, pos).all()
    groups = np.array([len({tuple(quarter) for quarter in np.sign(each - 16).T}) for each in np.moveaxis(pos[:, 10:], -1, 0)])
    assert set(groups) == {1, 2, 3, 4} and (groups == 1).mean() == pytest.approx(0.25, abs=0.03)
    distance = np.hypot(*(pos[:, 10:] - 16))
    assert distance.min() > 1.5 and distance.max() > 19 and 9 < np.median(distance) < 16


def test_armies_are_reflected_in_the_middle_of_the_map():
    env, names, pos = drawn("protoss_5_vs_5", positions="reflected")
    west, east = pos[:, :5], pos[:, 5:]
    assert west[0].max() < 16 < east[0].min() and west[1].min() < 2 and west[1].max() > 30
    for kind in ("stalker", "zealot", "colossus"):  # the order by x is turned, so compare what does not depend on it
        a, b = names[:5] == kind, names[5:] == kind
        np.testing.assert_allclose((west[0] * a).sum(axis=0) + (east[0] * b).sum(axis=0), 32 * a.sum(axis=0), atol=1e-3)
        np.testing.assert_allclose((west[1] * a).sum(axis=0), (east[1] * b).sum(axis=0), atol=1e-3)
    assert not surrounded(env, pos).mean() > 0.02


def test_either_way_half_of_the_time():
    env, _, pos = drawn("zerg_10_vs_10")
    assert surrounded(env, pos).mean() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("name", ["protoss_20_vs_23", "terran_5_vs_5", "zerg_20_vs_20"])
def test_units_start_apart(name):
    env, names, pos = drawn(name)
    width = {kind.name: kind.separation * (1 if not kind.air else -1) for kind in env.facts.pool}
    width = np.vectorize(width.get)(names)
    gap = np.hypot(*(pos[:, :, None] - pos[:, None])) - np.abs(width[:, None]) - np.abs(width[None])
    gap[np.eye(len(names), dtype=bool)] = 1
    worst = np.where(np.sign(width[:, None]) == np.sign(width[None]), gap, 1).min(axis=(0, 1))
    assert (worst < -0.05).mean() < 0.05 and worst.min() > -0.75


@pytest.mark.parametrize("race", gated(RACES, "protoss"))
def test_it_is_fought_as_the_same_battle_on_a_map(race):
    env = make(f"{race}_5_vs_5")
    bodies = jax.jit(env.batch().reset)(jax.random.split(jax.random.key(1), 256)).bodies
    kind, pos = np.array(bodies.kind), np.array(bodies.pos)
    near = np.hypot(*(pos[:, 5:].min(axis=1) - pos[:, :5].mean(axis=1))) < 9
    all_kinds = np.array([(kind == index).any(axis=0) for index in range(3)]).all(axis=0)
    world = int(np.flatnonzero(near & all_kinds)[0])
    state = jax.jit(env.reset)(jax.random.split(jax.random.key(1), 256)[world])
    kinds = [env.facts.pool[index].name for index in kind[:, world]]
    sides = [tuple((name, kinds[side].count(name)) for name in dict.fromkeys(kinds[side])) for side in (slice(5), slice(5, 10))]
    goal = tuple(map(float, state.march))
    battle = BattleMap(*sides, limit=200, attack_point=goal, hunts=True, walkable=((0, 0, 32, 32),))
    twin = Smac("twin", SmacSettings(unit_ranges=True, reward_recovery=False), battle)
    other = twin.reset(jax.random.key(0))
    alike = {field: value for field, value in state.bodies._asdict().items() if getattr(other.bodies, field) is not None}
    other = other._replace(bodies=other.bodies._replace(**alike))
    steps, other_steps = jax.jit(env.step), jax.jit(twin.step)
    seen = jax.jit(lambda a, b: (env.observe(a), twin.observe(b)))
    for key in jax.random.split(jax.random.key(2), 24):
        mine, its = seen(state, other)
        np.testing.assert_array_equal(mine.avail_actions, its.avail_actions[:, : env.spec.n_actions])
        action = jnp.where(mine.avail_actions[:, 6:].any(-1), 6 + mine.avail_actions[:, 6:].argmax(-1), 1) * mine.alive
        (state, outcome), (other, its_outcome) = steps(state, action, key), other_steps(other, action, key)
        for field in ("pos", "health", "shield", "cooldown", "target"):
            np.testing.assert_allclose(getattr(state.bodies, field), getattr(other.bodies, field), atol=1e-3, err_msg=field)
        assert float(outcome.reward) == pytest.approx(float(its_outcome.reward), abs=1e-4)
        assert bool(outcome.terminated) == bool(its_outcome.terminated)
        if outcome.terminated:
            break
    assert float(state.bodies.health.sum()) < float(bodies.health[:, world].sum()), "somebody was hurt"


def staged(env, kinds, places, **bodies):
    """A state with hand-picked kinds and places."""
    names = [kind.name for kind in env.facts.pool]
    state = jax.jit(env.reset)(jax.random.key(0))
    kind = jnp.array([names.index(each) for each in kinds])
    now = state.bodies._replace(kind=kind, pos=jnp.array(places, jnp.float32).T)
    facts = env.facts.of(now)
    full = {"health": jnp.asarray(facts.column("health")), "shield": jnp.broadcast_to(facts.column("shield"), kind.shape)}
    given = {name: jnp.array(value, jnp.float32) for name, value in bodies.items()}
    return state._replace(bodies=now._replace(**(full | given)))


PLACES = [(10, 10), (12, 10), (2, 2), (2, 4), (2, 30), (15.5, 10), (16, 18), (30, 2), (30, 4), (30, 6)]
KINDS = ["colossus", "stalker", "zealot", "zealot", "zealot"] * 2


def test_observation_slot_by_slot():
    env = make("protoss_5_vs_5")
    obs = np.array(env.observe(staged(env, KINDS, PLACES)).obs)
    colossus, stalker = obs[0], obs[1]
    enemies = colossus[4:49].reshape(5, 9)
    # Attackable (7 for a colossus), distance by the colossus's sight of 10, health, shield; stalker, zealot, colossus.
    np.testing.assert_allclose(enemies[0], [1, 0.55, 0.55, 0, 1, 1, 0, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(enemies[1], 0)  # 10 away, which is not less than 10
    np.testing.assert_allclose(stalker[4:13], [1, 0.35, 0.35, 0, 1, 1, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(colossus[49:58], [1, 0.2, 0.2, 0, 1, 1, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(colossus[-7:], [1, 1, 10 / 32, 10 / 32, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(stalker[-7:], [1, 1, 12 / 32, 10 / 32, 1, 0, 0], atol=1e-6)


def test_orders_reach_as_far_as_the_weapon():
    env = make("protoss_5_vs_5")
    places = [(10, 10), (10, 12), (10, 14), (2, 4), (2, 30), (16.5, 10), (12, 14), (15.9, 12), (30, 4), (30, 6)]
    attack = np.array(env.observe(staged(env, KINDS, places)).avail_actions)[:, 6:]
    np.testing.assert_array_equal(attack[0], [True, True, True, False, False])  # 6.5, 4.5, 6.2 away
    np.testing.assert_array_equal(attack[1], [False, True, True, False, False])  # 6.8, 2.8, 5.9
    np.testing.assert_array_equal(attack[2], [False, True, False, False, False])  # a zealot: 2
    far = make("protoss_5_vs_5", SkirmishSettings(unit_ranges=False))
    assert np.array(far.observe(staged(far, KINDS, places)).avail_actions)[2, 6:8].tolist() == [False, True]


def test_enemies_that_recover_pay_nothing():
    env = make("protoss_5_vs_5")
    hurt = np.array([150, 80, 50, 50, 50, 10, 10, 10, 10, 10])
    state = staged(env, KINDS, [(2, y) for y in range(2, 12, 2)] + [(30, y) for y in range(20, 30, 2)], shield=hurt)
    _, outcome = env.step(state, jnp.ones(5, jnp.int32), jax.random.key(0))
    assert float(outcome.reward) == 0
    also = make("protoss_5_vs_5", SkirmishSettings(reward_recovery=True))
    _, outcome = also.step(state, jnp.ones(5, jnp.int32), jax.random.key(0))
    # Five enemies recover a point each, of 200 + 5 kills + health and shields.
    assert float(outcome.reward) == pytest.approx(5 * 20 / (250 + 350 + 160 + 3 * 150), abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": (1, 1)}, "weights has 2 numbers; it must have one for each of marine, marauder, medivac"),
        ({"weights": (0, 0, 1)}, "no team may consist of medivac alone"),
        ({"weights": (1, -1, 0)}, "0 or above"),
        ({"weights": (1, float("nan"), 0)}, "finite"),
        ({"weights": "many"}, "must be a list of numbers"),
        ({"positions": "random"}, "must be one of surrounded, reflected, mixed"),
        ({"sight_range": 0}, "sight_range is 0"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(BadSetting, match=message) as error:
        registry.make("smac/terran_5_vs_5", **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": ("marine", "marin"), "weights": (1, 1)}, "unknown unit 'marin'; did you mean 'marine'"),
        ({"kinds": ("marine", "marine"), "weights": (1, 1)}, "each once"),
        ({"n_allies": 0}, "1 to 64"),
        ({"n_enemies": 65}, "1 to 64"),
        ({"limit": 0}, "limit is 0"),
        ({"weights": (1.0, 2.0)}, "weights has 2 numbers"),
    ],
)
def test_impossible_skirmishes_are_refused_in_one_line(change, message):
    with pytest.raises(LimbeckError, match=message) as error:
        replace(SKIRMISHES["terran_5_vs_5"], **change)
    assert "\n" not in str(error.value)


def test_names_and_settings_reach_it_through_the_register():
    assert {f"smac/{name}" for name in SKIRMISHES} <= set(registry.names())
    env = registry.make("smac/zerg_5_vs_5", weights=[1, 0, 0], positions="reflected", balance="ladder")
    assert env.settings.weights == (1, 0, 0) and isinstance(env.facts, DrawnFacts)
    with pytest.raises(LimbeckError, match="unknown setting of smac/3m 'weights'"):
        registry.make("smac/3m", weights=[1])
    with pytest.raises(BadSetting, match="takes SkirmishSettings"):
        make("zerg_5_vs_5", SmacSettings())


def test_a_skirmish_of_ones_own():
    add_map("mixed_3_vs_4", Skirmish(("stalker", "zergling"), (1, 2), 3, 4, limit=50))
    try:
        env = registry.make("smac/mixed_3_vs_4")
        assert (env.spec.n_agents, env.spec.n_actions, env.spec.episode_limit) == (3, 10, 50)
        assert np.isfinite(np.array(jax.jit(lambda key: env.observe(env.reset(key)).obs)(jax.random.key(0)))).all()
        with pytest.raises(BadSetting, match="already"):
            add_map("mixed_3_vs_4", Skirmish(("stalker",), (1,), 3, 4))
    finally:
        del SKIRMISHES["mixed_3_vs_4"]


def test_films_show_what_was_drawn(tmp_path):
    env, films = make("terran_5_vs_5"), {}
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    for seed in (0, 1):
        state = reset(jax.random.key(seed))
        after, _ = step(state, jnp.ones(5, jnp.int32), jax.random.key(9))
        films[str(seed)] = film = Film(env, [env.snapshot(state), env.snapshot(after)])
        names = [env.facts.pool[index].name for index in state.bodies.kind]
        assert list(film.kinds) == names and film.data()["sight"] == [
            {"marine": 9, "marauder": 10, "medivac": 11}[name] for name in names[:5]
        ]
        np.testing.assert_array_equal(film.moments.max_health[0], state.bodies.health)
    assert films["0"].kinds != films["1"].kinds
    assert Sheet(films, width=200, sight=True).draw(1).size[0] > 400
    assert "medivac" in render_html(films, tmp_path / "battle.html").read_text()
    assert map_svg(env).count("<polygon") == 10
